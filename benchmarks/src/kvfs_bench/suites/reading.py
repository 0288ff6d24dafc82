"""What is done to a tree that is served, each with a check of the answer."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs

from kvfs_bench import processes
from kvfs_bench.inputs.datasets import Dataset
from kvfs_bench.readers import plain
from kvfs_bench.results import Measurement, SuiteResult
from kvfs_bench.suites.contestants import Served


@attrs.frozen
class Work:
    """Does things to the tree of one dataset and records them."""

    result: SuiteResult
    dataset: Dataset

    def _record(
        self, measurement: Measurement, served: Served, ran: tuple[float, float], before: float
    ) -> None:
        wall_s, cpu_s = ran
        measurement.wall_s.append(wall_s)
        measurement.cpu_s.append(cpu_s)
        if served.pid is not None:
            measurement.server_cpu_s.append(processes.cpu_s(served.pid) - before)

    def count(
        self, measurement: Measurement, served: Served, script: str, *, expected: int
    ) -> None:
        """Time a pipeline that prints a count; ``$1`` is the root of the tree."""
        before = processes.cpu_s(served.pid) if served.pid is not None else 0.0
        ran = processes.shell(script, served.root)
        self.result.check(f"counts: {measurement.contestant}, {script}", int(ran.output), expected)
        self._record(measurement, served, (ran.wall_s, ran.user_s + ran.system_s), before)

    def ls(self, measurement: Measurement, served: Served) -> None:
        """List the root unsorted."""
        entries = (self.dataset.directories or self.dataset.files) + 2  # . and ..
        self.count(measurement, served, 'ls -f "$1" | wc -l', expected=entries)

    def find(self, measurement: Measurement, served: Served) -> None:
        """Walk all of it, names only."""
        entries = 1 + self.dataset.directories + self.dataset.files
        self.count(measurement, served, 'find "$1" | wc -l', expected=entries)

    def read_list(
        self, measurement: Measurement, served: Served, names: Path, *, files: int, digest: int
    ) -> None:
        """Read the files that a list names."""
        self._read(
            measurement, served, ["list", served.root, "1", names], files=files, digest=digest
        )

    def _read(
        self,
        measurement: Measurement,
        served: Served,
        arguments: list[str | Path],
        *,
        files: int,
        digest: int,
    ) -> None:
        before = processes.cpu_s(served.pid) if served.pid is not None else 0.0
        found = read(arguments)
        who = measurement.contestant
        self.result.check(f"counts: of files read, {who}", found["files"], files)
        self.result.check(f"digests of everything read: {who}", found["digest"], digest)
        ran = (found["wall_s"], found["user_s"] + found["system_s"])
        self._record(measurement, served, ran, before)


def rehearse(served: Served, dataset: Dataset) -> None:
    """Run all programs once over one file, so that none of them comes from the disk later."""
    name = dataset.names[0].decode()
    with tempfile.NamedTemporaryFile() as names:
        names.write(dataset.names[0] + b"\0")
        names.flush()
        read(["list", served.root, "1", names.name])
    processes.shell(
        'tar -C "$1" -cf - "$2" | wc -c; find "$1/$2" -size +0; ls -f "$1/$2"', served.root, name
    )


def read(arguments: list[str | Path]) -> dict[str, Any]:
    """Run the reader; what it reports."""
    report: dict[str, Any] = json.loads(
        processes.run([sys.executable, "-m", plain.__name__, *arguments]).output
    )
    return report
