"""Other programs that serve an archive or an image through FUSE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs_bench import processes
from kvfs_bench.mount.contestants import MOUNT_TIMEOUT_S, Field, Served, Tarball
from kvfs_bench.mount.local import Disk
from kvfs_bench.mount.works import ALL, FIRST_LOOKS
from kvfs_bench.programs import Programs

RATARMOUNT = "ratarmount"
SQUASHFUSE = "squashfuse_ll"
ARCHIVEMOUNT = "archivemount"


@attrs.define(kw_only=True)
class Ratarmount:
    """The archive itself, with an SQLite index that was made before."""

    command: str
    place: Path
    name: str = RATARMOUNT
    is_local: bool = False
    limit_s: float = 60.0
    works: frozenset[str] = ALL
    _archives: dict[str, Path] = attrs.field(factory=dict)

    def _options(self, key: str) -> list[str | Path]:
        # By default small archives get no index file; here all do.
        return ["--index-file", self.place / f"{key}.sqlite", "--index-minimum-file-count", "0"]

    def build(self, key: str, made: Tarball) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self._archives[key] = made.archive
        processes.run([self.command, "--no-mount", *self._options(key), made.archive])

    def sources(self, key: str) -> list[Path]:
        return [self._archives[key], self.place / f"{key}.sqlite"]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        target = self.place / "mnt"
        argv = [self.command, "--foreground", *self._options(key), self._archives[key], target]
        with processes.serving(argv, target, timeout_s=MOUNT_TIMEOUT_S) as pid:
            yield Served(root=target, pid=pid)


@attrs.define(kw_only=True)
class Squashfuse:
    """An uncompressed image of the unpacked tree, served by the C low-level FUSE program."""

    command: str
    maker: str
    disk: Disk
    place: Path
    name: str = SQUASHFUSE
    is_local: bool = False
    limit_s: float = 60.0
    works: frozenset[str] = ALL

    def build(self, key: str, made: Tarball) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        uncompressed = ["-noI", "-noD", "-noF", "-noX"]
        quiet = ["-no-progress", "-quiet"]
        image = self.place / f"{key}.squashfs"
        processes.run([self.maker, self.disk.tree(key), image, *uncompressed, *quiet])

    def sources(self, key: str) -> list[Path]:
        return [self.place / f"{key}.squashfs"]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        target = self.place / "mnt"
        argv: list[str | Path] = [self.command, "-f", self.place / f"{key}.squashfs", target]
        with processes.serving(argv, target, timeout_s=MOUNT_TIMEOUT_S) as pid:
            yield Served(root=target, pid=pid)


@attrs.define(kw_only=True)
class Archivemount:
    """The archive itself, by libarchive, which reads it from its start for every file."""

    command: str
    place: Path
    name: str = ARCHIVEMOUNT
    is_local: bool = False
    limit_s: float = 30.0
    works: frozenset[str] = FIRST_LOOKS
    _archives: dict[str, Path] = attrs.field(factory=dict)

    def build(self, key: str, made: Tarball) -> None:
        self._archives[key] = made.archive

    def sources(self, key: str) -> list[Path]:
        return [self._archives[key]]

    @contextmanager
    def served(self, key: str) -> Iterator[Served]:
        target = self.place / "mnt"
        argv: list[str | Path] = [self.command, "-f", "-o", "readonly"]
        argv += [self._archives[key], target]
        with processes.serving(argv, target, timeout_s=self.limit_s) as pid:
            yield Served(root=target, pid=pid)


def add(field: Field, programs: Programs, place: Path, disk: Disk) -> None:
    """Those that are installed."""
    if programs.squashfuse and programs.mksquashfs:
        field.contestants.append(
            Squashfuse(
                command=programs.squashfuse,
                maker=programs.mksquashfs,
                disk=disk,
                place=place / SQUASHFUSE,
            )
        )
    else:
        field.missing[SQUASHFUSE] = "apt-get install squashfuse squashfs-tools"
    if programs.ratarmount:
        field.contestants.append(Ratarmount(command=programs.ratarmount, place=place / RATARMOUNT))
    else:
        field.missing[RATARMOUNT] = "pip install ratarmount (here, or anywhere on PATH)"
    if programs.archivemount:
        field.contestants.append(
            Archivemount(command=programs.archivemount, place=place / ARCHIVEMOUNT)
        )
    else:
        field.missing[ARCHIVEMOUNT] = "apt-get install archivemount"
