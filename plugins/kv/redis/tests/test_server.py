"""Servers that go away, that are full, that keep less than asked, or that are none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from threading import Event, Thread

import pytest
import redis

from kvfs.capability import Durability
from kvfs.errors import (
    Exhausted,
    Invalid,
    KVFSError,
    PermissionDenied,
    Stale,
    Unavailable,
    Unsupported,
)
from kvfs.kv import Batch
from kvfs.testing.servers.base import free_port
from kvfs.testing.servers.redis import Redis
from kvfs_kv_redis._driver import RedisDriver, remove_store

Opener = Callable[..., RedisDriver]
Start = Callable[..., Redis]


def _asked(server: Redis, *command: str) -> object:
    """A side door: the answer to a command."""
    with redis.Redis(port=server.port) as client:
        return client.execute_command(*command)


def _power(driver: RedisDriver, batch: Batch) -> None:
    driver.commit(batch, Durability.POWER)


def _write_on(
    driver: RedisDriver,
    size: int,
    acknowledged: list[bytes] | None = None,
    durability: Durability = Durability.POWER,
) -> None:
    """Write values of that size until one is refused."""
    for number in count():
        driver.commit(Batch().put(b"%04d" % number, bytes(size)), durability)
        if acknowledged is not None:
            acknowledged.append(b"%04d" % number)


def test_killed_server_loses_no_acknowledged_commit(opener: Opener, start: Start) -> None:
    """Killed under a writer ten times: each commit is there whole, or was not acknowledged."""
    server = start()
    driver = opener(server, Durability.POWER)
    acknowledged: list[int] = []
    doubtful: set[int] = set()
    numbers = count()
    go_on = True

    def write() -> None:
        while go_on:
            number = next(numbers)
            batch = Batch(puts={b"%06d-%d" % (number, part): b"x" * 100 for part in range(3)})
            try:
                _power(driver, batch)
            except Unavailable as error:
                if not error.unapplied:
                    doubtful.add(number)
            else:
                acknowledged.append(number)
                progress.set()

    progress = Event()
    writer = Thread(target=write)
    writer.start()
    for _ in range(10):
        progress.clear()
        assert progress.wait(60)
        server.kill()
        server.start()
    go_on = False
    writer.join()
    parts: dict[int, int] = {}
    for key, _ in driver.scan(b"", None):
        parts[int(key[:6])] = parts.get(int(key[:6]), 0) + 1
    assert set(parts.values()) == {3}
    assert set(acknowledged) <= set(parts) <= set(acknowledged) | doubtful
    assert len(acknowledged) >= 10


def test_reads_wait_for_a_server_that_comes_back(opener: Opener, start: Start) -> None:
    server = start()
    driver = opener(server)
    _power(driver, Batch(puts={b"%04d" % number: b"x" for number in range(200)}))
    scan = driver.scan(b"", None)
    next(scan)
    server.kill()
    reader: list[bytes | None] = []
    thread = Thread(target=lambda: reader.append(driver.get(b"0000")))
    thread.start()
    server.start()
    thread.join(60)
    assert reader == [b"x"]
    assert len([*scan]) == 199


def test_commit_to_a_server_that_is_away_was_not_applied(opener: Opener, start: Start) -> None:
    server = start()
    driver = opener(server, timeout=0.2)
    server.kill()
    with pytest.raises(Unavailable) as raised:
        _power(driver, Batch().put(b"a", b"1"))
    assert raised.value.unapplied
    server.start()
    assert driver.get(b"a") is None
    _power(driver, Batch().put(b"a", b"2"))
    assert driver.get(b"a") == b"2"


def test_commit_whose_answer_is_lost_is_not_repeated(opener: Opener, start: Start) -> None:
    """The server is stopped, so that the request arrives and the answer does not."""
    server = start()
    driver = opener(server, timeout=0.5)
    _power(driver, Batch().put(b"n", b"0"))
    subprocess.run(["kill", "-STOP", str(server.daemons[0].pid)], check=True)
    with pytest.raises(Unavailable) as raised:
        _power(driver, Batch().guard(b"n", b"0").put(b"n", b"1"))
    assert not raised.value.unapplied
    subprocess.run(["kill", "-CONT", str(server.daemons[0].pid)], check=True)
    assert driver.get(b"n") in (b"0", b"1")


def test_store_lost_by_a_restart_is_not_taken_for_empty(opener: Opener, start: Start) -> None:
    server = start("--appendonly", "no")
    driver = opener(server)
    assert driver.capability.durability is Durability.MEMORY
    driver.commit(Batch().put(b"a", b"1"), Durability.MEMORY)
    server.kill()
    server.start()
    with pytest.raises(Stale, match="open it anew"):
        driver.get(b"a")
    with pytest.raises(Stale, match="open it anew"):
        driver.commit(Batch().put(b"a", b"2"), Durability.MEMORY)
    assert opener(server).get(b"a") is None


def test_removed_under_a_writer(opener: Opener, server: Redis) -> None:
    driver = opener(server)
    remove_store(driver._settings, store="main")
    with pytest.raises(Stale, match="removed"):
        _power(driver, Batch().put(b"a", b"1"))
    assert _asked(server, "KEYS", f"*{driver._settings.namespace}/*") == []


@pytest.mark.parametrize("option", ["no", "everysec"])
def test_log_that_is_not_synced_promises_nothing(opener: Opener, start: Start, option: str) -> None:
    server = start("--appendfsync", option)
    with pytest.raises(Unsupported, match="set appendonly yes, appendfsync always"):
        opener(server, Durability.POWER)
    driver = opener(server)
    assert driver.capability.durability is Durability.MEMORY
    with pytest.raises(Unsupported):
        _power(driver, Batch().put(b"a", b"1"))


def test_log_that_is_not_synced_while_it_is_rewritten(opener: Opener, start: Start) -> None:
    server = start("--no-appendfsync-on-rewrite", "yes")
    with pytest.raises(Unsupported):
        opener(server, Durability.POWER)


def test_server_that_comes_back_with_less(opener: Opener, start: Start) -> None:
    server = start()
    driver = opener(server, Durability.POWER)
    _power(driver, Batch().put(b"a", b"1"))
    _asked(server, "CONFIG", "SET", "appendfsync", "everysec")
    _asked(server, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(Unsupported, match="survives memory"):
        _power(driver, Batch().put(b"a", b"2"))
    _asked(server, "CONFIG", "SET", "appendfsync", "always")
    assert driver.get(b"a") == b"1"


def test_server_that_forbids_to_ask(opener: Opener, start: Start) -> None:
    server = start("--rename-command", "CONFIG", "")
    assert opener(server).capability.durability is Durability.MEMORY
    stated = opener(server, Durability.POWER, durability="power")
    assert stated.capability.durability is Durability.POWER


def test_full_memory(opener: Opener, start: Start) -> None:
    """What does not fit is refused whole, deleting works, and then there is room again."""
    server = start("--maxmemory", "16mb")
    driver = opener(server)
    with pytest.raises(Exhausted, match="maxmemory"):
        _write_on(driver, 500_000)
    stored = [key for key, _ in driver.scan(b"", None)]
    assert len(stored) > 10
    assert (driver.stats().bytes_free or 0) < 2 << 20
    mixed = Batch().delete(b"absent").delete_range(b"x", b"y").put(b"a", bytes(1_000_000))
    for _ in range(3):
        with pytest.raises(Exhausted):
            _power(driver, mixed)
    assert [key for key, _ in driver.scan(b"", None)] == stored
    _power(driver, Batch().delete_range(b"0000", b"0008").delete(stored[8]))
    _power(driver, Batch().put(b"again", bytes(500_000)))
    assert [key for key, _ in driver.scan(b"", None)] == [*stored[9:], b"again"]


def test_full_disk(opener: Opener, small_ext4: Path) -> None:
    """The server ends rather than acknowledge what its log has no room for."""
    server = Redis(small_ext4)
    server.start()
    try:
        driver = opener(server, Durability.POWER, timeout=1)
        acknowledged: list[bytes] = []
        with pytest.raises(Unavailable):
            _write_on(driver, 4 << 20, acknowledged)
        assert len(acknowledged) >= 2
        (small_ext4 / "ballast").unlink()
        server.kill()
        server.start()
        assert [key for key, _ in driver.scan(b"", None)] == acknowledged
        _power(driver, Batch().put(b"again", b"1"))
    finally:
        server.stop()


@pytest.mark.parametrize("policy", ["no", "everysec"])
def test_full_disk_of_a_log_that_is_not_synced(
    opener: Opener, small_ext4: Path, policy: str
) -> None:
    """The server goes on, and refuses writes; what it acknowledged last is in memory alone."""
    server = Redis(small_ext4, options=("--appendfsync", policy))
    server.start()
    try:
        driver = opener(server, timeout=1)
        acknowledged: list[bytes] = []
        with pytest.raises(Exhausted, match="disk"):
            _write_on(driver, 4 << 20, acknowledged, Durability.MEMORY)
        assert [key for key, _ in driver.scan(b"", None)] == acknowledged
        server.kill()
        (small_ext4 / "ballast").unlink()
        server.start()
        kept = [key for key, _ in driver.scan(b"", None)]
        assert kept == acknowledged[: len(kept)]
        assert len(kept) < len(acknowledged)  # why this is no more than durability memory
    finally:
        server.stop()


def test_server_that_drops_records(opener: Opener, start: Start) -> None:
    with pytest.raises(Invalid, match="noeviction"):
        opener(start("--maxmemory-policy", "allkeys-lru"))


def test_cluster(opener: Opener, start: Start) -> None:
    with pytest.raises(Unsupported, match="cluster"):
        opener(start("--cluster-enabled", "yes"))


def test_replicas(opener: Opener, start: Start) -> None:
    primary = start("--repl-diskless-sync-delay", "0")
    replica = start("--replicaof", "127.0.0.1", str(primary.port))
    driver = opener(primary, replicas=1, timeout=30)
    _power(driver, Batch().put(b"a", b"1"))
    with redis.Redis(port=replica.port) as side:
        assert side.hget(driver._names.values, "a") == b"1"
    with pytest.raises(Unavailable, match="replica"):
        opener(replica)
    driver.close()
    replica.kill()
    impatient = opener(primary, replicas=1, timeout=1)
    with pytest.raises(Unavailable, match="0 of 1 replicas") as raised:
        _power(impatient, Batch().put(b"a", b"2"))
    assert not raised.value.unapplied
    assert impatient.get(b"a") == b"2"


def test_no_server(opener: Opener, server: Redis) -> None:
    for url in (f"redis://127.0.0.1:{free_port()}", "unix:///nowhere/redis.sock"):
        with pytest.raises(Unavailable, match="cannot be reached"):
            opener(server, url=url)


def test_server_without_tls(opener: Opener, server: Redis) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        opener(server, url=f"rediss://127.0.0.1:{server.port}", timeout=0.3)


def test_database_that_does_not_exist(opener: Opener, server: Redis) -> None:
    with pytest.raises(Invalid, match="DB index"):
        opener(server, url=f"redis://127.0.0.1:{server.port}/99")


def test_credentials(opener: Opener, start: Start) -> None:
    rules = "on >correct ~kvfs:* &kvfs:* +@all -@dangerous +info +config|get"
    server = start("--user", "kvfs", *rules.split(), "--user", "default", "off")
    for wrong in ({}, {"username": "kvfs", "password": "mistaken"}):
        with pytest.raises(PermissionDenied) as raised:
            opener(server, **wrong)
        assert "mistaken" not in str(raised.value)
    driver = opener(server, Durability.POWER, username="kvfs", password="correct")
    with driver.watch(b"", None) as watch:
        _power(driver, Batch().put(b"a", b"1"))
        assert watch.wait(60) == [b"a"]


def test_user_without_rights(opener: Opener, start: Start) -> None:
    server = start("--user", "default", "on", "nopass", "~other:*", "+@all")
    with pytest.raises(PermissionDenied, match="lacks a right"):
        opener(server)


@pytest.mark.parametrize("key", ["values", "about"])
def test_keys_of_somebody_else(opener: Opener, server: Redis, namespace: str, key: str) -> None:
    _asked(server, "SET", f"kvfs:{{{namespace}/main}}:{key}", "theirs")
    with pytest.raises(Invalid, match="not of KVFS"):
        opener(server)
    assert _asked(server, "GET", f"kvfs:{{{namespace}/main}}:{key}") == b"theirs"


def test_store_of_a_later_version(opener: Opener, server: Redis) -> None:
    driver = opener(server)
    _asked(server, "HSET", driver._names.about, "format", "2")
    with pytest.raises(Invalid, match="update the driver"):
        opener(server)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("url", "http://localhost"),
        ("url", "redis://user:word@localhost"),
        ("url", "redis://localhost?db=3"),
        ("namespace", "a}b"),
        ("namespace", ""),
        ("timeout", 0),
        ("replicas", -1),
    ],
)
def test_wrong_settings(opener: Opener, server: Redis, name: str, value: object) -> None:
    with pytest.raises(KVFSError) as raised:
        opener(server, **{name: value})
    assert "word" not in str(raised.value).replace("password", "")


def test_tls(opener: Opener, start: Start, tmp_path: Path) -> None:
    """With a certificate of our own authority, for both sides; and refused without."""
    for name in ("ours", "other"):
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{tmp_path}/{name}.key"]
        subprocess.run(
            [*command, "-out", f"{tmp_path}/{name}.pem"], check=True, capture_output=True
        )
    certificate, key = f"{tmp_path}/ours.pem", f"{tmp_path}/ours.key"
    port = free_port()
    files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file"]
    server = start("--tls-port", str(port), *files, certificate)
    url = f"rediss://127.0.0.1:{port}/0"
    driver = opener(server, url=url, ca=certificate, certificate=certificate, key=key)
    _power(driver, Batch().put(b"a", bytes(1_000_000)))
    assert len(driver.get(b"a") or b"") == 1_000_000
    with driver.watch(b"", None) as watch:
        _power(driver, Batch().put(b"b", b"1"))
        assert watch.wait(60) == [b"b"]
    for wrong in ({"ca": f"{tmp_path}/other.pem"}, {}):
        with pytest.raises(Invalid, match="TLS"):
            opener(server, url=url, certificate=certificate, key=key, **wrong)
