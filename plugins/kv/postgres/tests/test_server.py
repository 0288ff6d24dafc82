"""What goes wrong with a server: refused, restarted, stopped, full; and what a commit became."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from kvfs.capability import Durability
from kvfs.errors import (
    Conflict,
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
from kvfs.testing.servers.postgres import PASSWORD, Postgres
from kvfs_kv_postgres import PostgresSettings
from kvfs_kv_postgres import _commit as commits
from kvfs_kv_postgres._connection import Deadline
from kvfs_kv_postgres._driver import PostgresDriver, remove_store

Opener = Callable[..., PostgresDriver]
POWER = Durability.POWER


def put(driver: PostgresDriver, key: bytes, value: bytes = b"x") -> None:
    """One record."""
    driver.commit(Batch().put(key, value), POWER)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"password": "wrong"}, PermissionDenied, "password"),
        ({"user": "nobody", "password": "x"}, PermissionDenied, "user"),
        ({"database": "missing"}, NotFound, "createdb"),
        ({"sslmode": "verify-full", "sslrootcert": "/dev/null"}, PermissionDenied, "sslrootcert"),
        ({"host": "host.invalid", "timeout": 1}, Unavailable, "does not answer"),
        ({"sslmode": "perhaps"}, Invalid, "verify-full"),
        ({"namespace": "pg_mine"}, Invalid, "PostgreSQL's own"),
        ({"namespace": "n" * 57}, Invalid, "56 bytes"),
        ({"connections_max": 1}, Invalid, "connections_max"),
    ],
)
def test_bad_settings_are_told_apart(
    opener: Opener, settings: dict[str, Any], kind: type[KVFSError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        opener(**settings)
    assert PASSWORD not in str(caught.value)


def test_nobody_listens(opener: Opener) -> None:
    with pytest.raises(Unavailable, match="refused") as caught:
        opener(port=free_port(), timeout=1)
    assert caught.value.unapplied


@pytest.mark.parametrize("store", ["", "a\0b", "%s", "s" * 57])
def test_bad_store_name(opener: Opener, store: str) -> None:
    with pytest.raises(Invalid, match="name of a store"):
        opener(store)


def test_store_names_are_data(opener: Opener) -> None:
    for name in ('"; DROP TABLE x; --', "ü", "{table}"):
        driver = opener(name)
        put(driver, b"key", name.encode())
        assert driver.get(b"key") == name.encode()


def test_tls_is_spoken_and_verified(
    opener: Opener, server: Postgres, admin: psycopg.Connection
) -> None:
    certificate = str(server.home / "server.crt")
    put(opener(sslmode="verify-full", sslrootcert=certificate), b"a")
    row = admin.execute(
        "SELECT bool_or(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) "
        "WHERE a.application_name = 'kvfs'"
    ).fetchone()
    assert row == (True,)


def test_schema_of_another_version_is_refused(
    opener: Opener, namespace: str, admin: psycopg.Connection
) -> None:
    opener().close()
    admin.execute(f"UPDATE {namespace}.kvfs SET version = 99".encode())
    with pytest.raises(Unsupported, match="format 99"):
        opener()


def test_schema_of_somebody_else_is_left_alone(
    opener: Opener, namespace: str, admin: psycopg.Connection
) -> None:
    admin.execute(f"CREATE SCHEMA {namespace}".encode())
    admin.execute(f"CREATE TABLE {namespace}.theirs ()".encode())
    with pytest.raises(Invalid, match="not of KVFS"):
        opener()


def test_role_without_rights(opener: Opener, admin: psycopg.Connection) -> None:
    admin.execute("CREATE ROLE poor LOGIN PASSWORD 'poor'")
    with pytest.raises(PermissionDenied, match="grant"):
        opener(user="poor", password="poor")


def test_store_that_is_read_is_not_removed(opener: Opener, server: Postgres) -> None:
    driver = opener()
    settings: PostgresSettings = driver._pool.settings
    put(driver, b"a")
    view = driver.snapshot()
    view.get(b"a")
    with pytest.raises(Conflict, match="view"):
        remove_store(settings, store="main")
    view.close()
    remove_store(settings, store="main")
    with pytest.raises(Stale, match="removed"):
        driver.get(b"a")


def test_server_without_fsync_promises_less(tmp_path: Path, opener: Opener) -> None:
    with Postgres(tmp_path, options={"fsync": "off"}) as careless:
        driver = opener(of=careless)
        assert driver.capability.durability == Durability.PROCESS
        with pytest.raises(Unsupported, match="fsync"):
            put(driver, b"a")
        driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
        driver.close()


def test_views_are_bounded_and_idle_ones_end(opener: Opener) -> None:
    driver = opener(connections_max=3, timeout=1, view_idle=1)
    put(driver, b"a", b"1")
    views = [driver.snapshot() for _ in range(3)]
    with pytest.raises(Exhausted, match="connections_max"):
        driver.get(b"a")
    views[0].close()
    assert driver.get(b"a") == b"1"
    _until_gone(driver, views[1]._connection)
    with pytest.raises(Stale, match="view_idle"):
        views[1].get(b"a")
    views[1].refresh()
    assert views[1].get(b"a") == b"1"


def _until_gone(driver: PostgresDriver, connection: psycopg.Connection[Any] | None) -> None:
    """Wait until the server has ended a connection."""
    assert connection is not None
    pid = connection.info.backend_pid
    query = "SELECT FROM pg_stat_activity WHERE pid = %s"
    while driver._pool.ask(lambda other: other.execute(query, (pid,)).fetchone()) is not None:
        pass


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Postgres]:
    """A server to be maltreated."""
    with Postgres(tmp_path) as server:
        yield server


def test_restart_under_everything(opener: Opener, own: Postgres) -> None:
    driver = opener(of=own)
    put(driver, b"before", b"1")
    view, watch = driver.snapshot(), driver.watch(b"", None)
    own.kill()
    own.start()
    assert driver.get(b"before") == b"1"
    with pytest.raises(Stale, match="refresh"):
        view.get(b"before")
    view.refresh()
    with pytest.raises(Stale, match="anew"):
        watch.wait(60)
    put(driver, b"after")
    assert watch.wait(60) == [b"after"]
    assert view.get(b"after") is None
    driver.close()


def test_kill_in_the_midst_of_batches_loses_nothing(opener: Opener, own: Postgres) -> None:
    """Each batch counts up, guarded; whatever a lost answer meant is found out."""
    driver = opener(of=own)
    put(driver, b"n", b"0")
    applied = 0
    conflicts: list[Exception] = []

    def count() -> None:
        nonlocal applied
        for number in range(150):
            batch = Batch().guard(b"n", b"%d" % number).put(b"n", b"%d" % (number + 1))
            try:
                driver.commit(batch.put(b"%d" % number, b"v" * 20_000), POWER)
            except KVFSError as error:
                conflicts.append(error)
                return
            applied += 1

    writer = Thread(target=count)
    writer.start()
    for goal in (10, 40, 80):
        while applied < goal and writer.is_alive():
            pass
        own.kill()
        own.start()
    writer.join()
    assert conflicts == []
    assert driver.get(b"n") == b"150"
    assert sum(1 for _ in driver.scan(b"", None)) == 151
    driver.close()


@pytest.mark.parametrize("is_applied", [True, False])
def test_lost_answer_is_found_out(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, is_applied: bool
) -> None:
    """The connection breaks at COMMIT: after the server did it, or before it was sent."""
    driver = opener()
    put(driver, b"n", b"1")
    run = commits._Attempt.run
    attempts = 0

    def breaking(attempt: commits._Attempt) -> None:
        nonlocal attempts
        attempts += 1
        if attempts > 1:
            run(attempt)
            return
        if is_applied:
            run(attempt)
        else:
            attempt._begin()
            attempt.writer.number += 1
            attempt.is_sent = True
        attempt._connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(commits._Attempt, "run", breaking)
    driver.commit(Batch().guard(b"n", b"1").put(b"n", b"2"), POWER)
    assert driver.get(b"n") == b"2"
    assert attempts == (1 if is_applied else 2)


def test_transaction_that_was_given_up_cannot_commit_later(opener: Opener) -> None:
    """Its packets may still be under way when somebody asks what became of it."""
    driver = opener()
    put(driver, b"n", b"1")
    late = driver._pool.take()
    batch = Batch().guard(b"n", b"1").put(b"n", b"late")
    writer = late.writer or driver._committer._enter(late)
    attempt = commits._Attempt(driver._committer, late, writer, batch, POWER)
    attempt._begin()
    writer.number += 1
    lost = psycopg.OperationalError("lost")
    assert not driver._committer._was_applied(attempt, Deadline(driver._pool.settings), lost)
    attempt._put()
    with pytest.raises(psycopg.errors.SerializationFailure):
        late.execute(
            driver._committer._statements.number, (writer.number, uuid.UUID(writer.identity))
        )
    late.rollback()
    driver._pool.give_back(late)
    assert driver.get(b"n") == b"1"


def test_writer_that_stands_still_keeps_others_out_for_a_while(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its transaction is ended by the server, so nothing of it can come later."""
    monkeypatch.setattr(commits, "_BEGIN", commits._BEGIN.replace("'10s'", "'1s'"))
    driver, other = opener(), opener()
    still = driver._pool.take()
    writer = driver._committer._enter(still)
    attempt = commits._Attempt(driver._committer, still, writer, Batch().put(b"n", b"still"), POWER)
    attempt._begin()
    put(other, b"n", b"1")
    with pytest.raises(psycopg.Error):
        attempt._put()
    driver._pool.give_back(still)
    assert driver.get(b"n") == b"1"


