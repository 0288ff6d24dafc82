"""Opening: databases of ours only, several processes, clear errors for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest

from kvfs.capability import Durability
from kvfs.config import Bytes, Seconds
from kvfs.errors import Closed, Conflict, Corrupt, Invalid, PermissionDenied, Unavailable
from kvfs.kv import Batch
from kvfs.registry import find
from kvfs_kv_sqlite import DRIVER, SQLiteSettings
from kvfs_kv_sqlite._directory import remove_store
from kvfs_kv_sqlite._driver import SQLiteDriver

Opener = Callable[..., SQLiteDriver]
CHILD = Path(__file__).with_name("child.py")


@contextmanager
def _child(said: str, *arguments: object) -> Iterator[None]:
    """A task of child.py that goes on until the end of the ``with`` statement."""
    command = [sys.executable, str(CHILD), *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == f"{said}\n"
        yield
        other.communicate("end\n")
    assert other.returncode == 0


def test_is_found_by_name_without_the_native_library() -> None:
    assert find("kv", "sqlite") is DRIVER
    code = (
        "import sys; sys.modules['apsw'] = None; from kvfs_kv_sqlite import DRIVER\n"
        "from kvfs.errors import Unsupported\n"
        "try: DRIVER.load()\n"
        "except Unsupported as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "does not load" in done.stdout


@pytest.mark.parametrize("store", ["", ".", "..", "a/b", "a\0b"])
def test_bad_store_name(opener: Opener, store: str) -> None:
    with pytest.raises(Invalid, match="name of a store"):
        opener(store=store)


@pytest.mark.parametrize("setting", ["cache_bytes", "wal_bytes", "busy_timeout_s"])
def test_setting_out_of_range(opener: Opener, setting: str) -> None:
    with pytest.raises(Invalid, match=setting):
        opener(**{setting: -1})


def test_drivers_of_one_store_share_it(opener: Opener) -> None:
    first, second = opener(), opener()
    first.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    assert second.get(b"a") == b"1"
    scan, view = second.scan(b"", None), second.snapshot()
    first.close()
    with pytest.raises(Closed):
        first.get(b"a")
    assert [*scan] == [(b"a", b"1")]
    assert view.get(b"a") == b"1"
    second.commit(Batch().guard(b"a", b"1").put(b"a", b"2"), Durability.PROCESS)
    with pytest.raises(Conflict):
        second.commit(Batch().guard(b"a", b"1").put(b"a", b"3"), Durability.PROCESS)
    assert view.get(b"a") == b"1"
    assert opener().get(b"a") == b"2"


def test_third_driver_leaves_the_locks_of_the_others(opener: Opener, tmp_path: Path) -> None:
    """Closing any descriptor of the database would let go of them: then another process would take
    itself for the last one, and remove the log."""
    driver = opener()
    opener().close()
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    code = (
        "import sys, apsw; c = apsw.Connection(sys.argv[1])\n"
        "print(c.execute('select v from kv').get); c.close()\n"
    )
    data = tmp_path / "main" / "data.sqlite"
    done = subprocess.run([sys.executable, "-c", code, data], capture_output=True, check=True)
    assert done.stdout == b"b'1'\n"
    assert data.with_name("data.sqlite-wal").exists()
    driver.commit(Batch().put(b"b", b"2"), Durability.PROCESS)
    assert [*driver.scan(b"", None)] == [(b"a", b"1"), (b"b", b"2")]


def test_open_elsewhere_it_is_not_removed(opener: Opener, tmp_path: Path) -> None:
    settings = SQLiteSettings(path=tmp_path)
    with (
        _child("open", "hold_open", tmp_path, "PROCESS"),
        pytest.raises(Invalid, match="is open, and cannot be removed"),
    ):
        remove_store(settings, store="main")
    driver = opener()
    with pytest.raises(Invalid, match="is open, and cannot be removed"):
        remove_store(settings, store="main")
    driver.close()
    remove_store(settings, store="main")
    assert [*tmp_path.iterdir()] == []


def test_lock_that_another_process_keeps(opener: Opener, tmp_path: Path) -> None:
    driver = opener(busy_timeout_s=Seconds(0.05))
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    with _child("locked", "hold_write_lock", tmp_path):
        with pytest.raises(Unavailable, match="busy_timeout_s") as caught:
            driver.commit(Batch().put(b"a", b"2"), Durability.PROCESS)
        assert caught.value.retryable
        assert driver.get(b"a") == b"1"
    driver.commit(Batch().put(b"a", b"2"), Durability.PROCESS)
    assert driver.get(b"a") == b"2"


def _foreign(path: Path, *statements: str) -> None:
    (path / "main").mkdir(exist_ok=True)
    connection = apsw.Connection(str(path / "main" / "data.sqlite"))
    for statement in statements:
        connection.execute(statement).fetchall()
    connection.close()


@pytest.mark.parametrize(
    "statement", ["create table kv (k blob not null unique, v blob)", "pragma application_id = 7"]
)
def test_database_of_another_program(opener: Opener, tmp_path: Path, statement: str) -> None:
    _foreign(tmp_path, statement)
    before = (tmp_path / "main" / "data.sqlite").read_bytes()
    with pytest.raises(Invalid, match="not of KVFS"):
        opener()
    remove_store(SQLiteSettings(path=tmp_path), store="main")
    assert (tmp_path / "main" / "data.sqlite").read_bytes() == before


def test_database_of_a_later_version(opener: Opener, tmp_path: Path) -> None:
    opener().close()
    _foreign(tmp_path, "pragma user_version = 2")
    with pytest.raises(Invalid, match="format 2: update the driver"):
        opener()


def test_making_it_broke_off(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "data.sqlite").touch()
    opener().close()
    remove_store(SQLiteSettings(path=tmp_path), store="main")
    assert [*tmp_path.iterdir()] == []


def test_no_database(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "data.sqlite").write_bytes(b"something else" * 1000)
    with pytest.raises(Corrupt, match="not an SQLite database"):
        opener()


def test_damaged_page(opener: Opener, tmp_path: Path) -> None:
    driver = opener()
    driver.commit(Batch(puts={b"%04d" % n: b"x" * 200 for n in range(5000)}), Durability.PROCESS)
    driver.close()
    data = tmp_path / "main" / "data.sqlite"
    with data.open("r+b") as file:
        file.seek(data.stat().st_size - (32 << 10))
        file.write(b"\xff" * (32 << 10))
    driver = opener()
    with pytest.raises(Corrupt), driver.snapshot() as view:
        list(view.scan(b"", None))
    with pytest.raises(Corrupt):
        list(driver.scan(b"", None))
    with pytest.raises(Corrupt):
        driver.get_many([b"%04d" % n for n in range(5000)])


def test_path_is_a_file(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid):
        opener(path=tmp_path / "file")
    with pytest.raises(Invalid):
        opener(store="file")


def test_read_only_file_system(opener: Opener, small_ext4: Path) -> None:
    opener(path=small_ext4).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_ext4)], check=True)
    with pytest.raises(PermissionDenied):
        opener(path=small_ext4)


def test_removed_while_another_store_is_open(opener: Opener, tmp_path: Path) -> None:
    kept = opener(store="kept")
    kept.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    opener(store="old").close()
    remove_store(SQLiteSettings(path=tmp_path), store="old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert kept.get(b"a") == b"1"


def test_settings_reach_each_connection(opener: Opener) -> None:
    driver = opener(wal_bytes=Bytes(1 << 20), cache_bytes=Bytes(1 << 20))
    connection = driver._connections.take()
    assert connection.pragma("cache_size") == -1024
    assert connection.pragma("wal_autocheckpoint") == 64
    assert connection.pragma("journal_size_limit") == 1 << 20
    driver._connections.give(connection)
