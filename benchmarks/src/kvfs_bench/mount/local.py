"""File systems of the kernel: the local disk, an ext4 image on the same footing, tmpfs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs_bench import processes
from kvfs_bench.mount.contestants import Field, Served, Tarball
from kvfs_bench.mount.works import ALL, COLD, LISTING_LARGE

WARM = "ext4"
FOOTING = "ext4, same footing"
LIMIT_S = 120.0
_INODE_BYTES = 256
_BLOCK_BYTES = 4096


@attrs.define(kw_only=True)
class Disk:
    """The tarball unpacked on the local disk; there is nothing to mount."""

    place: Path
    name: str = WARM
    is_local: bool = True
    limit_s: float = LIMIT_S
    works: frozenset[str] = ALL

    def build(self, key: str, made: Tarball) -> None:
        unpack(made, self.place / key)

    def tree(self, key: str) -> Path:
        """Where an input is unpacked."""
        return self.place / key

    def sources(self, key: str) -> list[Path]:
        return [self.place / key]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        yield Served(root=self.place / key)


def unpack(made: Tarball, tree: Path) -> None:
    """``tar xf`` into a new directory."""
    tree.mkdir(parents=True)
    processes.run(["tar", "-xf", made.archive, "-C", tree])


@attrs.define(kw_only=True)
class Image:
    """An ext4 image in a file, mounted anew through a loop device, read-only.

    The image's pages are in the page cache, as the engine's are for KVFS; inodes, names and file
    pages of the mount are not, as after ``kvfs mount``.
    """

    place: Path
    mkfs: str
    name: str = FOOTING
    is_local: bool = False
    limit_s: float = LIMIT_S
    works: frozenset[str] = ALL

    def build(self, key: str, made: Tarball) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        target = self.place / "mnt"
        target.mkdir(exist_ok=True)
        image = self.place / f"{key}.ext4"
        facts = made.describe()
        # Package and repository do not say how many entries they have: a header each at most.
        entries = (
            facts.get("files", 0) + facts.get("directories", 0) or facts["archive_bytes"] // 512
        )
        entries = min(2 * entries + 5000, max(facts["archive_bytes"] // 512, 5000) + 5000)
        size = facts["archive_bytes"] + entries * (_INODE_BYTES + _BLOCK_BYTES // 2)
        with image.open("wb") as file:
            file.truncate(round(size * 1.15) + (64 << 20))
        # Without a journal, since it is only read; default features otherwise.
        options = ["-q", "-F", "-m", "0", "-O", "^has_journal", "-N", str(entries)]
        processes.run([self.mkfs, *options, "-E", "lazy_itable_init=0", image])
        with _mounted(["-o", "loop", image], target):
            processes.run(["tar", "-xf", made.archive, "-C", target])
            # What mkfs made; the walks are to find the tarball's members only.
            (target / "lost+found").rmdir()

    def sources(self, key: str) -> list[Path]:
        return [self.place / f"{key}.ext4"]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        target = self.place / "mnt"
        with _mounted(["-o", "loop,ro", self.place / f"{key}.ext4"], target):
            yield Served(root=target)


@contextmanager
def _mounted(words: list[str | Path], target: Path) -> Iterator[None]:
    processes.run(["mount", *words, target])
    try:
        yield
    finally:
        processes.unmount(target)


@attrs.define(kw_only=True)
class Memory:
    """The tarball unpacked on a tmpfs, mounted from the first build to the end of the run."""

    place: Path
    name: str = "tmpfs"
    is_local: bool = True
    limit_s: float = LIMIT_S
    works: frozenset[str] = ALL - COLD - LISTING_LARGE

    def build(self, key: str, made: Tarball) -> None:
        if not processes.is_mounted(self.place):
            self.place.mkdir(parents=True, exist_ok=True)
            # Ended with the scratch directory, whichever way the run ends.
            processes.run(["mount", "-t", "tmpfs", "-o", "size=75%", "tmpfs", self.place])
        unpack(made, self.place / key)

    def sources(self, key: str) -> list[Path]:
        return []

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        yield Served(root=self.place / key)


def add(field: Field, place: Path, mkfs: str | None) -> Disk:
    """Those that this user may have; the one on the disk is returned."""
    disk = Disk(place=place / "ext4")
    field.contestants.append(disk)
    if os.geteuid() != 0:
        field.missing[FOOTING] = "run as root, who may mount an image"
        field.missing["tmpfs"] = "run as root, who may mount one"
        return disk
    if mkfs is None or shutil.which("mount") is None:
        field.missing[FOOTING] = "apt-get install e2fsprogs mount"
    else:
        field.contestants.append(Image(place=place / "image", mkfs=mkfs))
    field.contestants.append(Memory(place=place / "tmpfs"))
    return disk
