"""Commits whose answer gets lost: each is applied once, or it is said that it is not known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from kvfs.capability import Durability
from kvfs.errors import Conflict, Unavailable
from kvfs.kv import Batch, KVStore
from kvfs.testing.child import increment
from kvfs.testing.servers.etcd import Etcd
from kvfs_kv_etcd._driver import EtcdDriver

from .conftest import Opener
from .proxy import Break, Proxy


def _step(driver: EtcdDriver, number: int) -> None:
    """Fails if it is applied twice, as its guard does not hold the second time."""
    before = b"%d" % (number - 1) if number else None
    batch = Batch().guard(b"key", before).put(b"key", b"%d" % number).put(b"%d" % number, b"")
    driver.commit(batch, Durability.POWER)


@pytest.mark.parametrize("when", Break)
def test_lost_commits_are_applied_once(
    server: Etcd, proxy: Proxy, opener: Opener, when: Break
) -> None:
    driver = opener(server.settings(endpoints=[proxy.endpoint]))
    for number in range(20):
        if number % 2:
            proxy.break_once(when)
        _step(driver, number)
    assert proxy.broken == 10
    assert len([*driver.scan(b"", None)]) == 21
    with pytest.raises(Conflict):
        _step(driver, 5)


def test_threads_lose_answers(server: Etcd, proxy: Proxy, opener: Opener) -> None:
    store = KVStore(opener(server.settings(endpoints=[proxy.endpoint])), name="etcd")

    def count() -> None:
        for number in range(10):
            if number % 3 == 0:
                proxy.break_once(Break.BEFORE_THE_ANSWER)
            increment(store, b"counter", 1)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(count) for _ in range(4)]:
            future.result()
    assert store.get(b"counter") == b"40"
    assert proxy.broken > 3


def test_outcome_that_cannot_be_found_out(server: Etcd, proxy: Proxy, opener: Opener) -> None:
    table = server.settings(timeout="400 ms")
    driver = opener({**table, "endpoints": [proxy.endpoint]})
    _step(driver, 0)
    proxy.break_and_die()
    with pytest.raises(Unavailable, match="not known whether") as lost:
        _step(driver, 1)
    assert not lost.value.unapplied
    with pytest.raises(Unavailable) as refused:
        _step(driver, 2)
    assert refused.value.unapplied
    with pytest.raises(Unavailable):
        driver.get(b"key")
    direct = opener(table)
    assert direct.get(b"key") == b"1"
    _step(direct, 2)


def test_marks_go_with_their_driver(server: Etcd, opener: Opener) -> None:
    table = server.settings()
    driver = opener(table)
    with ThreadPoolExecutor(4) as pool:
        for future in [
            pool.submit(partial(driver.commit, Batch().put(b"%d" % n, b""), Durability.POWER))
            for n in range(20)
        ]:
            future.result()
    prefix = f"kvfs/{table['namespace']}/main/m"
    assert 1 <= server.count(prefix) <= 4
    driver.close()
    assert server.count(prefix) == 0


def test_mark_that_somebody_removes(server: Etcd, opener: Opener) -> None:
    table = server.settings()
    driver = opener(table)
    _step(driver, 0)
    server.etcdctl("del", "--prefix", f"kvfs/{table['namespace']}/main/m")
    _step(driver, 1)
    assert driver.get(b"key") == b"1"