def test_store_that_is_locked_for_too_long(
    opener: Opener, namespace: str, admin: psycopg.Connection
) -> None:
    driver = opener(timeout=1)
    with admin.transaction():
        admin.execute(f"LOCK TABLE {namespace}.lock_main".encode())
        with pytest.raises(Unavailable, match="other writers") as caught:
            put(driver, b"a")
        assert caught.value.unapplied
        assert driver.get(b"a") is None
    put(driver, b"a")


def test_server_that_stands_still(opener: Opener, own: Postgres) -> None:
    driver = opener(of=own, timeout=1)
    put(driver, b"a")
    for connection in driver._pool._free:
        connection.timeout_s = 0.5
    stopped = [own.daemons[0].pid, *_children(own.daemons[0].pid)]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            driver.get(b"a")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert driver.get(b"a") == b"x"
    driver.close()


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def test_full_disk(
    opener: Opener, server: Postgres, admin: psycopg.Connection, small_disk: Path
) -> None:
    """The tables are on a small disk of their own; what was acknowledged stays."""
    subprocess.run(["chown", "postgres", str(small_disk)], check=True)
    admin.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'".encode())
    admin.execute("CREATE ROLE crowded LOGIN SUPERUSER PASSWORD 'crowded'")
    admin.execute("ALTER ROLE crowded SET default_tablespace = small")
    driver = opener(user="crowded", password="crowded")
    other = small_disk.with_name("other")
    other.write_bytes(bytes(4 << 20))

    def fill(number: int) -> None:
        batch = Batch().put(b"last", b"%d" % number)
        for part in range(8):
            batch.put(b"%03d-%d" % (number, part), b"%d" % part * 100_000)
        driver.commit(batch, POWER)

    written = 0
    try:
        for written in range(100):
            fill(written)
    except Exhausted:
        pass
    assert 5 < written < 99
    for _ in range(2):
        assert driver.get(b"last") == b"%d" % (written - 1)
        assert sum(1 for _ in driver.scan(b"", None)) == written * 8 + 1
        with pytest.raises(Exhausted, match="disk"):
            fill(written)
    other.unlink()
    fill(written)
    assert sum(1 for _ in driver.scan(b"", None)) == written * 8 + 9
    driver.close()
    remove_store(driver._pool.settings, store="main")
    admin.execute("DROP OWNED BY crowded CASCADE")
    admin.execute("DROP TABLESPACE small")


