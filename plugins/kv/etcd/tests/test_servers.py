"""What servers and the people who run them do: die, restart, fill up, compact, lock out."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.errors import (
    Closed,
    Corrupt,
    Exhausted,
    Invalid,
    PermissionDenied,
    Stale,
    Unavailable,
)
from kvfs.kv import Batch
from kvfs.registry import find
from kvfs.testing import KVHarness
from kvfs.testing.histories import record_processes
from kvfs.testing.linearizability import Outcome
from kvfs.testing.servers.base import free_port
from kvfs.testing.servers.etcd import Etcd
from kvfs_kv_etcd import DRIVER, EtcdSettings, _reading, _watch
from kvfs_kv_etcd._driver import EtcdDriver, remove_store

from .conftest import Opener
from .proxy import Proxy

_POWER = Durability.POWER


def _put(driver: EtcdDriver, key: bytes, value: bytes) -> None:
    driver.commit(Batch().put(key, value), _POWER)


def test_is_found_by_name_without_grpc() -> None:
    assert find("kv", "etcd") is DRIVER
    code = (
        "import sys; sys.modules['grpc'] = None; from kvfs_kv_etcd import DRIVER\n"
        "from kvfs.errors import Unsupported\n"
        "try: DRIVER.load()\n"
        "except Unsupported as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "does not load" in done.stdout


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"endpoints": []}, "at least one endpoint"),
        ({"endpoints": ["localhost"]}, "not an endpoint"),
        ({"endpoints": ["localhost:http"]}, "not an endpoint"),
        ({"endpoints": ["https://a:1", "b:1"]}, "all endpoints"),
        ({"namespace": ""}, "name of a namespace"),
        ({"namespace": "a/b"}, "name of a namespace"),
        ({"namespace": "n" * 65}, "name of a namespace"),
        ({"namespace": "a\nb"}, "name of a namespace"),
        ({"tls_key": "/nowhere"}, "both of tls_certificate and tls_key"),
        ({"endpoints": ["https://a:1"], "tls_ca": "/nowhere"}, "cannot be read"),
        ({"timeout": "0 s"}, "timeout"),
        ({"max_txn_ops": 4}, "max_txn_ops"),
        ({"max_request_bytes": "100 KiB"}, "larger max_request_bytes"),
    ],
)
def test_settings_that_make_no_sense(opener: Opener, table: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid, match=words):
        opener({"namespace": "n", **table})


def test_nobody_there(opener: Opener) -> None:
    table = {"namespace": "n", "endpoints": [f"127.0.0.1:{free_port()}"], "timeout": "300 ms"}
    with pytest.raises(Unavailable, match="is etcd running there") as error:
        opener(table)
    assert error.value.unapplied


def test_port_where_nothing_answers(opener: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unavailable):
            opener({"namespace": "n", "endpoints": [endpoint], "timeout": "500 ms"})


def test_store_of_another_version(server: Etcd, opener: Opener) -> None:
    table = server.settings()
    opener(table).close()
    header = f"kvfs/{table['namespace']}/main/h"
    server.etcdctl("put", header, json.dumps({"engine": "kvfs-kv-etcd", "format": 2}))
    with pytest.raises(Invalid, match="of format 2"):
        opener(table)
    server.etcdctl("put", header, "hello")
    with pytest.raises(Corrupt, match="not the header"):
        opener(table)


def test_removed_store_leaves_nothing(
    server: Etcd, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = server.settings()
    settings = structure(table, EtcdSettings, where="[kv]")
    driver = opener(table)
    driver.commit(Batch(puts={b"%03d" % number: b"v" for number in range(100)}), _POWER)
    driver.close()
    monkeypatch.setattr("kvfs_kv_etcd._driver._REMOVED_AT_ONCE", 7)
    remove_store(settings, store="main")
    assert server.count(f"kvfs/{table['namespace']}") == 0


def test_killed_and_restarted_under_several_processes(tmp_path: Path, opener: Opener) -> None:
    """One order explains what all saw, and every commit under way became known."""
    with Etcd(tmp_path) as server:
        table = server.settings(timeout="60 s")
        driver = opener(table)

        def disturb() -> None:
            for _ in range(2):
                begun = len([*driver.scan(b"", None)])
                while len([*driver.scan(b"", None)]) < begun + 15:
                    pass
                server.kill()
                server.start()

        harness = KVHarness("etcd", table)
        try:
            recorded = record_processes(harness, count=120, meanwhile=disturb)
        finally:
            harness.close()
    assert recorded.count(Outcome.OK) > 40
    assert recorded.count(Outcome.UNKNOWN) == 0


def test_one_of_three_is_killed(tmp_path: Path, opener: Opener) -> None:
    """The leader, and whichever the driver is connected to: others go on."""
    with Etcd(tmp_path, members=3) as cluster:
        driver = opener(cluster.settings())
        watch = driver.watch(b"", None)
        _put(driver, b"before", b"1")
        view = driver.snapshot()
        for daemon in cluster.daemons:
            daemon.kill()
            for number in range(5):
                _put(driver, b"%d" % number, b"%d" % daemon.pid)
                assert driver.get(b"%d" % number) == b"%d" % daemon.pid
            assert dict(view.scan(b"", None)) == {b"before": b"1"}
            daemon.start()
            daemon.wait_until(cluster.is_ready)
        _put(driver, b"end", b"1")
        told: list[bytes] = []
        while b"end" not in told:
            told += watch.wait(60)
        assert told == [b"before", *[b"%d" % number for number in range(5)] * 3, b"end"]


def test_member_that_is_silent(server: Etcd, opener: Opener, tmp_path: Path) -> None:
    """A stopped process keeps its connections, and never answers."""
    with Etcd(tmp_path) as silent:
        table = server.settings(timeout="3 s")
        table["endpoints"] = silent.endpoints + server.endpoints
        silent.daemons[0].signal(signal.SIGSTOP)
        driver = opener(table)
        _put(driver, b"a", b"1")
        assert driver.get(b"a") == b"1"
        silent.kill()


def test_full_quota(tmp_path: Path, opener: Opener) -> None:
    """Every commit is there or was refused; what is full can be emptied, and used again."""
    with Etcd(tmp_path, flags=["--quota-backend-bytes=3000000"]) as server:
        table = server.settings()
        driver = opener(table)
        expected: dict[bytes, bytes] = {}

        def fill() -> None:
            for number in range(10_000):
                batch = Batch().put(b"%05d" % number, bytes(30_000)).put(b"last", b"%d" % number)
                driver.commit(batch, _POWER)
                expected.update({key: bytes(value) for key, value in batch.puts.items()})

        with pytest.raises(Exhausted, match=r"alarm disarm.*quota-backend-bytes"):
            fill()
        assert len(expected) > 20
        assert dict(driver.scan(b"", None)) == expected
        with pytest.raises(Exhausted):
            _put(driver, b"more", b"")
        with pytest.raises(Exhausted):
            opener(table, store="new")
        again = opener(table)
        batch = Batch().guard(b"last", expected[b"last"]).delete_range(b"0", b"9").delete(b"last")
        again.commit(batch, _POWER)
        assert dict(driver.scan(b"", None)) == {}
        driver.compact()
        server.etcdctl("defrag")
        server.etcdctl("alarm", "disarm")
        _put(driver, b"a", b"1")
        assert again.get(b"a") == b"1"


def test_compacted_instants_are_stale(server: Etcd, opener: Opener) -> None:
    table = server.settings()
    driver, other = opener(table), opener(table)
    driver.commit(Batch(puts={b"%03d" % number: b"v" for number in range(100)}), _POWER)
    view, scan = driver.snapshot(), driver.scan(b"", None)
    first = next(scan)
    _put(driver, b"a", b"1")
    driver.compact()  # holds back for what is read here
    assert [first, *scan] == [*view.scan(b"", None)]
    del scan
    other.compact()
    calls: list[Callable[[], object]] = [
        lambda: view.get(b"000"),
        lambda: view.get_many([b"000"]),
        lambda: list(view.scan(b"", None)),
    ]
    for call in calls:
        with pytest.raises(Stale, match="compacted"):
            call()
    view.refresh()
    assert view.get(b"a") == b"1"
    view.close()
    driver.compact()
    other.compact()


def test_watch_goes_on_after_a_restart(tmp_path: Path, opener: Opener) -> None:
    """What others wrote while it had no connection is told as well."""
    with Etcd(tmp_path) as server, Proxy(int(server.endpoints[0].rpartition(":")[2])) as proxy:
        table = server.settings()
        watching = opener({**table, "endpoints": [proxy.endpoint]})
        writing = opener(table)
        watch = watching.watch(b"k", b"l")
        _put(writing, b"k0", b"1")
        assert watch.wait(60) == [b"k0"]
        proxy.die()
        _put(writing, b"k1", b"1")
        server.kill()
        server.start()
        _put(writing, b"k2", b"1")
        _put(writing, b"other", b"1")
        proxy.live()
        told: list[bytes] = []
        while b"k2" not in told:
            told += watch.wait(60)
        assert told == [b"k1", b"k2"]


def test_watch_that_missed_changes_says_so_and_goes_on(
    server: Etcd, proxy: Proxy, opener: Opener
) -> None:
    table = server.settings()
    watching = opener({**table, "endpoints": [proxy.endpoint]})
    writing = opener(table)
    watch = watching.watch(b"", None)
    proxy.die()
    for number in range(3):
        _put(writing, b"missed", b"%d" % number)
    writing.compact()
    proxy.live()
    with pytest.raises(Stale, match="compacted"):
        watch.wait(60)
    _put(writing, b"after", b"1")
    assert watch.wait(60) == [b"after"]


def test_watch_of_a_server_that_is_gone(server: Etcd, proxy: Proxy, opener: Opener) -> None:
    table = server.settings(timeout="300 ms")
    watch = opener({**table, "endpoints": [proxy.endpoint]}).watch(b"", None)
    proxy.die()
    with pytest.raises(Unavailable):
        watch.wait(60)
    proxy.live()
    _put(opener(table), b"a", b"1")
    assert watch.wait(60) == [b"a"]


def test_watch_that_nobody_asks(
    server: Etcd, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_watch, "KEYS_MAX", 50)
    driver = opener(server.settings())
    with driver.watch(b"", None) as watch, driver.watch(b"end", None) as end:
        for number in range(60):
            _put(driver, b"%d" % number, b"1")
        _put(driver, b"end", b"1")
        assert end.wait(60) == [b"end"]
        with pytest.raises(Stale, match="not asked for"):
            watch.wait(60)


def test_pages_and_blocks(server: Etcd, opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of very different sizes: pages that are too large are asked for again, smaller."""
    monkeypatch.setattr(_reading, "PAGE_BYTES", 10_000)
    monkeypatch.setattr(_reading, "_KEYS_PER_BLOCK", 16)
    driver = opener(server.settings())
    expected = {b"%03d" % number: b"v" * (number % 7) for number in range(150)}
    expected |= {b"%03d" % number: bytes(900_000) for number in range(100, 112)}
    for key, value in expected.items():
        _put(driver, key, value)
    items = [*expected.items()]
    assert [*driver.scan(b"", None)] == items
    assert [*driver.scan(b"", None, reverse=True)] == items[::-1]
    assert [*driver.scan(b"005", b"140", reverse=True, limit=37)] == items[5:140][::-1][:37]
    keys = [*expected, b"none", *[*expected][100:112]]
    assert driver.get_many(keys) == [expected.get(key) for key in keys]


