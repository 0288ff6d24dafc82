"""What is special about SlateDB: its binding, its memory, its files."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from kvfs.capability import Durability
from kvfs.errors import Closed, Corrupt, Exhausted, Invalid, KVFSError, PermissionDenied
from kvfs.kv import Batch
from kvfs.kv.store import KVStore
from kvfs.testing import KVHarness
from kvfs_kv_slatedb import SlateDBSettings
from kvfs_kv_slatedb._driver import SlateDBDriver, remove_store
from kvfs_kv_slatedb._settings import MEMORY_CAPABILITY

Opener = Callable[..., SlateDBDriver]


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str]:
    return {"url": f"file://{tmp_path}/stores"}


def test_memory() -> None:
    """For trying out; the conformance kit has the other places."""
    with KVStore(KVHarness("slatedb", {"url": "memory:///"}).open(), name="memory") as store:
        assert store.capability == MEMORY_CAPABILITY
        store.commit(Batch().put(b"b", b"2").put(b"a", b"1"))
        assert [*store.scan(b"", None, reverse=True)] == [(b"b", b"2"), (b"a", b"1")]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 12, 13, 4095, 1 << 20])
def test_bytes_reach_the_engine_unchanged(
    opener: Opener, settings: dict[str, str], size: int
) -> None:
    """What is done for speed inside the generated binding is right at every size."""
    driver = opener(settings)
    key, value = (
        random.Random(size).randbytes(size % 60_000 + 1),
        random.Random(size).randbytes(size),
    )
    driver.commit(Batch().put(key, value), Durability.PROCESS)
    assert driver.get(key) == value
    assert [*driver.scan(key, key + b"\0")] == [(key, value)]
    assert [*driver.scan(key + b"\0", None)] == []


def test_called_inside_an_event_loop(opener: Opener, settings: dict[str, str]) -> None:
    """The caller's own loop is the running one again afterwards."""
    driver = opener(settings)

    async def use() -> bytes | None:
        driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
        value = driver.get(b"a")
        await asyncio.sleep(0)
        return value

    assert asyncio.run(use()) == b"1"


def test_commit_that_nobody_waits_for_is_flushed_by_closing(
    opener: Opener, settings: dict[str, str]
) -> None:
    driver = opener(settings | {"flush_interval": "1 h"})
    driver.commit(Batch().put(b"a", b"1"), Durability.MEMORY)
    driver.close()
    assert opener(settings).get(b"a") == b"1"


def test_large_records_are_scanned_few_at_a_time(opener: Opener, settings: dict[str, str]) -> None:
    driver = opener(settings)
    value = random.Random(1).randbytes(1 << 20)
    for number in range(24):
        driver.commit(Batch().put(b"%02d" % number, value), Durability.MEMORY)
    asked: list[int] = []
    calls = driver._reads._calls
    found = driver.scan(b"", None)

    class Counting:
        def call(self, coroutine: Coroutine[Any, Any, list[Any]]) -> list[Any]:
            answer = calls.call(coroutine)
            asked.append(len(answer))
            return answer

    driver._reads._calls = Counting()  # type: ignore[assignment]
    assert sum(1 for _ in found) == 24
    assert asked[0] == 16  # before anything is known of the records
    assert max(asked[1:]) == 1


def test_disk_cache(opener: Opener, bucket: dict[str, str], tmp_path: Path) -> None:
    cached = bucket | {"disk_cache": str(tmp_path / "cache")}
    driver = opener(cached)
    driver.commit(Batch().put(b"a", bytes(100_000)), Durability.POWER)
    driver.compact()
    driver.close()
    again = opener(cached | {"cache_bytes": 0})
    assert again.get(b"a") == bytes(100_000)
    assert any(path.is_file() for path in (tmp_path / "cache").rglob("*"))


def _fill(driver: SlateDBDriver, value: bytes, keys: list[bytes]) -> None:
    for number in range(200):
        driver.commit(Batch().put(b"%03d" % number, value), Durability.PROCESS)
        keys.append(b"%03d" % number)


