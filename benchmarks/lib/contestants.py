"""Who is measured: KVFS and its peers, each with the way to build and to mount it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import attrs

from kvfs.errors import NotFound
from lib import processes
from lib.datasets import TARBALL, Dataset
from lib.processes import Ran

MOUNT_TIMEOUT_S = 120.0
"""Ratarmount reads its index first; a new KVFS lists its folder."""


def _program(name: str) -> str | None:
    """A command beside the Python that runs this, or on PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


@attrs.frozen(kw_only=True)
class Programs:
    """The commands that the harness runs; ``None``: not installed."""

    kvfs: str
    ratarmount: str | None
    squashfuse: str | None
    mksquashfs: str | None

    @classmethod
    def find(cls, *, kvfs: str | None = None) -> Programs:
        """Look for all of them.

        :param kvfs: the ``kvfs`` command, where it is not the one beside this Python.
        :raises NotFound: there is no ``kvfs``, or a tool that everything needs is missing.
        """
        for tool in ("tar", "bash", "find", "fusermount3"):
            if shutil.which(tool) is None:
                raise NotFound(f"the benchmarks need {tool}: apt-get install tar findutils fuse3")
        command = _program("kvfs") if kvfs is None else shutil.which(kvfs)
        if command is None:
            raise NotFound(f"there is no command {kvfs or 'kvfs'}: run make setup, or give --kvfs")
        return cls(
            kvfs=command,
            ratarmount=_program("ratarmount"),
            squashfuse=_program("squashfuse_ll"),
            mksquashfs=_program("mksquashfs"),
        )

    def missing(self) -> dict[str, str]:
        """The peers that are not installed, and how to install them."""
        lacking = {}
        if self.ratarmount is None:
            lacking["ratarmount"] = "pip install ratarmount (here, or anywhere on PATH)"
        if self.squashfuse is None or self.mksquashfs is None:
            lacking["squashfuse_ll"] = "apt-get install squashfuse squashfs-tools"
        return lacking


@attrs.frozen(kw_only=True)
class Served:
    """A tree that can be read."""

    root: Path
    pid: int | None
    """The process behind the mount, if there is one."""


class Contestant(Protocol):
    """One way to serve the files of a dataset."""

    @property
    def name(self) -> str:
        """As it stands in the tables."""

    def build(self, dataset: Dataset) -> None:
        """Make what is needed once; not timed."""

    def sources(self) -> list[Path]:
        """The files that have to be in the page cache for the engine to be warm."""

    def served(self) -> AbstractContextManager[Served]:
        """Mount it anew for as long as the block lasts."""


class KVFS:
    """A volume on the LMDB engine and its mount."""

    name = "kvfs"

    def __init__(self, programs: Programs, work: Path) -> None:
        """:param work: a directory of its own."""
        self._command = programs.kvfs
        self.cache = work / "cache"
        self.target = work / "mnt"
        # Records of mounts lie here, so that those of this user are left alone.
        runtime = work / "run"
        runtime.mkdir(parents=True, mode=0o700)
        self._env = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
        self.source: Path | None = None

    def _volume(self) -> list[str | Path]:
        assert self.source is not None, "say which folder first"
        return [self.source, "--cache", self.cache]

    def run(self, command: str, *options: str | Path) -> Ran:
        """Run ``kvfs command VOLUME --cache ... options``."""
        return processes.run([self._command, command, *self._volume(), *options], env=self._env)

    def ingest(self) -> tuple[Ran, processes.Memory]:
        """Fetch everything into a new cache, which is synced at the end; with peaks of memory."""
        self.drop_cache()
        watch: list[processes.MemoryWatch] = []

        def started(pid: int) -> None:
            watch.append(processes.MemoryWatch(pid).__enter__())

        argv = [self._command, "ingest", *self._volume(), "--all", "--json"]
        try:
            ran = processes.run(argv, env=self._env, started=started)
        finally:
            for each in watch:
                each.__exit__(None, None, None)
        return ran, watch[0].peak

    def drop_cache(self) -> None:
        """Begin anew: nothing fetched, no catalogue."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def build(self, dataset: Dataset) -> None:
        self.source = dataset.source
        self.drop_cache()
        self.run("ingest", "--all")

    def sources(self) -> list[Path]:
        return [self.cache]

    @contextmanager
    def served(self, *, inside: str = TARBALL) -> Iterator[Served]:
        """Mounted.

        :param inside: the directory below the mount point that is to be read.
        """
        argv = [self._command, "mount", "--foreground", *self._volume(), self.target]
        timeout_s = MOUNT_TIMEOUT_S
        with processes.serving(argv, self.target, timeout_s=timeout_s, env=self._env) as pid:
            yield Served(root=self.target / inside, pid=pid)

    def mount_in_background(self) -> tuple[Ran, int]:
        """``kvfs mount``, as a user types it: what it took to return, and the server's pid."""
        self.target.mkdir(parents=True, exist_ok=True)
        ran = self.run("mount", self.target)
        return ran, self._pid()

    def _pid(self) -> int:
        import json

        ran = processes.run([self._command, "status", "--json"], env=self._env)
        for record in json.loads(ran.output):
            if record["target"] == str(self.target) and record["pid"]:
                return int(record["pid"])
        raise NotFound(f"kvfs status does not list the mount at {self.target}")

    def unmount(self) -> None:
        """``kvfs umount``, which waits for the server."""
        processes.run([self._command, "umount", self.target], env=self._env)


