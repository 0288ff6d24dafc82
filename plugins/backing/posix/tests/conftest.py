"""Stores to test with, and small file systems of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvfs.backing import BackingStore
from kvfs.testing import disks
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


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 48 MiB in an image file.  Needs root."""
    with disks.small_ext4(tmp_path / "image", tmp_path / "ext4", size_bytes=48 << 20) as place:
        yield place


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB.  Needs root."""
    with disks.mounted(tmp_path / "tmpfs", "-t", "tmpfs", "-o", "size=4m", "none") as place:
        yield place


@pytest.fixture
def inner_mount(root: Path) -> Iterator[Path]:
    """Another file system below the store's directory.  Needs root."""
    with disks.mounted(root / "inner", "-t", "tmpfs", "none") as place:
        yield place