def test_full_disk(opener: Opener, small_tmpfs: Path) -> None:
    """It ends with a refusal, not with a commit that waits for ever; nothing is lost."""
    settings = {"url": f"file://{small_tmpfs}"}
    driver = opener(settings)
    value = random.Random(1).randbytes(500_000)
    keys: list[bytes] = []
    with pytest.raises(Exhausted, match="no space left"):
        _fill(driver, value, keys)
    assert len(keys) > 20
    assert [key for key, _ in driver.scan(b"", None)] == keys
    driver.commit(Batch().delete(keys[0]), Durability.PROCESS)
    driver.close()
    again = opener(settings)
    assert [key for key, _ in again.scan(b"", None)] == keys[1:]
    assert again.get(keys[-1]) == value


def test_open_store_is_not_removed(opener: Opener, settings: dict[str, str]) -> None:
    driver = opener(settings)
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    with pytest.raises(Invalid, match="cannot be removed"):
        remove_store(SlateDBSettings(url=settings["url"]), store="main")
    assert driver.get(b"a") == b"1"


def test_directory_of_something_else(opener: Opener, tmp_path: Path) -> None:
    other = tmp_path / "main" / "data.mdb"
    other.parent.mkdir()
    other.write_bytes(b"records of another engine")
    with pytest.raises(Invalid, match="holds something else"):
        opener({"url": f"file://{tmp_path}"})
    with pytest.raises(Invalid, match="holds something else"):
        remove_store(SlateDBSettings(url=f"file://{tmp_path}"), store="main")
    assert other.read_bytes() == b"records of another engine"


def test_path_is_a_file(opener: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Invalid):
        opener({"url": f"file://{tmp_path}/file"})


def test_read_only_file_system(opener: Opener, small_tmpfs: Path) -> None:
    settings = {"url": f"file://{small_tmpfs}"}
    opener(settings).close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_tmpfs)], check=True)
    with pytest.raises(PermissionDenied, match="read-only"):
        opener(settings)


@pytest.mark.parametrize("store", ["", ".", "..", "a/b", "a\0b"])
def test_names_that_are_none(opener: Opener, settings: dict[str, str], store: str) -> None:
    with pytest.raises(Invalid, match="is not the name of a store"):
        opener(settings, store=store)


@pytest.mark.parametrize("damage", ["garbage", "version", "empty"])
def test_damaged_manifest(
    opener: Opener, settings: dict[str, str], tmp_path: Path, damage: str
) -> None:
    driver = opener(settings)
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    driver.close()
    manifest = max((tmp_path / "stores" / "main" / "manifest").iterdir())
    good = manifest.read_bytes()
    bad = {
        "garbage": good[:20] + bytes(len(good) - 20),
        "version": (int.from_bytes(good[:2], "big") + 99).to_bytes(2, "big") + good[2:],
        "empty": b"",
    }
    manifest.write_bytes(bad[damage])
    with pytest.raises(Corrupt, match="damaged or of another"):
        opener(settings)
    manifest.write_bytes(good)
    assert opener(settings).get(b"a") == b"1"


def test_damaged_table(opener: Opener, settings: dict[str, str], tmp_path: Path) -> None:
    driver = opener(settings)
    driver.commit(Batch().put(b"a", random.Random(1).randbytes(50_000)), Durability.PROCESS)
    driver.compact()
    driver.close()
    (table,) = (tmp_path / "stores" / "main" / "compacted").iterdir()
    data = bytearray(table.read_bytes())
    data[25_000] ^= 0xFF
    table.write_bytes(data)
    again = opener(settings)
    with pytest.raises(KVFSError) as caught:
        again.get(b"a")
    assert isinstance(caught.value, Corrupt)


def test_close_under_readers(opener: Opener, settings: dict[str, str]) -> None:
    driver = opener(settings)
    driver.commit(Batch(puts={b"%03d" % n: b"x" * 1000 for n in range(500)}), Durability.PROCESS)
    view = driver.snapshot()
    scan = view.scan(b"", None)
    next(scan)
    driver.close()
    for use in (lambda: view.get(b"001"), view.refresh, driver.snapshot):
        with pytest.raises(Closed):
            use()
    view.close()
