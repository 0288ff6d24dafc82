"""What is done to a tree that is served, each with a check of the answer."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import attrs

from lib import processes
from lib.contestants import Served
from lib.datasets import Dataset
from lib.results import Measurement, SuiteResult

_READER = Path(__file__).with_name("reader.py")


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

    def find_size(self, measurement: Measurement, served: Served) -> None:
        """Walk all of it and ask for the size of each file."""
        script = 'find "$1" -type f -size +0 | wc -l'
        self.count(measurement, served, script, expected=self.dataset.files)

    def tar(self, measurement: Measurement, served: Served) -> None:
        """Archive all of it into a pipe."""
        # Not to /dev/null: tar notices that, and reads nothing.  One format for all, so that all
        # archives are of one size: that of the headers, the contents, and the end.
        script = 'tar --format=ustar -C "$1" -cf - . | wc -c'
        before = processes.cpu_s(served.pid) if served.pid is not None else 0.0
        ran = processes.shell(script, served.root)
        self.result.check(
            f"sizes: of an archive, {measurement.contestant}", int(ran.output), self._tar_bytes()
        )
        self._record(measurement, served, (ran.wall_s, ran.user_s + ran.system_s), before)

    def _tar_bytes(self) -> int:
        # The generated archive lacks the member ./, and the padding to a record of 10 KiB.
        whole = self.dataset.archive.stat().st_size + 512
        return -(-whole // 10240) * 10240

    def read_in_order(self, measurement: Measurement, served: Served) -> None:
        """Read every file as the directories list them."""
        self._read(
            measurement,
            served,
            ["walk", served.root],
            files=self.dataset.files,
            digest=self.dataset.digest,
        )

    def read_list(
        self, measurement: Measurement, served: Served, names: Path, *, files: int, digest: int
    ) -> None:
        """Read the files that a list names."""
        self._read(measurement, served, ["list", served.root, names], files=files, digest=digest)

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
        read(["list", served.root, names.name])
    processes.shell(
        'tar -C "$1" -cf - "$2" | wc -c; find "$1/$2" -size +0; ls -f "$1/$2"', served.root, name
    )


def read(arguments: list[str | Path]) -> dict[str, Any]:
    """Run the reader; what it reports."""
    report: dict[str, Any] = json.loads(processes.run([sys.executable, _READER, *arguments]).output)
    return report
