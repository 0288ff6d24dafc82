"""What is special about Redis: pages of scans, scripts, and watches over broken connections."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import pytest
import redis

from kvfs.capability import Durability
from kvfs.errors import Stale, Unavailable
from kvfs.kv import Batch
from kvfs.testing.servers.redis import Redis
from kvfs_kv_redis._driver import RedisDriver

Opener = Callable[..., RedisDriver]
Start = Callable[..., Redis]


def _put(driver: RedisDriver, batch: Batch) -> None:
    driver.commit(batch, Durability.POWER)


def _asked(server: Redis, *command: str) -> object:
    with redis.Redis(port=server.port) as client:
        return client.execute_command(*command)


@pytest.mark.parametrize("reverse", [False, True])
def test_pages_end_at_bytes_too(opener: Opener, server: Redis, reverse: bool) -> None:
    """Large values make pages of few records; none is missed at their ends."""
    driver = opener(server)
    sizes = [0, 1_500_000, 10, 600_000, 600_000, 0, 3_000_000] * 6
    _put(driver, Batch(puts={b"%03d" % n: bytes(size) for n, size in enumerate(sizes[:21])}))
    _put(driver, Batch(puts={b"%03d" % (21 + n): bytes(size) for n, size in enumerate(sizes[21:])}))
    found = [len(value) for _, value in driver.scan(b"", None, reverse=reverse)]
    assert found == (sizes[::-1] if reverse else sizes)
    limited = [len(value) for _, value in driver.scan(b"", None, limit=39)]
    assert limited == sizes[:39]


def test_scan_under_writes_is_ordered_and_misses_nothing_that_stays(
    opener: Opener, server: Redis
) -> None:
    driver = opener(server)
    kept = {b"%05d" % number: b"kept" for number in range(0, 4000, 2)}
    _put(driver, Batch(puts={**kept}))
    found = []
    for number, record in enumerate(driver.scan(b"", None)):
        found.append(record)
        if number % 100 == 0:
            _put(driver, Batch().put(b"%05d" % (number * 2 + 1), b"new").delete(b"%05d" % 1))
    keys = [key for key, _ in found]
    assert keys == sorted(set(keys))
    assert kept.items() <= dict(found).items()


def test_page_is_of_one_instant(opener: Opener, server: Redis) -> None:
    driver = opener(server)
    _put(driver, Batch(puts={b"%d" % n: b"old" for n in range(10)}))
    scan = driver.scan(b"", None)
    first = next(scan)
    _put(driver, Batch(puts={b"%d" % n: b"new" for n in range(10)}))
    assert {first[1]} | {value for _, value in scan} == {b"old"}


def test_scripts_that_the_server_forgot(opener: Opener, server: Redis) -> None:
    driver = opener(server)
    _put(driver, Batch().put(b"a", b"1"))
    _asked(server, "SCRIPT", "FLUSH")
    _put(driver, Batch().put(b"b", b"2"))
    _asked(server, "SCRIPT", "FLUSH")
    assert [*driver.scan(b"", None)] == [(b"a", b"1"), (b"b", b"2")]


def test_batch_of_every_kind_larger_than_a_portion(opener: Opener, server: Redis) -> None:
    driver = opener(server)
    _put(driver, Batch(puts={b"%05d" % n: b"old" for n in range(12_000)}))
    batch = Batch(guards={b"%05d" % n: b"old" for n in range(2500)})
    batch.delete_range(b"00000", b"05001")
    batch.deletes.update(b"%05d" % n for n in range(5001, 8502))
    batch.puts.update((b"%05d" % n, b"new") for n in range(11_000, 14_001))
    with driver.watch(b"", None) as watch:
        _put(driver, batch)
        _put(driver, Batch().put(b"end", b""))
        told: set[bytes] = set()
        while b"end" not in told:
            more = watch.wait(60)
            assert more
            told.update(more)
    assert told == {b"%05d" % n for n in (*range(8502), *range(11_000, 14_001))} | {b"end"}
    left = {b"%05d" % n: b"old" for n in range(8502, 11_000)}
    left |= {b"%05d" % n: b"new" for n in range(11_000, 14_001)} | {b"end": b""}
    assert dict(driver.scan(b"", None)) == left


@pytest.mark.parametrize("how", ["killed", "restarted"])
def test_watch_over_a_broken_connection(opener: Opener, start: Start, how: str) -> None:
    """The change that was not heard of is announced as missed; later ones are told again."""
    server = start()
    driver = opener(server)
    with driver.watch(b"", None) as watch:
        if how == "killed":
            _asked(server, "CLIENT", "KILL", "TYPE", "pubsub")
        else:
            server.kill()
            server.start()
        _put(driver, Batch().put(b"missed", b"1"))
        with pytest.raises(Stale):
            watch.wait(60)
        _put(driver, Batch().put(b"heard", b"1"))
        assert watch.wait(60) == [b"heard"]


def test_watch_while_the_server_is_away(opener: Opener, start: Start) -> None:
    server = start()
    driver = opener(server, timeout=0.2)
    watch = driver.watch(b"", None)
    server.kill()
    with pytest.raises(Unavailable):
        watch.wait(60)
    with pytest.raises(Unavailable):
        watch.wait(60)
    server.start()
    with pytest.raises(Stale):
        watch.wait(60)
    _put(driver, Batch().put(b"heard", b"1"))
    assert watch.wait(60) == [b"heard"]


def test_watch_of_a_silent_server_goes_on(opener: Opener, server: Redis) -> None:
    """Probes are sent and answered; nothing is taken for a change, and nothing for a break."""
    driver = opener(server, timeout=0.2)
    with driver.watch(b"", None) as watch:
        assert watch.wait(0.7) == []
        _put(driver, Batch().put(b"a", b"1"))
        assert watch.wait(60) == [b"a"]


def test_nothing_is_left_of_abandoned_scans(opener: Opener, server: Redis) -> None:
    driver = opener(server)
    _put(driver, Batch(puts={b"%d" % n: b"x" for n in range(500)}))
    scans = [driver.scan(b"", None) for _ in range(50)]
    for scan in scans:
        assert len([*islice(scan, 40)]) == 40
    assert len(driver._client._pool._available_connections) == 1
