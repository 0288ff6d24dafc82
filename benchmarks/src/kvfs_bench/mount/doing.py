"""How each work is done, with a check of every answer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from kvfs.errors import Corrupt
from kvfs_bench import processes
from kvfs_bench.inputs.datasets import Dataset
from kvfs_bench.inputs.trees import Package, Repository
from kvfs_bench.mount.contestants import Served, Tarball
from kvfs_bench.mount.works import FILES, PACKAGE, REPOSITORY, Work
from kvfs_bench.processes import Ran
from kvfs_bench.readers import inprocess, plain
from kvfs_bench.results import SuiteResult


@attrs.frozen(kw_only=True)
class Outcome:
    """What one pass took."""

    wall_s: float
    cpu_s: float

    @classmethod
    def of(cls, ran: Ran) -> Outcome:
        """A command, from its start to its end."""
        return cls(wall_s=ran.wall_s, cpu_s=ran.user_s + ran.system_s)


@attrs.frozen(kw_only=True)
class Doing:
    """Does works; answers are compared with what was generated."""

    result: SuiteResult
    inputs: Mapping[str, Tarball]
    reader: Path | None
    """The compiled reader."""
    lists: Mapping[str, Path]
    """Files of names, by order."""
    importer: Path | None
    """The program that imports the package."""
    git: str | None
    limit_s: float
    """How long one pass may take."""

    def do(self, work: Work, served: Served, turn: int) -> Outcome:
        """Pass ``turn`` of a work.

        :raises Corrupt: the answer is wrong.
        :raises TimedOut: it took longer than ``limit_s``.
        """
        if served.config is not None:
            return self._in_process(work, served, turn)
        if work.action == "read":
            return self._read(work, served)
        outcome: Outcome = getattr(self, work.action)(work, served)
        return outcome

    def load_programs(self, nothing: Path) -> None:
        """Run the programs of the cold works over an empty directory: then they are in memory."""
        processes.shell('find "$1" -type f -size +0 | wc -l', nothing)
        if self.reader is not None:
            processes.run([self.reader, "walk", nothing, "1"])

    def quantity(self, work: Work) -> tuple[int, str]:
        """How much a work is, and of what."""
        made = self.inputs[work.input]
        if isinstance(made, Dataset):
            is_reading = work.action in ("read", "tar", "grep")
            return (made.files, "files") if is_reading else (made.entries, "entries")
        if isinstance(made, Package):
            return len(made.modules), "modules"
        assert isinstance(made, Repository)
        return made.files, "files"

    def _dataset(self, work: Work) -> Dataset:
        made = self.inputs[work.input]
        assert isinstance(made, Dataset)
        return made

    def _shell(self, script: str, *arguments: str | Path) -> Ran:
        return processes.shell(script, *arguments, limit_s=self.limit_s)

    def _count(self, work: Work, served: Served, script: str, expected: int) -> Outcome:
        """A pipeline that prints a count; ``$1`` is the root."""
        ran = self._shell(script, served.root)
        self.result.check(f"counts: {work.title}", int(ran.output), expected)
        return Outcome.of(ran)

    def find(self, work: Work, served: Served) -> Outcome:
        """Walk all of it, names only."""
        return self._count(work, served, 'find "$1" | wc -l', self._dataset(work).entries + 1)

    def find_size(self, work: Work, served: Served) -> Outcome:
        """Walk all of it and ask for the size of each file."""
        script = 'find "$1" -type f -size +0 | wc -l'
        return self._count(work, served, script, self._dataset(work).files)

    def ls_long(self, work: Work, served: Served) -> Outcome:
        """A long listing of one directory; a line more than there are entries."""
        return self._count(work, served, 'ls -l "$1" | wc -l', self._dataset(work).files + 1)

    def tar(self, work: Work, served: Served) -> Outcome:
        """Archive all of it into a pipe."""
        # Not to /dev/null: tar notices that, and reads nothing.  One format for all, so that all
        # archives are of one size: that of the generated one, ./ in addition, in records of 10 KiB.
        ran = self._shell('tar --format=ustar -C "$1" -cf - . | wc -c', served.root)
        whole = self.inputs[FILES].archive.stat().st_size + 512
        self.result.check("sizes: of an archive", int(ran.output), -(-whole // 10240) * 10240)
        return Outcome.of(ran)

    def grep(self, work: Work, served: Served) -> Outcome:
        """Search all contents for a text that one file holds."""
        # Every file begins with its number (inputs/generate.py), where it is long enough.
        wanted = f"{self._dataset(work).files // 2:016x}"
        ran = self._shell('grep -rlaF -- "$2" "$1"', served.root, wanted)
        found = ran.output.decode().splitlines()
        name = self._dataset(work).names[self._dataset(work).files // 2].decode()
        self.result.check("names: found by grep", found, [str(served.root / name)])
        return Outcome.of(ran)

    def import_package(self, work: Work, served: Served) -> Outcome:
        """Import every module of a package in a new interpreter that finds it nowhere else."""
        assert self.importer is not None
        made = self.inputs[PACKAGE]
        assert isinstance(made, Package)
        argv: list[str | Path] = [sys.executable, "-I", "-S", "-B", self.importer, served.root]
        ran = processes.run(argv, limit_s=self.limit_s)
        self.result.check("counts: modules imported", int(ran.output), len(made.modules))
        return Outcome.of(ran)

    def git_status(self, work: Work, served: Served) -> Outcome:
        """Compare a work tree with its index."""
        assert self.git is not None
        made = self.inputs[REPOSITORY]
        assert isinstance(made, Repository)
        argv: list[str | Path] = [
            self.git,
            "-c",
            "safe.directory=*",
            "-C",
            served.root,
            "status",
            "--porcelain",
        ]
        env = {"GIT_OPTIONAL_LOCKS": "0", "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"}
        ran = processes.run(argv, env=env, limit_s=self.limit_s)
        self.result.check("texts: of git status", ran.output, made.status)
        return Outcome.of(ran)

    def _read(self, work: Work, served: Served) -> Outcome:
        start: list[str | Path] = [sys.executable, "-m", plain.__name__]
        if work.compiled:
            assert self.reader is not None
            start = [self.reader]
        argv = [*start, "list" if work.order else "walk", served.root, str(work.readers)]
        argv += [self.lists[work.order]] if work.order else []
        return self._checked(work, json.loads(processes.run(argv, limit_s=self.limit_s).output))

    def _checked(self, work: Work, found: Mapping[str, Any]) -> Outcome:
        made = self._dataset(work)
        self.result.check("counts: of files read", found["files"], made.files)
        self.result.check("sizes: of contents read", found["bytes"], made.content_bytes)
        expected = made.words if work.compiled else made.digest
        self.result.check("digests of everything read", found["digest"], expected)
        return Outcome(wall_s=found["wall_s"], cpu_s=found["user_s"] + found["system_s"])

    def _in_process(self, work: Work, served: Served, turn: int) -> Outcome:
        assert served.config is not None
        if work.compiled or work.action not in ("read", "find_size"):
            raise Corrupt(f"there is no {work.title} without a mount")
        mode = "find" if work.action == "find_size" else "list" if work.order else "walk"
        argv: list[str | Path] = [
            sys.executable,
            "-m",
            inprocess.__name__,
            served.config,
            served.root,
            mode,
        ]
        argv += [str(work.readers), str(turn + 1)]
        argv += [self.lists[work.order]] if work.order else []
        found = json.loads(processes.run(argv, limit_s=2 * self.limit_s).output)
        if work.action == "read":
            return self._checked(work, found)
        self.result.check("counts: in-process", found["files"], self._dataset(work).entries)
        return Outcome(wall_s=found["wall_s"], cpu_s=found["user_s"] + found["system_s"])
