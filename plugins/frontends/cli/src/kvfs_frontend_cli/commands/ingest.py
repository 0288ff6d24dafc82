"""``kvfs ingest``"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter

from kvfs.errors import Invalid, KVFSError
from kvfs.tarballs.report import IngestReport
from kvfs.tarballs.service import Job
from kvfs.units import format_bytes, format_seconds
from kvfs.volume import Volume
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._exits import Exit, exit_of
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._paths import tarballs_below
from kvfs_frontend_cli._progress import fetching
from kvfs_frontend_cli.commands._options import AsJSONLines, ShowProgress

_QUEUED = 16
"""Ingests asked for before the first of them is done."""


def ingest(
    volume: str,
    /,
    *paths: str,
    all_: Annotated[bool, Parameter(name="--all", help="Every tarball of the volume.")] = False,
    problems_max: Annotated[
        int, Parameter(name="--problems", help="How many of a tarball to print.", show_default=True)
    ] = 10,
    json: AsJSONLines = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> int:
    """Fetch tarballs now, and report what they hold that cannot be served.

    Exits with 0 when every member of every tarball is served.

    :param volume: The volume.
    :param paths: Tarballs, or directories of tarballs.
    """
    if bool(paths) == all_:
        raise Invalid("say which tarballs: one or more PATHs, or --all")
    with opened(volume, place) as source, fetching(source, progress):
        run = _Run(source, as_json=json, problems_max=problems_max)
        run.over(_wanted(source, paths))
        if not json:
            _output.line(run.summary())
        return run.code


def _wanted(volume: Volume, paths: tuple[str, ...]) -> Iterator[int]:
    if not paths:
        for tarball, _ in volume.tarballs.catalogue:
            yield tarball
    for path in paths:
        yield from tarballs_below(volume, os.fsencode(path))


class _Run:
    """A few ingests at a time, reported in the order in which they were asked for."""

    def __init__(self, volume: Volume, *, as_json: bool, problems_max: int) -> None:
        self._volume = volume
        self._as_json = as_json
        self._problems_max = problems_max
        self._fetched = self._present = self._failed = self._damaged = 0
        self.code = Exit.OK

    def over(self, tarballs: Iterator[int]) -> None:
        """Fetch and report them all."""
        queue: deque[Job] = deque()
        for tarball in tarballs:
            if self._volume.tarballs.is_sealed(tarball):
                self._present += 1
                self._report_present(tarball)
                continue
            queue.append(self._volume.tarballs.start(tarball))
            if len(queue) >= _QUEUED:
                self._finish(queue.popleft())
        while queue:
            self._finish(queue.popleft())

    def _finish(self, job: Job) -> None:
        with job.progress:
            job.progress.wait_for(lambda: job.done)
        if job.error is not None:
            self._failed += 1
            self._report_failed(job, job.error)
            return
        self._fetched += 1
        if job.report.lost:
            self._damaged += 1
            self.code = self.code or Exit.CORRUPT
        self._report(job.report)

    def _report_present(self, tarball: int) -> None:
        record = self._volume.tarballs.catalogue.get(tarball)
        if record is None:
            return
        if record.lost:
            self.code = self.code or Exit.CORRUPT
        if self._as_json:
            fields = {"object": record.object, "outcome": "present", "members": record.members}
            _output.record(fields | {"problems": record.problems, "lost": record.lost})

    def _report_failed(self, job: Job, error: KVFSError) -> None:
        self.code = self.code or exit_of(error)
        name = job.report.object
        if self._as_json:
            _output.record({"object": name, "outcome": "failed", "error": str(error)})
        _output.complain(str(error) if name in str(error) else f"{name}: {error}")

    def _report(self, report: IngestReport) -> None:
        if self._as_json:
            _output.record(_as_record(report))
            return
        seconds = max(report.seconds, 1e-9)
        _output.line(
            f"{_output.printable(report.object)}: {report.members:,} members, "
            f"{format_bytes(report.content_bytes)} in {format_seconds(report.seconds)} "
            f"({report.members / seconds:,.0f} members/s, "
            f"{report.content_bytes / seconds / 1e6:.1f} MB/s)"
            + (f", {report.problems_total} problems" if report.problems_total else "")
        )
        for problem in report.problems[: self._problems_max]:
            _output.line(f"  {problem.kind}: {_output.printable(str(problem))}")
        left = report.problems_total - min(len(report.problems), self._problems_max)
        if left > 0:
            _output.line(f"  and {left:,} more")

    def summary(self) -> str:
        """All of it in one line."""
        parts = [f"{self._fetched:,} fetched"]
        for number, what in (
            (self._damaged, "of them with members lost"),
            (self._present, "there already"),
            (self._failed, "failed"),
        ):
            if number:
                parts.append(f"{number:,} {what}")
        return ", ".join(parts)


def _as_record(report: IngestReport) -> dict[str, Any]:
    fields: dict[str, Any] = {"object": report.object, "outcome": "fetched"}
    for name in (
        "compression", "members", "files", "directories", "symlinks", "links", "others",
        "content_bytes", "archive_bytes", "seconds", "lost",
    ):  # fmt: skip
        fields[name] = getattr(report, name)
    fields["problems"] = [
        {"offset": problem.offset, "name": problem.name, "kind": problem.kind,
         "message": problem.message}
        for problem in report.problems
    ]  # fmt: skip
    fields["problems_total"] = report.problems_total
    return fields