def test_users(tmp_path: Path, opener: Opener) -> None:
    with Etcd(tmp_path) as server:
        table = server.settings(timeout="5 s")
        with pytest.raises(Invalid, match="has no authentication"):
            opener({**table, "user": "root", "password": "secret"})
        _put(opener(table), b"a", b"1")
        prefix = f"kvfs/{table['namespace']}/"
        for command in (
            ("user", "add", "root:secret"),
            ("user", "grant-role", "root", "root"),
            ("user", "add", "reader:hidden"),
            ("role", "add", "own"),
            ("role", "grant-permission", "own", "readwrite", "--prefix=true", prefix),
            ("user", "add", "owner:pass"),
            ("user", "grant-role", "owner", "own"),
            ("auth", "enable"),
        ):
            server.etcdctl(*command)
        with pytest.raises(PermissionDenied, match="asks for user and password"):
            opener(table)
        with pytest.raises(PermissionDenied, match="check user") as error:
            opener({**table, "user": "owner", "password": "hunter2"})
        assert "hunter2" not in str(error.value)
        with pytest.raises(PermissionDenied, match="may not read and write"):
            opener({**table, "user": "reader", "password": "hidden"})
        driver = opener({**table, "user": "owner", "password": "pass"})
        assert driver.get(b"a") == b"1"
        watch = driver.watch(b"", None)
        server.kill()  # and with it all tokens are gone
        server.start()
        _put(driver, b"b", b"2")
        assert watch.wait(60) == [b"b"]
        driver.compact()
        assert driver.stats().keys == 2
        with pytest.raises(PermissionDenied):
            opener({**table, "user": "owner", "password": "pass", "namespace": "foreign"})