class Ext4:
    """The tarball unpacked on the local disk by GNU tar; there is nothing to mount."""

    name = "ext4"

    def __init__(self, work: Path) -> None:
        self.tree = work / "tree"

    def build(self, dataset: Dataset) -> None:
        self.unpack(dataset)

    def unpack(self, dataset: Dataset) -> Ran:
        """``tar xf`` into an empty directory."""
        self.clear()
        self.tree.mkdir(parents=True)
        return processes.run(["tar", "-xf", dataset.archive, "-C", self.tree])

    def clear(self) -> None:
        """Remove the tree."""
        shutil.rmtree(self.tree, ignore_errors=True)

    def sources(self) -> list[Path]:
        return [self.tree]

    @contextmanager
    def served(self) -> Iterator[Served]:
        yield Served(root=self.tree, pid=None)


class Ratarmount:
    """The archive itself, with an SQLite index beside it."""

    name = "ratarmount"

    def __init__(self, programs: Programs, work: Path) -> None:
        assert programs.ratarmount is not None
        self._command = programs.ratarmount
        self.index = work / "index.sqlite"
        self._target = work / "mnt"
        self._archive: Path | None = None
        work.mkdir(parents=True)

    def _options(self) -> list[str | Path]:
        # By default small archives get no index file; here all do.
        return ["--index-file", self.index, "--index-minimum-file-count", "0"]

    def build(self, dataset: Dataset) -> None:
        self.make_index(dataset)

    def make_index(self, dataset: Dataset) -> Ran:
        """Read the archive and write the index, without mounting."""
        self._archive = dataset.archive
        self.index.unlink(missing_ok=True)
        return processes.run([self._command, "--no-mount", *self._options(), dataset.archive])

    def sources(self) -> list[Path]:
        assert self._archive is not None
        return [self._archive, self.index]

    @contextmanager
    def served(self) -> Iterator[Served]:
        assert self._archive is not None
        argv = [self._command, "--foreground", *self._options(), self._archive, self._target]
        with processes.serving(argv, self._target, timeout_s=MOUNT_TIMEOUT_S) as pid:
            yield Served(root=self._target, pid=pid)


class Squashfuse:
    """An uncompressed image of the unpacked tree, served by the C low-level FUSE program."""

    name = "squashfuse_ll"

    def __init__(self, programs: Programs, work: Path, *, tree: Path) -> None:
        """:param tree: what the image is made of."""
        assert programs.squashfuse is not None
        assert programs.mksquashfs is not None
        self._command = programs.squashfuse
        self._maker = programs.mksquashfs
        self._tree = tree
        self._image = work / "image.squashfs"
        self._target = work / "mnt"
        work.mkdir(parents=True)

    def build(self, dataset: Dataset) -> None:
        self._image.unlink(missing_ok=True)
        uncompressed = ["-noI", "-noD", "-noF", "-noX"]
        processes.run(
            [self._maker, self._tree, self._image, *uncompressed, "-no-progress", "-quiet"]
        )

    def sources(self) -> list[Path]:
        return [self._image]

    @contextmanager
    def served(self) -> Iterator[Served]:
        argv: list[str | Path] = [self._command, "-f", self._image, self._target]
        with processes.serving(argv, self._target, timeout_s=MOUNT_TIMEOUT_S) as pid:
            yield Served(root=self._target, pid=pid)
