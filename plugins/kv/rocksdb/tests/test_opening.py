"""Opening: one process, folders of ours only, clear errors for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Corrupt, Invalid, KVFSError, PermissionDenied, Unavailable, Unsupported
from kvfs.kv import Batch
from kvfs.registry import find
from kvfs_kv_rocksdb import DRIVER, RocksDBSettings
from kvfs_kv_rocksdb._directory import LOCK_NAME, RECORD_NAME, remove_store
from kvfs_kv_rocksdb._driver import RocksDBDriver
from kvfs_kv_rocksdb._settings import Compression

Opener = Callable[..., RocksDBDriver]
CHILD = Path(__file__).with_name("child.py")


def test_is_found_by_name_without_the_native_library() -> None:
    assert find("kv", "rocksdb") is DRIVER
    code = (
        "import sys; sys.modules['rocksdict'] = None; from kvfs_kv_rocksdb import DRIVER\n"
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


@pytest.mark.parametrize(
    ("setting", "value"),
    [("write_buffer_bytes", 1000), ("open_files_max", 1), ("bloom_bits", -1), ("bloom_bits", 1e9)],
)
def test_setting_out_of_range(opener: Opener, setting: str, value: int) -> None:
    with pytest.raises(Invalid, match=setting):
        opener(**{setting: int(value)})
    opener()  # and nothing is left locked


def test_open_twice_in_this_process(opener: Opener, tmp_path: Path) -> None:
    driver = opener()
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    with pytest.raises(Unavailable, match="open in this process"):
        opener()
    with pytest.raises(Invalid, match="cannot be removed"):
        remove_store(RocksDBSettings(path=tmp_path), store="main")
    assert driver.get(b"a") == b"1"
    driver.close()
    assert opener().get(b"a") == b"1"


def test_open_in_another_process(opener: Opener, tmp_path: Path) -> None:
    command = [sys.executable, str(CHILD), "hold_open", str(tmp_path), "PROCESS"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(Unavailable, match=f"open in process {other.pid},"):
            opener()
        with pytest.raises(Invalid, match=f"process {other.pid}, .*cannot be removed"):
            remove_store(RocksDBSettings(path=tmp_path), store="main")
        other.communicate("end\n")
    opener()


def test_open_by_another_program(opener: Opener, tmp_path: Path) -> None:
    """One that knows nothing of us, but locks as RocksDB does."""
    opener().close()
    code = (
        "import sys; from rocksdict import Options, Rdict\n"
        "db = Rdict(sys.argv[1], Options(raw_mode=True)); print('open', flush=True)\n"
        "sys.stdin.readline(); db.close()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "main")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(Unavailable, match="another program has it open"):
            opener()
        other.communicate("end\n")
    opener()


def test_opened_again_with_readers_left(opener: Opener) -> None:
    """rocksdict keeps a database open, and locked, while an iterator or a snapshot of it lives."""
    driver = opener()
    driver.commit(Batch(puts={b"%03d" % n: b"x" for n in range(500)}), Durability.PROCESS)
    view, scan = driver.snapshot(), driver.scan(b"", None)
    view_scan = view.scan(b"", None)
    assert (next(scan), next(view_scan)) == ((b"000", b"x"), (b"000", b"x"))
    driver.close()
    assert opener().get(b"499") == b"x"
    del view, scan, view_scan


def test_database_of_another_program(opener: Opener, tmp_path: Path) -> None:
    Rdict(str(tmp_path / "main"), Options(raw_mode=True)).close()
    with pytest.raises(Invalid, match="not of KVFS"):
        opener()
    remove_store(RocksDBSettings(path=tmp_path), store="main")
    assert (tmp_path / "main" / "CURRENT").exists()
    assert not (tmp_path / "main" / LOCK_NAME).exists()


@pytest.mark.parametrize("text", ["", "nonsense", "{}", "[1]", "1"])
def test_damaged_record(opener: Opener, tmp_path: Path, text: str) -> None:
    opener().close()
    (tmp_path / "main" / RECORD_NAME).write_text(text)
    with pytest.raises(Corrupt, match=r"kvfs-rocksdb\.json is damaged"):
        opener()


def test_record_of_a_later_version(opener: Opener, tmp_path: Path) -> None:
    opener().close()
    (tmp_path / "main" / RECORD_NAME).write_text('{"format": 2}')
    with pytest.raises(Invalid, match="update the driver"):
        opener()


def _only(directory: Path, pattern: str) -> Path:
    (path,) = directory.glob(pattern)
    return path


def _changed(path: Path, at: int, data: bytes) -> None:
    contents = bytearray(path.read_bytes())
    contents[at : at + len(data) if at >= 0 else len(contents) + at + len(data)] = data
    path.write_bytes(contents)


@pytest.mark.parametrize("file", ["CURRENT", "MANIFEST-*"])
def test_damaged_files(opener: Opener, tmp_path: Path, file: str) -> None:
    driver = opener()
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    driver.close()
    _changed(_only(tmp_path / "main", file), 0, b"damaged")
    with pytest.raises(Corrupt):
        opener()


def test_damaged_block(opener: Opener, tmp_path: Path) -> None:
    """Found by its checksum when it is read, which is never taken for absence."""
    driver = opener(compression=Compression.NONE)
    driver.commit(Batch(puts={b"%03d" % n: b"x" * 100 for n in range(10)}), Durability.PROCESS)
    driver.close()
    _changed(_only(tmp_path / "main", "*.sst"), 50, b"damaged")
    driver = opener()
    with driver.snapshot() as view:
        for read in (driver.get, view.get, lambda key: driver.get_many([key])):
            with pytest.raises(Corrupt):
                read(b"001")
        for scan in (driver.scan(b"", None), view.scan(b"", None, reverse=True)):
            with pytest.raises(Corrupt):
                list(scan)


def test_table_of_a_later_rocksdb(opener: Opener, tmp_path: Path) -> None:
    driver = opener()
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    driver.close()
    # Of the footer the last 12 bytes are the version and the magic number.
    _changed(_only(tmp_path / "main", "*.sst"), -12, (99).to_bytes(4, "little"))
    with pytest.raises(Invalid, match="update rocksdict"):
        opener().get(b"a")


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


def test_opened_for_memory_it_promises_no_more(opener: Opener, tmp_path: Path) -> None:
    driver = opener(Durability.MEMORY)
    assert driver.capability.durability is Durability.MEMORY
    with pytest.raises(Unsupported, match="opened for memory"):
        driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    driver.commit(Batch().put(b"a", b"1"), Durability.MEMORY)
    log = max((tmp_path / "main").glob("*.log"), key=os.path.getmtime)
    assert log.stat().st_size == 0
    driver.close()
    assert opener().get(b"a") == b"1"


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("blob_bytes_min", [0, 1000, 1 << 30])
def test_settings_may_change(opener: Opener, compression: Compression, blob_bytes_min: int) -> None:
    """What is there is read, however it was written."""
    records = {b"%02d" % n: b"%d" % n * 300 * n for n in range(20)}
    expected = dict(records)
    for settings in ({}, {"compression": compression, "blob_bytes_min": Bytes(blob_bytes_min)}):
        driver = opener(**settings)
        driver.commit(
            Batch(puts={key + b"x" * len(settings): v for key, v in records.items()}), Durability(1)
        )
        expected |= {key + b"x" * len(settings): v for key, v in records.items()}
        driver.compact()
        driver.close()
    assert dict(opener().scan(b"", None)) == expected


def test_removed_while_another_store_is_open(opener: Opener, tmp_path: Path) -> None:
    kept = opener(store="kept")
    kept.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    opener(store="old").close()
    remove_store(RocksDBSettings(path=tmp_path), store="old")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
    assert kept.get(b"a") == b"1"


def test_foreign_error_is_ours(opener: Opener) -> None:
    """rocksdict raises plain exceptions, none of which may get out."""
    with pytest.raises(KVFSError):
        opener(path=Path("/proc/kvfs"))
