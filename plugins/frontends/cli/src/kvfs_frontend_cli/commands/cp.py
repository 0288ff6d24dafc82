"""``kvfs cp``"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvfs.errors import Invalid, KVFSError, NotFound
from kvfs.files import Files
from kvfs.files.records import ROOT_INODE
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._copying import CopyOut
from kvfs_frontend_cli._exits import Exit, exit_of
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._progress import Work, fetching
from kvfs_frontend_cli.commands._options import ShowProgress


def cp(
    volume: str,
    path: str,
    /,
    *paths: str,
    recursive: Annotated[
        bool, Parameter(name=("-r", "-R", "--recursive"), help="Directories, and all below.")
    ] = False,
    force: Annotated[
        bool,
        Parameter(name=("-f", "--force"), help="Replace files; merge into directories."),
    ] = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> int:
    """Copy files out of a volume.

    :param volume: The volume.
    :param path: What to copy.
    :param paths: More of that, and last the destination: a directory, or the name of the copy.
    """
    if not paths:
        raise Invalid("cp needs a destination behind what it copies: kvfs cp VOLUME PATH... DEST")
    sources, destination = [path, *paths[:-1]], Path(paths[-1])
    into_directory = destination.is_dir()
    if len(sources) > 1 and not into_directory:
        raise Invalid(f"{destination} is not a directory: several files cannot be copied there")
    with opened(volume, place) as source:
        files = source.files(wait=True)
        copy = CopyOut(files, force=force, complain=_output.complain)

        def poll() -> Iterator[Work]:
            report = copy.report
            if report.members or report.content_bytes:
                yield Work(
                    name="copying",
                    members=report.members,
                    bytes_done=report.content_bytes,
                    bytes_total=None,
                )

        with fetching(source, progress, poll):
            for wanted in sources:
                try:
                    _copy(
                        copy,
                        files,
                        wanted=wanted,
                        destination=destination,
                        into=into_directory,
                        recursive=recursive,
                    )
                except (NotFound, Invalid) as error:
                    copy.report.fail(error)
                    _output.complain(str(error))
        files.close()
    report = copy.report
    if report.xattrs_lost:
        _output.complain(f"{report.xattrs_lost:,} extended attributes cannot be kept there")
    return _code(report.failed)


def _copy(
    copy: CopyOut, files: Files, *, wanted: str, destination: Path, into: bool, recursive: bool
) -> None:
    attributes = files.open_path(os.fsencode(wanted), follow=not recursive)
    if attributes.is_directory and not recursive:
        raise Invalid(f"{wanted} is a directory: copy it with -r")
    name = os.fsencode(wanted).rstrip(b"/").rpartition(b"/")[2]
    if attributes.inode == ROOT_INODE:
        destination.mkdir(exist_ok=True)
        copy.copy_contents(ROOT_INODE, destination)
    elif name in (b"", b".", b".."):
        raise Invalid(f"{wanted}: end the path in the name of what is to be copied")
    elif into:
        copy.copy(attributes, destination, name)
    else:
        copy.copy(attributes, destination.parent, os.fsencode(destination.name))


def _code(failed: list[KVFSError]) -> int:
    """The code of what failed, where all of it failed alike."""
    codes = {exit_of(error) for error in failed}
    return codes.pop() if len(codes) == 1 else Exit.CORRUPT if codes else Exit.OK
