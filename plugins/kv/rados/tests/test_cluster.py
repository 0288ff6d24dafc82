"""Clusters that go away or are full, users without rights, objects of others."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from kvfs.capability import Durability
from kvfs.errors import (
    Closed,
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Stale,
    Unavailable,
    Unsupported,
)
from kvfs.kv import Batch
from kvfs.testing.servers.base import free_port
from kvfs.testing.servers.ceph import Ceph
from kvfs_kv_rados import _librados
from kvfs_kv_rados._driver import RadosDriver, remove_store

Opener = Callable[..., RadosDriver]


def _put(driver: RadosDriver, batch: Batch) -> None:
    driver.commit(batch, Durability.POWER)


def _rados(cluster: Ceph, namespace: str, *command: str) -> None:
    """A side door."""
    place = ["rados", "-c", str(cluster.conf), "-p", "kvfs", "-N", namespace]
    subprocess.run([*place, *command], check=True, capture_output=True)


def test_every_commit_is_applied_once_while_the_cluster_crashes(
    opener: Opener, cluster: Ceph
) -> None:
    """Guarded increments by one writer: none is lost, and none meets its own traces."""
    driver = opener(timeout=120)
    _put(driver, Batch().put(b"n", b"0"))
    failed: list[Exception] = []
    progress, go_on = Event(), True
    count = 0

    def write() -> None:
        nonlocal count
        try:
            while go_on:
                batch = Batch().guard(b"n", b"%d" % count).put(b"n", b"%d" % (count + 1))
                _put(driver, batch.put(b"record-%06d" % count, b"x" * 100))
                count += 1
                progress.set()
        except Exception as error:
            failed.append(error)

    writer = Thread(target=write)
    writer.start()
    assert progress.wait(60), failed
    cluster.kill()
    cluster.start()
    progress.clear()
    assert progress.wait(60), failed
    go_on = False
    writer.join()
    assert not failed
    assert driver.get(b"n") == b"%d" % count
    expected = [b"record-%06d" % number for number in range(count)]
    assert [key for key, _ in driver.scan(b"record", b"s")] == expected


def test_cluster_that_is_away(opener: Opener, cluster: Ceph) -> None:
    driver = opener(timeout=1)
    _put(driver, Batch().put(b"a", b"1"))
    osd = cluster.daemons[1]
    osd.kill()
    try:
        with pytest.raises(Unavailable, match="in time"):
            driver.get(b"a")
        with pytest.raises(Unavailable) as raised:
            _put(driver, Batch().delete(b"a").put(b"b", b"2"))
        assert not raised.value.unapplied
    finally:
        cluster.kill()
        cluster.start()
    patient = opener()
    assert dict(patient.scan(b"", None)) in ({b"a": b"1"}, {b"b": b"2"})


@pytest.fixture
def fill(cluster: Ceph) -> Iterator[Callable[[], None]]:
    """Makes the cluster full, by a mark far below what it can take."""

    def is_full() -> bool:
        pools = cluster.command("osd", "pool", "ls", "detail")
        return any("full" in pool["flags_names"].split(",") for pool in pools)

    def mark(ratio: str) -> None:
        for name in ("full", "backfillfull", "nearfull"):
            cluster.command("osd", f"set-{name}-ratio", ratio)

    def fill() -> None:
        mark("0.000001")
        cluster.daemons[1].wait_until(is_full)

    yield fill
    mark("0.95")
    cluster.daemons[1].wait_until(lambda: not is_full())


def test_full_cluster(opener: Opener, fill: Callable[[], None]) -> None:
    """What is to be added is refused whole; reading and deleting work."""
    driver = opener(timeout=20)
    _put(driver, Batch(puts={b"%d" % number: b"x" for number in range(9)}))
    fill()
    driver._room._asked_s = float("-inf")  # as if some seconds had gone by
    with pytest.raises(Exhausted, match="full"):
        _put(driver, Batch().put(b"new", b"1").delete(b"1"))
    with pytest.raises(Exhausted):
        opener(store="new")
    assert len([*driver.scan(b"", None)]) == 9
    _put(driver, Batch().guard(b"1", b"x").delete(b"1").delete_range(b"2", b"9"))
    assert [key for key, _ in driver.scan(b"", None)] == [b"0"]


def test_no_cluster(opener: Opener, cluster: Ceph, tmp_path: Path) -> None:
    other = tmp_path / "ceph.conf"
    text = cluster.conf.read_text()
    for line in text.splitlines():
        if line.startswith("mon host"):
            text = text.replace(line, f"mon host = v2:127.0.0.1:{free_port()}")
    other.write_text(text)
    with pytest.raises(Unavailable, match="in time"):
        opener(conf=str(other), timeout=1)
    with pytest.raises(NotFound, match="nowhere"):
        opener(conf="/nowhere/ceph.conf")
    with pytest.raises(NotFound, match="pool elsewhere"):
        opener(pool="elsewhere")


def test_users(opener: Opener, cluster: Ceph, namespace: str, tmp_path: Path) -> None:
    rights = f"allow rw pool=kvfs namespace={namespace}"
    cluster.user("client.writer", mon="allow r", osd=rights)
    cluster.user("client.reader", mon="allow r", osd="allow r")
    keyring = str(cluster.home / "keyring")
    driver = opener(user="client.writer", keyring=keyring)
    _put(driver, Batch().put(b"a", b"1"))
    reader = opener(user="client.reader", keyring=keyring)
    assert reader.get(b"a") == b"1"
    with pytest.raises(PermissionDenied):
        _put(reader, Batch().put(b"a", b"2"))
    with pytest.raises(PermissionDenied):
        opener(user="client.reader", keyring=keyring, store="new")
    with pytest.raises(PermissionDenied):
        opener(user="client.writer", keyring=keyring, namespace="other")
    wrong = "AQAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAA=="
    with pytest.raises(KVFSError) as raised:
        opener(user="client.writer", key=wrong, timeout=5)
    assert isinstance(raised.value, PermissionDenied | Invalid)
    assert wrong not in str(raised.value)
    with pytest.raises((PermissionDenied, NotFound)):
        opener(user="client.nobody", keyring=keyring, timeout=5)


def test_erasure_coded_pool(opener: Opener, cluster: Ceph) -> None:
    cluster.command("osd", "pool", "create", "coded", "1", "1", "erasure")
    with pytest.raises(Unsupported, match="erasure-coded"):
        opener(pool="coded")


def test_object_of_somebody_else(opener: Opener, cluster: Ceph, namespace: str) -> None:
    _rados(cluster, namespace, "put", "main", "/etc/hostname")
    with pytest.raises(Invalid, match="not of KVFS"):
        opener()


def test_store_of_a_later_version(opener: Opener, cluster: Ceph, namespace: str) -> None:
    opener().close()
    _rados(cluster, namespace, "setxattr", "main", "kvfs", "2 ff")
    with pytest.raises(Invalid, match="update the driver"):
        opener()


@pytest.mark.parametrize("made_anew", [False, True])
def test_removed_under_a_user(opener: Opener, made_anew: bool) -> None:
    """Nothing is written to what came in its place."""
    driver = opener()
    _put(driver, Batch().put(b"a", b"1"))
    remove_store(driver._settings, store="main")
    other = opener() if made_anew else None
    with pytest.raises(Stale, match="open it anew"):
        _put(driver, Batch().put(b"a", b"2"))
    with pytest.raises(Stale, match="open it anew"):
        _put(driver, Batch().guard(b"a", b"1").delete(b"a"))
    if other is None:
        with pytest.raises(Stale, match="open it anew"):
            driver.get(b"a")
    else:
        assert other.get(b"a") is None


def test_without_librados(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_librados, "_LIBRARY", "librados.so.none")
    _librados.library.cache_clear()
    try:
        with pytest.raises(Unsupported, match="apt-get install librados2"):
            opener()
    finally:
        _librados.library.cache_clear()


@pytest.mark.parametrize(
    ("name", "value"), [("pool", ""), ("namespace", ""), ("user", "admin"), ("timeout", 0)]
)
def test_wrong_settings(opener: Opener, name: str, value: object) -> None:
    with pytest.raises(Invalid):
        opener(**{name: value})


def test_pages_adapt_to_the_size_of_values(opener: Opener) -> None:
    driver = opener()
    sizes = [0, 300_000, 10, 1_000_000, 20] * 40
    for at in range(0, len(sizes), 10):
        puts = {b"\0%03d" % n: bytes(sizes[n]) for n in range(at, at + 10)}
        _put(driver, Batch(puts={**puts}))
    assert [len(value) for _, value in driver.scan(b"", None)] == sizes
    assert [len(value) for _, value in driver.scan(b"\0" + b"001", None, limit=3)] == sizes[1:4]


def test_close_waits_for_the_calls_of_other_threads(opener: Opener) -> None:
    """librados would crash the process if its handles went away under a call."""
    driver = opener()
    _put(driver, Batch(puts={b"%04d" % n: bytes(100) for n in range(1000)}))
    ready = Event()
    ended: list[type[Exception]] = []

    def read() -> None:
        try:
            while True:
                assert len([*driver.scan(b"", None)]) == 1000
                ready.set()
        except Closed as error:
            ended.append(type(error))

    threads = [Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert ready.wait(60)
    driver.close()
    for thread in threads:
        thread.join(60)
    assert ended == [Closed] * 3
