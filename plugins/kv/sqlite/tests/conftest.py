"""Stores to test with, and a small file system of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs_kv_sqlite import SQLiteSettings
from kvfs_kv_sqlite._driver import SQLiteDriver, open_store

Opener = Callable[..., SQLiteDriver]
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
    ) -> SQLiteDriver:
        driver = open_store(
            SQLiteSettings(path=path, **settings),  # type: ignore[arg-type]
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

    def run(task: str, *arguments: object) -> str:
        command = [sys.executable, str(CHILD), task, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (done.returncode, done.stdout[-2000:], done.stderr[-4000:])
        return done.stdout

    return run


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 64 MiB in an image file.  Needs root."""
    image, point = tmp_path / "image", tmp_path / "ext4"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True)