def test_batch_of_many_statements_is_atomic(opener: Opener) -> None:
    driver = opener()
    put(driver, b"guard", b"1")
    batch = Batch(puts={b"%04d" % number: b"v" * 100_000 for number in range(250)})
    with pytest.raises(Conflict):
        driver.commit(batch.guard(b"guard", b"2"), POWER)
    assert [key for key, _ in driver.scan(b"", None)] == [b"guard"]
    batch.guards.clear()
    driver.commit(batch, POWER)
    assert sum(1 for _ in driver.scan(b"", None)) == 251


def test_writers_meet_quietly_and_tidy_up(
    opener: Opener, namespace: str, admin: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    driver = opener()
    put(driver, b"n", b"0")

    def increment() -> None:
        for _ in range(30):
            while True:
                old = driver.get(b"n") or b""
                try:
                    driver.commit(Batch().guard(b"n", old).put(b"n", b"%d" % (int(old) + 1)), POWER)
                    break
                except Conflict:
                    pass

    threads = [Thread(target=increment) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driver.get(b"n") == b"90"
    assert caplog.records == []
    writers = f"SELECT count(*) > 0 FROM {namespace}.writers".encode()
    assert admin.execute(writers).fetchone() == (True,)
    driver.close()
    assert admin.execute(writers).fetchone() == (False,)


def test_watch_of_many_long_keys(opener: Opener) -> None:
    driver = opener()
    keys = [b"%06d" % number + b"k" * 2000 for number in range(300)]
    with driver.watch(b"", None) as watch:
        driver.commit(Batch(puts=dict.fromkeys(keys, b"")), POWER)
        heard: list[bytes] = []
        while len(heard) < len(keys):
            heard += watch.wait(60)
    assert heard == keys