def test_tls(tmp_path: Path, opener: Opener) -> None:
    authority, other = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("ca", "other", "certificate", "key")}
    authority.cert_pem.write_to_path(str(files["ca"]))
    other.cert_pem.write_to_path(str(files["other"]))
    issued.cert_chain_pems[0].write_to_path(str(files["certificate"]))
    issued.private_key_pem.write_to_path(str(files["key"]))
    with Etcd(tmp_path, tls=(files["certificate"], files["key"], files["ca"])) as server:
        client = {"tls_certificate": str(files["certificate"]), "tls_key": str(files["key"])}
        table = server.settings(timeout="800 ms")
        driver = opener({**table, **client, "tls_ca": str(files["ca"])})
        _put(driver, b"a", b"1")
        assert driver.get(b"a") == b"1"
        wrong: list[dict[str, Any]] = [
            {**client, "tls_ca": str(files["other"])},
            {"tls_ca": str(files["ca"])},
            {"endpoints": [server.endpoints[0].removeprefix("https://")]},
        ]
        for settings in wrong:
            with pytest.raises(Unavailable):
                opener({**table, **settings})


def test_close_under_readers(server: Etcd, opener: Opener) -> None:
    """Threads in the middle of calls see Closed, and nothing worse."""
    for _ in range(5):
        driver = opener(server.settings())
        _put(driver, b"a", b"1")
        view = driver.snapshot()
        seen: list[object] = []
        calls: list[Callable[[], object]] = [
            lambda driver=driver: driver.get(b"a"),  # type: ignore[misc]
            lambda driver=driver: [*driver.scan(b"", None)],  # type: ignore[misc]
            lambda driver=driver: _put(driver, b"b", b"2"),  # type: ignore[misc]
            lambda view=view: view.get(b"a"),  # type: ignore[misc]
        ]

        def use(call: Callable[[], object], seen: list[object] = seen) -> None:
            try:
                while True:
                    call()
            except BaseException as error:
                seen.append(type(error))

        threads = [Thread(target=use, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for _ in range(20):
            driver.get(b"a")
        driver.close()
        for thread in threads:
            thread.join()
        assert seen == [Closed] * len(calls)
