"""Stores to test with, and a small file system of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.testing import disks
from kvfs.testing.child import run_script
from kvfs_kv_rocksdb import RocksDBSettings
from kvfs_kv_rocksdb._driver import RocksDBDriver, open_store

Opener = Callable[..., RocksDBDriver]
CHILD = Path(__file__).with_name("child.py")


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[Opener]:
    """Opens stores below the test's directory; settings by name."""
    opened = []

    def opens(
        durability: Durability = Durability.PROCESS,
        *,
        path: Path = tmp_path,
        store: str = "main",
        **settings: object,
    ) -> RocksDBDriver:
        driver = open_store(
            RocksDBSettings(path=path, **settings),  # type: ignore[arg-type]
            store=store,
            durability=durability,
        )
        opened.append(driver)
        return driver

    yield opens
    for driver in opened:
        driver.close()


@pytest.fixture
def run_child() -> Callable[..., str]:
    """Runs a task of child.py in a process of its own; what it printed.  Fails if it does."""

    return partial(run_script, CHILD)


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 64 MiB in an image file.  Needs root."""
    with disks.small_ext4(tmp_path / "image", tmp_path / "ext4", size_bytes=64 << 20) as place:
        yield place
