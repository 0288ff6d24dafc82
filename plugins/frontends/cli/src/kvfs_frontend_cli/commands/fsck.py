"""``kvfs fsck``"""

from __future__ import annotations

import time
from enum import IntEnum
from typing import Annotated

from cyclopts import Parameter

from kvfs.checking import Problem, Report, check
from kvfs.errors import Conflict, KVFSError
from kvfs.files.inspect import inode_text
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
    """Check what was written to a volume, and mend it.

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
    seen = Progress()

    def tell(problem: Problem) -> None:
        if as_json:
            path = None if problem.path is None else _output.text_of(problem.path)
            fields = {"kind": str(problem.kind), "inode": problem.inode, "path": path}
            _output.record(fields | {"text": problem.text})
        else:
            what = f"{problem.kind}: {_which(problem)}{_said(problem, repair)}"
            _output.line(_output.printable(what))

    began = time.monotonic()
    with showing(lambda: works_of(seen), wanted):
        report = check(volume, tell, repair=repair, progress=seen)
    seconds = format_seconds(time.monotonic() - began)
    outcome = _outcome(report)
    fields = {"outcome": outcome.name.lower(), "found": report.found.total(), "left": report.left}
    text = f"{volume.name}: {_summary(report, repair)}, {seconds}"
    if not volume.is_scratch:
        sealed = sum(volume.tarballs.is_sealed(tarball) for tarball, _ in volume.tarballs.catalogue)
        fields |= {"written": report.tarballs, "sealed": sealed - report.tarballs}
        text += (
            f"; {report.tarballs:,} tarballs were written to, {sealed - report.tarballs:,} more "
            "were fetched, each under a seal that only a complete fetch gets"
        )
    if as_json:
        _output.record(fields)
    else:
        _output.line(text)
    return outcome


def _which(problem: Problem) -> str:
    """The path of what it is about, where there is one, and its inode."""
    if problem.inode is None:
        return ""
    number = inode_text(problem.inode)
    if problem.path is None:
        return f"inode {number} "
    return f"/{_output.text_of(problem.path)} (inode {number}) "


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
