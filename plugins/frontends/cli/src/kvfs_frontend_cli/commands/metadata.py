"""``kvfs dump`` and ``kvfs load``"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvfs.errors import AlreadyExists, Conflict
from kvfs.metrics import Progress
from kvfs.migration import metadata
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._locate import Place, locate
from kvfs_frontend_cli._opening import open_located
from kvfs_frontend_cli._progress import showing, works_of
from kvfs_frontend_cli.commands._options import ShowProgress

Force = Annotated[bool, Parameter(name="--force", help="Replace what is there.")]


def dump(
    volume: str,
    file: Path | None = None,
    /,
    *,
    force: Force = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Write the metadata of the files that were written to a volume, as lines of JSON.

    :param volume: The volume.
    :param file: What to write; else standard output.
    """
    if file is not None and file.exists() and not force:
        raise AlreadyExists(f"{file} exists: --force replaces it")
    seen = Progress()
    with open_located(locate(volume, place)) as opened, showing(lambda: works_of(seen), progress):
        if file is None:
            metadata.dump(opened, _output.write, progress=seen)
            return
        draft = file.with_name(f"{file.name}.part")
        try:
            with draft.open("wb") as stream:
                summary = metadata.dump(opened, stream.write, progress=seen)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)
    _output.line(f"{file}: {summary.inodes:,} inodes with {summary.names:,} names")


def load(
    volume: str,
    file: Path | None = None,
    /,
    *,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Make in an empty volume what kvfs dump wrote; files are holes of their size.

    :param volume: The volume to fill.
    :param file: What to read; else standard input.
    """
    located = locate(volume, place)
    if located.served is not None:
        raise Conflict(f"{volume} is mounted: unmount it, then load into it")
    seen = Progress()
    with open_located(located) as opened, showing(lambda: works_of(seen), progress):
        if file is None:
            summary = metadata.load(opened, sys.stdin.buffer, progress=seen)
        else:
            with file.open("rb") as stream:
                summary = metadata.load(opened, stream, progress=seen)
    _output.line(f"{opened.name}: {summary.inodes:,} inodes with {summary.names:,} names")
