"""The memory of ``kvfs mount``: for a tarball, an open file, an inode that was looked up."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs

from kvfs.errors import Corrupt, Invalid
from kvfs_bench import processes
from kvfs_bench.inputs.datasets import TARBALL
from kvfs_bench.kv import meter
from kvfs_bench.kv.clients import Client
from kvfs_bench.kv.places import Engine
from kvfs_bench.programs import Programs
from kvfs_bench.scratch import Scratch
from kvfs_bench.size.design import FITTED
from kvfs_bench.size.inputs import Input, tarballs
from kvfs_bench.size.result import Measured, SizeResult
from kvfs_bench.size.turn import place_of, tables_of

TARBALLS, OPEN = 20_000, 10_000
"""The most of each, where the largest volume of the sweep has 100,000 files."""
_PARTS = (0.1, 0.4, 1.0)
_MOUNT_S = 120.0
_SPARE_DESCRIPTORS = 64
_WARM_FILES = 100


def reason_against(engine: Engine) -> str:
    """Why it cannot be mounted here; empty: it can."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "mounts not measured: /dev/fuse cannot be opened"
    if not engine.capability.persistent:
        return "mounts not measured: its records are in the memory of the mount"
    return ""


@attrs.frozen
class Serving:
    """One engine's mounts."""

    programs: Programs
    result: SizeResult
    engine: Engine
    scratch: Scratch
    scale: float
    """Multiplies both."""
    number: int

    def run(self, made: Input) -> Iterator[Measured]:
        """Mounts of one tarball whose files are looked up and opened, and of many tarballs.

        :param made: what is fetched before it is mounted.
        """
        yield from self._one(made)
        for part in _PARTS:
            count = max(round(TARBALLS * self.scale * part), 2)
            yield from self._many(count)

    def _one(self, made: Input) -> Iterator[Measured]:
        files = made.files + made.directories
        with self._mounted(made.source, fetch=True) as (root, pid):
            paths = [*_files_below(root)][: made.files]
            if len(paths) != made.files:
                raise Corrupt(f"the mount shows {len(paths)} files instead of {made.files}")
            self.result.check("files seen in mounts", len(paths))
            for path in paths[:_WARM_FILES]:
                path.read_bytes()
            # The listing has told the kernel all of them.
            amounts: dict[str, float] = {"tarballs": 1, "files": files, "inodes": files, "open": 0}
            yield self._look(pid, amounts)
            held: list[int] = []
            try:
                for part in _PARTS:
                    count = min(round(OPEN * self.scale * part) + 1, len(paths), _descriptors())
                    held += [os.open(path, os.O_RDONLY) for path in paths[len(held) : count]]
                    yield self._look(pid, amounts | {"open": len(held)})
            finally:
                for descriptor in held:
                    os.close(descriptor)
        with self._mounted(made.source, fetch=True) as (root, pid):
            for path in [*_files_below(root, most=_WARM_FILES)]:
                path.read_bytes()
            yield self._look(pid, amounts | {"inodes": min(_WARM_FILES, files)})

    def _many(self, count: int) -> Iterator[Measured]:
        folder = tarballs(count, self.scratch.directory("tarballs") / "source")
        with self._mounted(folder, fetch=False) as (root, pid):
            names = os.listdir(root)
            if len(names) != count:
                raise Corrupt(f"the mount shows {len(names)} tarballs instead of {count}")
            self.result.check("tarballs seen in mounts", count)
            (root / names[0] / "file").read_bytes()
            for name in names:
                os.lstat(root / name)
            yield self._look(pid, {"tarballs": count, "files": 0, "inodes": count, "open": 0})

    def _look(self, pid: int, amounts: Mapping[str, float]) -> Measured:
        memory = meter.memory([pid])
        figures = {}
        if memory is not None:
            figures = {"serving_anonymous": memory.anonymous, "serving_total": memory.total}
        return Measured(
            engine=self.engine.name,
            role=FITTED,
            label="mount",
            round=self.number,
            amounts=dict(amounts),
            figures=figures,
        )

    @contextmanager
    def _mounted(self, source: Path, *, fetch: bool) -> Iterator[tuple[Path, int]]:
        """The mount point, or the one tarball below it, and the process that serves it."""
        home = self.scratch.directory("mount")
        (home / "run").mkdir(mode=0o700)
        with place_of(self.engine, self.scratch) as where:
            tables = tables_of(self.engine, where, source)
            if fetch:
                with Client("kvfs_bench.size.client") as client:
                    client.ask("use", tables=tables)
                    client.ask("ingest")
            config = home / "volume.toml"
            config.touch(mode=0o600)
            config.write_text(_toml(tables))
            target = home / "mnt"
            env = {**os.environ, "XDG_RUNTIME_DIR": str(home / "run")}
            argv: list[str | Path] = [self.programs.kvfs, "mount", "--foreground", config, target]
            with processes.serving(argv, target, timeout_s=_MOUNT_S, env=env) as pid:
                yield target / TARBALL if fetch else target, pid


def _files_below(root: Path, *, most: int | None = None) -> Iterator[Path]:
    """Files in the order of their directories, up to ``most``."""
    count = 0
    for folder, _, names in os.walk(root):
        for name in names:
            if count == most:
                return
            count += 1
            yield Path(folder, name)


def _descriptors() -> int:
    """How many files may be held open, after asking for as many as are allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return max(soft - _SPARE_DESCRIPTORS, 1)


def _toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Tables of plain values: as JSON has them, but for nothing."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        for key, value in table.items():
            if value is None or isinstance(value, dict):
                raise Invalid(f"[{name}] {key}: only plain values can be set here")
            lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join([*lines, ""])
