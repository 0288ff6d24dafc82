"""``kvfs kv``"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvfs import migration
from kvfs.errors import Invalid
from kvfs.metrics import Progress
from kvfs.migration import Report
from kvfs.units import format_bytes, format_seconds
from kvfs.volume import VolumeConfig
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._exits import Stopped
from kvfs_frontend_cli._locate import Place, locate
from kvfs_frontend_cli._opening import claim
from kvfs_frontend_cli._progress import showing, works_of
from kvfs_frontend_cli.commands._options import AsJSON, ShowProgress

Resume = Annotated[bool, Parameter(name="--resume", help="Go on with what was broken off.")]
Force = Annotated[bool, Parameter(name="--force", help="Replace what is there.")]


def copy(
    source: str,
    destination: str,
    /,
    *,
    resume: Resume = False,
    force: Force = False,
    json: AsJSON = False,
    progress: ShowProgress = None,
) -> None:
    """Copy what a volume has fetched to another engine, and compare.

    :param source: The volume to copy.
    :param destination: The volume to make.
    """
    config, target = locate(source).config, _destination(destination, Place())
    _run(
        lambda seen: migration.copy(config, target, resume=resume, force=force, progress=seen),
        done="all read back and compared",
        as_json=json,
        wanted=progress,
    )


def dump(
    volume: str,
    file: Path,
    /,
    *,
    resume: Resume = False,
    force: Force = False,
    json: AsJSON = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Write what a volume has fetched to a file.

    :param volume: The volume.
    :param file: What to write: NAME.kvfs, or NAME.kvfs.zst to have it compressed.
    """
    if not file.parent.is_dir():
        raise Invalid(f"there is no directory {file.parent} to put {file.name} into")
    config = locate(volume, place).config
    _run(
        lambda seen: migration.dump(config, file, resume=resume, force=force, progress=seen),
        done="all with checksums",
        as_json=json,
        wanted=progress,
    )


def load(
    file: Path,
    volume: str,
    /,
    *,
    resume: Resume = False,
    force: Force = False,
    json: AsJSON = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Make a volume out of a file that kvfs kv dump wrote.

    :param file: The file.
    :param volume: The volume to make.
    """
    config = _destination(volume, place)
    _run(
        lambda seen: migration.load(file, config, resume=resume, force=force, progress=seen),
        done="all read back and compared",
        as_json=json,
        wanted=progress,
    )


def _destination(volume: str, place: Place) -> VolumeConfig:
    located = locate(volume, place)
    if located.served is not None:
        raise Invalid(f"{volume} is mounted: unmount it, then write to it")
    claim(located)
    return located.config


def _run(
    work: Callable[[Progress], Report], *, done: str, as_json: bool, wanted: bool | None
) -> None:
    """Do it, showing how far it is, and say what came of it.

    :param done: what was done with the records, besides writing them.
    """
    seen = Progress()

    began = time.monotonic()
    try:
        with showing(lambda: works_of(seen), wanted):
            report = work(seen)
    except (KeyboardInterrupt, Stopped):
        _output.complain("what is there so far is incomplete: --resume goes on with it")
        raise
    _print(report, done, time.monotonic() - began, as_json=as_json)


def _print(report: Report, done: str, seconds: float, *, as_json: bool) -> None:
    if as_json:
        names = ("records", "bytes", "longest_key", "largest_value", "digest")
        _output.document(
            {
                "volume": report.volume,
                "stores": {
                    name: {fact: getattr(tally, fact) for fact in names}
                    for name, tally in report.stores.items()
                },
                "written": report.written,
                "seconds": seconds,
            }
        )
        return
    for name, tally in report.stores.items():
        _output.line(
            f"{name}: {tally.records:,} records, {format_bytes(tally.bytes)}, digest {tally.digest}"
        )
    there = report.records - report.written
    _output.line(
        f"{report.written:,} records written"
        + (f", {there:,} were there already" if there > 0 else "")
        + f", {done}, in {format_seconds(seconds)}"
    )
