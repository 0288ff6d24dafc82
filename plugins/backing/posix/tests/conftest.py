"""Stores to test with, and small file systems of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvfs.backing import BackingStore
from kvfs_backing_posix import PosixSettings
from kvfs_backing_posix._driver import open_store

Opener = Callable[..., BackingStore]


@pytest.fixture
def opener() -> Opener:
    """Opens a directory as a store; settings by name."""

    def opens(path: Path, **settings: bool) -> BackingStore:
        return BackingStore(open_store(PosixSettings(path=path, **settings)), name="posix")

    return opens


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory of the store under test."""
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def store(root: Path, opener: Opener) -> BackingStore:
    """The store under test."""
    return opener(root)


def _mounted(point: Path, *command: str) -> Iterator[Path]:
    """A mount as long as the test takes.  Needs root."""
    point.mkdir()
    subprocess.run(["mount", *command, str(point)], check=True, capture_output=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True, capture_output=True)


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 48 MiB in an image file."""
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True, capture_output=True)
    yield from _mounted(tmp_path / "ext4", "-o", "loop", str(image))


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    yield from _mounted(tmp_path / "tmpfs", "-t", "tmpfs", "-o", "size=4m", "none")


@pytest.fixture
def inner_mount(root: Path) -> Iterator[Path]:
    """Another file system below the store's directory."""
    yield from _mounted(root / "inner", "-t", "tmpfs", "none")
