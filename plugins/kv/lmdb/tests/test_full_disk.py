"""Full disks and full maps: real file systems, filled to the last block."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Exhausted
from kvfs.kv import Batch
from kvfs_kv_lmdb import _ballast
from kvfs_kv_lmdb._driver import LMDBDriver


@pytest.mark.parametrize("durability", ["PROCESS", "POWER"])
def test_full_ext4(small_ext4: Path, run_child: Callable[..., str], durability: str) -> None:
    run_child("fill_disk", small_ext4, durability)


def test_full_tmpfs(small_tmpfs: Path, run_child: Callable[..., str]) -> None:
    run_child("fill_disk", small_tmpfs, "PROCESS")


def test_full_map(opener: Callable[..., LMDBDriver]) -> None:
    driver = opener(map_size=Bytes(2 << 20))
    for number in range(15):
        driver.commit(Batch().put(b"%d" % number, bytes(100_000)), Durability.PROCESS)
    with pytest.raises(Exhausted, match="map_size"):
        driver.commit(Batch().put(b"a", b"small").put(b"b", bytes(1_000_000)), Durability.PROCESS)
    assert driver.get(b"a") is None
    assert driver.stats().keys == 15
    driver.commit(Batch().delete_range(b"0", b"9"), Durability.PROCESS)
    driver.commit(Batch().put(b"again", bytes(100_000)), Durability.PROCESS)


def test_delete_on_a_full_disk_needs_the_ballast(
    small_tmpfs: Path, opener: Callable[..., LMDBDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one the delete is refused, whole; so what the ballast is for is real."""
    with monkeypatch.context() as patch:
        patch.setattr(_ballast, "_fallocate", None)  # as where the system has no such call
        driver = opener(path=small_tmpfs)
        with driver.snapshot():  # no page can be used again
            numbers = _fill(driver, small_tmpfs)
            with pytest.raises(Exhausted):
                driver.commit(Batch().delete(b"000000"), Durability.PROCESS)
    assert [key for key, _ in driver.scan(b"", None)] == numbers


def test_ballast_is_given_up_and_filled_again(
    small_tmpfs: Path, opener: Callable[..., LMDBDriver]
) -> None:
    driver = opener(path=small_tmpfs)
    ballast = small_tmpfs / "main" / _ballast.NAME
    with driver.snapshot():
        numbers = _fill(driver, small_tmpfs)
        assert ballast.stat().st_size == _ballast.bytes_wanted(0)
        driver.commit(Batch().delete(numbers[0]), Durability.PROCESS)
    assert ballast.stat().st_size == 0
    assert [key for key, _ in driver.scan(b"", None)] == numbers[1:]
    (small_tmpfs / "other").unlink()
    for number in range(65):
        driver.commit(Batch().put(b"x", b"%d" % number), Durability.PROCESS)
    assert ballast.stat().st_blocks * 512 >= _ballast.bytes_wanted(0)


@pytest.mark.parametrize(
    ("used", "wanted"), [(0, 1 << 20), (1 << 30, 4 << 20), (1 << 40, 16 << 20)]
)
def test_ballast_grows_with_the_store(used: int, wanted: int) -> None:
    assert _ballast.bytes_wanted(used) == wanted


def _fill(driver: LMDBDriver, path: Path) -> list[bytes]:
    """Fill the store, then the disk; the keys stored."""
    keys = []
    with (path / "other").open("wb", buffering=0) as other:
        for number in range(20):
            keys.append(b"%06d" % number)
            driver.commit(Batch().put(keys[-1], bytes(100_000)), Durability.PROCESS)
        with suppress(OSError):
            while other.write(bytes(4096)):
                pass
    return keys
