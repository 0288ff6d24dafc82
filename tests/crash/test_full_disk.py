"""The disk under the cache is full: a real one, of 64 MiB."""

from __future__ import annotations

import errno
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing import disks
from kvfs.testing.mounts import Site, wait_until
from kvfs.testing.trees import assert_same_tree, tree_of

DISK_BYTES = 64 << 20


@pytest.fixture
def disk(site: Site) -> Iterator[Path]:
    """An ext4 file system in an image file, where the cache of ``site`` will be."""
    image, place = site.path / "image", site.path / "cache-volume"
    with disks.small_ext4(image, place, size_bytes=DISK_BYTES):
        yield place
        site.close()  # daemons first: they have the cache open


def make_tarball(site: Site, name: str, *, files: int, size: int) -> Path:
    """Random files of some size in ``name.tar``; the tree that is in it."""
    tree = site.path / "trees" / name
    tree.mkdir(parents=True)
    for number in range(files):
        (tree / f"{number:03}").write_bytes(random.Random(number).randbytes(size))
    folder = site.path / "folder"
    folder.mkdir(exist_ok=True)
    archive = folder / f"{name}.tar"
    words = ["tar", "--format=pax", "-C", str(tree), "-cf", str(archive), "."]
    subprocess.run(words, check=True, capture_output=True)
    return tree


def test_no_room_for_a_tarball(site: Site, disk: Path) -> None:
    small = make_tarball(site, "small", files=40, size=100_000)
    other = make_tarball(site, "other", files=60, size=100_000)
    make_tarball(site, "big", files=80, size=1_000_000)
    folder = site.path / "folder"
    config = site.config({"driver": "posix", "path": str(folder)})
    mounted = site.mount(config)
    assert_same_tree(tree_of(small), tree_of(mounted.path / "small"), ignoring=["root"])

    for look in (lambda: os.listdir(mounted.path / "big"), (mounted.path / "big/079").read_bytes):
        with pytest.raises(OSError, match="No space left on device") as raised:
            look()
        assert raised.value.errno == errno.ENOSPC
    assert "big.tar" in mounted.log()

    assert mounted.is_alive()
    assert_same_tree(tree_of(small), tree_of(mounted.path / "small"), ignoring=["root"])
    # What the failed one took is free again.
    assert_same_tree(tree_of(other), tree_of(mounted.path / "other"), ignoring=["root"])
    assert mounted.states() == {"absent": 1, "sealed": 2}
    assert "big" in site.run("ls", mounted.path, "/big", code=9).stderr
    mounted.umount()
    assert site.violations(folder) == []


def test_room_is_made(site: Site, disk: Path) -> None:
    """Somebody else's file fills the disk; once it is gone, the same mount goes on."""
    tree = make_tarball(site, "a", files=200, size=100_000)
    config = site.config({"driver": "posix", "path": str(site.path / "folder")})
    mounted = site.mount(config)
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free - (8 << 20))
    with pytest.raises(OSError, match="No space left on device"):
        os.listdir(mounted.path / "a")
    (disk / "filler").unlink()
    wait_until(lambda: _lists(mounted.path / "a"), "the tarball is tried again")
    assert_same_tree(tree_of(tree), tree_of(mounted.path / "a"), ignoring=["root"])
    mounted.umount()
    assert site.violations(site.path / "folder") == []


def _lists(path: Path) -> bool:
    try:
        return len(os.listdir(path)) > 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
