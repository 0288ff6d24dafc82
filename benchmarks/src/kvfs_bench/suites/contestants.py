"""Who takes part in the suites about fetching: KVFS as a user runs it, GNU tar, ratarmount."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs.errors import NotFound
from kvfs_bench import processes
from kvfs_bench.inputs.datasets import TARBALL, Dataset
from kvfs_bench.processes import Ran
from kvfs_bench.programs import Programs

MOUNT_TIMEOUT_S = 120.0
"""Ratarmount reads its index first; a new KVFS lists its folder."""


@attrs.frozen(kw_only=True)
class Served:
    """A tree that can be read."""

    root: Path
    pid: int | None
    """The process behind the mount, if there is one."""


class KVFS:
    """A volume on the LMDB engine and its mount."""

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

    def __init__(self, work: Path) -> None:
        self.tree = work / "tree"

    def unpack(self, dataset: Dataset) -> Ran:
        """``tar xf`` into an empty directory."""
        self.clear()
        self.tree.mkdir(parents=True)
        return processes.run(["tar", "-xf", dataset.archive, "-C", self.tree])

    def clear(self) -> None:
        """Remove the tree."""
        shutil.rmtree(self.tree, ignore_errors=True)


class Ratarmount:
    """The archive itself, with an SQLite index beside it."""

    def __init__(self, programs: Programs, work: Path) -> None:
        assert programs.ratarmount is not None
        self._command = programs.ratarmount
        self.index = work / "index.sqlite"
        work.mkdir(parents=True)

    def make_index(self, dataset: Dataset) -> Ran:
        """Read the archive and write the index, without mounting."""
        self.index.unlink(missing_ok=True)
        # By default small archives get no index file; here all do.
        options: list[str | Path] = ["--index-file", self.index, "--index-minimum-file-count", "0"]
        return processes.run([self._command, "--no-mount", *options, dataset.archive])
