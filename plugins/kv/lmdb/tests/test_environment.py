"""Opening: what is on disk must fit, one environment a process, clear errors for what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import (
    Closed,
    Conflict,
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    PermissionDenied,
    Unsupported,
)
from kvfs.kv import Batch
from kvfs.registry import find
from kvfs_kv_lmdb import DRIVER, LMDBSettings
from kvfs_kv_lmdb._driver import LMDBDriver, remove_store

Opener = Callable[..., LMDBDriver]
CHILD = Path(__file__).with_name("child.py")


def test_is_found_by_name_without_the_native_library() -> None:
    assert find("kv", "lmdb") is DRIVER
    code = (
        "import sys; sys.modules['lmdb'] = None; from kvfs_kv_lmdb import DRIVER\n"
        "from kvfs.errors import Unsupported\n"
        "try: DRIVER.load()\n"
        "except Unsupported as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "does not load" in done.stdout


@pytest.mark.parametrize("made", ["0.9", "1.0"])
def test_other_lmdb_version_is_refused(opener: Opener, made: str) -> None:
    other = {"0.9": "1.0", "1.0": "0.9"}[made]
    driver = opener(lib_version=made)
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    driver.close()
    with pytest.raises(Invalid, match=f'set lib_version = "{made}"'):
        opener(lib_version=other)
    assert opener(lib_version=made).get(b"a") == b"1"


def test_unknown_lmdb_version(opener: Opener) -> None:
    with pytest.raises(Invalid, match=r"0\.9 or 1\.0"):
        opener(lib_version="0.8")


@pytest.mark.parametrize("store", ["", ".", "..", "a/b", "a\0b"])
def test_bad_store_name(opener: Opener, store: str) -> None:
    with pytest.raises(Invalid, match="name of a store"):
        opener(store=store)


def test_drivers_of_one_store_share_it(opener: Opener) -> None:
    first, second = opener(), opener()
    first.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    assert second.get(b"a") == b"1"
    scan, view = second.scan(b"", None), second.snapshot()
    first.close()
    with pytest.raises(Closed):
        first.get(b"a")
    assert [*scan] == [(b"a", b"1")]
    assert bytes(view.get(b"a") or b"") == b"1"
    second.commit(Batch().guard(b"a", b"1").put(b"a", b"2"), Durability.PROCESS)
    with pytest.raises(Conflict):
        second.commit(Batch().guard(b"a", b"1").put(b"a", b"3"), Durability.PROCESS)
    assert opener().get(b"a") == b"2"


def test_stores_do_not_share_records(opener: Opener) -> None:
    first, second = opener(store="one"), opener(Durability.POWER, store="two")
    first.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    assert second.get(b"a") is None
    assert (first.capability.durability, second.capability.durability) == (
        Durability.PROCESS,
        Durability.POWER,
    )


def test_durability_beyond_what_it_was_opened_for(opener: Opener) -> None:
    with pytest.raises(Unsupported, match="opened for process"):
        opener(Durability.MEMORY).commit(Batch().put(b"a", b"1"), Durability.POWER)


@pytest.mark.parametrize(
    ("held", "wanted"), [("PROCESS", Durability.POWER), ("POWER", Durability.PROCESS)]
)
def test_ways_of_writing_are_not_mixed(
    opener: Opener, tmp_path: Path, held: str, wanted: Durability
) -> None:
    """Unsynced writes of one process would make the synced ones of another unsafe."""
    command = [sys.executable, str(CHILD), "hold_open", str(tmp_path), held]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(Invalid, match=f"open elsewhere with durability {held.lower()}"):
            opener(wanted)
        same = opener(Durability[held])
        with pytest.raises(Invalid, match="open in this process"):
            opener(wanted)
        with pytest.raises(Invalid, match="cannot be removed"):
            remove_store(LMDBSettings(path=tmp_path), store="main")
        same.close()
        other.communicate("end\n")
    assert opener(wanted).capability.durability is wanted


def test_environment_of_another_program(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "data.mdb").write_bytes(b"")
    with pytest.raises(Invalid, match="not of KVFS"):
        opener()
    remove_store(LMDBSettings(path=tmp_path), store="main")
    assert (tmp_path / "main" / "data.mdb").exists()


def _damage(path: Path, *, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("at", "data", "error"),
    [
        (16, b"\0\0\0\0", Corrupt),  # the magic number
        (20, b"\7\0\0\0", Invalid),  # the format version
        (0, bytes(8192), Corrupt),
    ],
)
def test_damaged_header(
    opener: Opener, tmp_path: Path, at: int, data: bytes, error: type[KVFSError]
) -> None:
    opener().close()
    _damage(tmp_path / "main" / "data.mdb", at=at, data=data)
    with pytest.raises(error, match="LMDB"):
        opener()


@pytest.mark.parametrize("text", ["", "nonsense", "{}", '{"format": 1}', "[1]"])
def test_damaged_record(opener: Opener, tmp_path: Path, text: str) -> None:
    opener().close()
    (tmp_path / "main" / "kvfs-lmdb.json").write_text(text)
    with pytest.raises(Corrupt, match=r"kvfs-lmdb\.json is damaged"):
        opener()


def test_record_of_a_later_version(opener: Opener, tmp_path: Path) -> None:
    opener().close()
    path = tmp_path / "main" / "kvfs-lmdb.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(Invalid, match="update the driver"):
        opener()


def test_path_is_a_file(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid):
        opener(path=tmp_path / "file")
    with pytest.raises(Invalid):
        opener(store="file")


def test_read_only_file_system(opener: Opener, small_tmpfs: Path) -> None:
    opener(path=small_tmpfs).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_tmpfs)], check=True)
    with pytest.raises(PermissionDenied):
        opener(path=small_tmpfs)


def test_map_that_does_not_fit_the_address_space(opener: Opener) -> None:
    with pytest.raises(Exhausted):
        opener(map_size=Bytes(1 << 62))


def test_too_many_readers(opener: Opener) -> None:
    driver = opener(max_readers=4)
    with pytest.raises(Exhausted, match="max_readers"):
        views = [driver.snapshot() for _ in range(200)]
    # The table has whole pages, so there may be more entries than were asked for.
    views = [driver.snapshot() for _ in range(4)]
    for view in views:
        view.close()


def test_removed_while_another_store_is_open(opener: Opener, tmp_path: Path) -> None:
    kept = opener(store="kept")
    kept.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    opener(store="old").close()
    remove_store(LMDBSettings(path=tmp_path), store="old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert kept.get(b"a") == b"1"
