"""``kvfs fsck``"""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Annotated

from cyclopts import Parameter

from kvfs.checking import Problem, Report, check
from kvfs.errors import Conflict, KVFSError
from kvfs.metrics import Progress
from kvfs.units import format_seconds
from kvfs.volume import Volume
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._locate import Located, Place, locate
from kvfs_frontend_cli._opening import open_located
from kvfs_frontend_cli._progress import showing, works_of
from kvfs_frontend_cli._runtime import records
from kvfs_frontend_cli.commands._options import AsJSONLines, ShowProgress


class Outcome(IntEnum):
    """As fsck(8) has its exit codes."""

    CLEAN = 0
    MENDED = 1
    LEFT = 4
    NOT_CHECKED = 8


def fsck(
    volume: str,
    /,
    *,
    repair: Annotated[bool, Parameter(name="--repair", help="Mend what is wrong.")] = False,
    json: AsJSONLines = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> int:
    """Check the writable tree of a volume, and mend it.

    :param volume: The volume; not mounted.
    """
    try:
        located = locate(volume, place)
        _refuse_mounted(located)
        with open_located(located) as opened:
            return _check(opened, repair=repair, as_json=json, wanted=progress)
    except KVFSError as error:
        _output.complain(str(error))
        return Outcome.NOT_CHECKED


def _refuse_mounted(located: Located) -> None:
    for record in records():
        same = record.tables.get("kv") == located.tables["kv"]
        if located.served is not None or same:
            target = located.served.target if located.served else record.target
            raise Conflict(f"{located.origin} is mounted at {target}: first: kvfs umount {target}")


def _check(volume: Volume, *, repair: bool, as_json: bool, wanted: bool | None) -> int:
    if volume.read_only:
        sealed = sum(volume.tarballs.is_sealed(tarball) for tarball, _ in volume.tarballs.catalogue)
        if as_json:
            _output.record({"outcome": "clean", "sealed": sealed})
        else:
            _output.line(
                f"{volume.name}: nothing to check: {sealed:,} tarballs were fetched, each is under "
                "a seal that only a complete fetch gets, and can be fetched again"
            )
        return Outcome.CLEAN
    seen = Progress()

    def tell(problem: Problem) -> None:
        if as_json:
            fields = {"kind": str(problem.kind), "inode": problem.inode, "text": problem.text}
            _output.record(fields)
        else:
            what = "" if problem.inode is None else f"inode {problem.inode} "
            _output.line(_output.printable(f"{problem.kind}: {what}{_said(problem, repair)}"))

    began = time.monotonic()
    with showing(lambda: works_of(seen), wanted):
        report = check(volume, tell, repair=repair, progress=seen)
    outcome = _outcome(report)
    if as_json:
        _output.record(
            {"outcome": outcome.name.lower(), "found": report.found.total(), "left": report.left}
        )
    else:
        _output.line(
            f"{volume.name}: {_summary(report, repair)}, {format_seconds(time.monotonic() - began)}"
        )
    return outcome


def _said(problem: Problem, repair: bool) -> str:
    """Without the remedy where there is none."""
    return problem.text if repair else problem.text.rpartition(": ")[0]


def _outcome(report: Report) -> Outcome:
    if report.left:
        return Outcome.LEFT
    return Outcome.CLEAN if report.is_clean else Outcome.MENDED


def _summary(report: Report, repair: bool) -> str:
    if report.is_clean:
        return "clean"
    found = f"{report.found.total():,} problems found"
    if not repair:
        return f"{found}: kvfs fsck --repair mends them"
    return f"{found}, {report.left:,} could not be mended" if report.left else f"{found} and mended"
