"""``kvfs tar``"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvfs.errors import AlreadyExists, Invalid, NotFound
from kvfs.files.records import tarball_of
from kvfs.volume import Volume
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._paths import descend
from kvfs_frontend_cli._progress import Work, fetching
from kvfs_frontend_cli.commands._options import ShowProgress


def tar(
    volume: str,
    tarball: str,
    /,
    *,
    output: Annotated[
        str, Parameter(name=("-o", "--output"), help="Write to this file; - is standard output.")
    ] = "-",
    force: Annotated[bool, Parameter(name=("-f", "--force"), help="Replace the file.")] = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> None:
    """Write a tarball anew, as it is now: uncompressed; in the same order, if it is unchanged.

    :param volume: The volume.
    :param tarball: The path of the tarball in it.
    """
    if output == "-" and _output.is_terminal():
        raise Invalid("a tarball is not for a terminal: give a file with -o, or a pipe")
    with opened(volume, place) as source:
        path = os.fsencode(tarball)
        identity = _tarball(source, path)
        written = 0

        def poll() -> Iterator[Work]:
            record = source.tarballs.catalogue.get(identity)
            if written:
                yield Work(
                    name="writing",
                    members=record.members if record else 0,
                    bytes_done=written,
                    bytes_total=record.content_bytes if record else None,
                )

        with fetching(source, progress, poll), _writer(output, force) as write:

            def count(data: bytes | memoryview) -> None:
                nonlocal written
                write(data)
                written += len(data)

            source.tarballs.fetch(identity)
            report = source.export(path, count)
    if report.sockets:
        _output.complain(f"{report.sockets:,} sockets were left out: an archive cannot hold any")


def _tarball(volume: Volume, path: bytes) -> int:
    files = volume.files(wait=False)
    try:
        inode, inside = descend(files, path)
    finally:
        files.close()
    tarball = tarball_of(inode)
    if not tarball or inside:
        raise NotFound(f"{path!r} is not the path of a tarball")
    return tarball


@contextmanager
def _writer(output: str, force: bool) -> Iterator[Callable[[bytes | memoryview], object]]:
    """Standard output; or a file that appears when it is complete."""
    if output == "-":
        yield _output.write
        _output.flush()
        return
    path = Path(output)
    if not force and os.path.lexists(path):
        raise _exists(path)
    draft = path.with_name(f".kvfs-{secrets.token_hex(8)}.part")
    try:
        with draft.open("xb", buffering=1 << 20) as file:
            yield file.write
        if force:
            draft.replace(path)
        else:
            os.link(draft, path)
    except FileExistsError as error:
        raise _exists(path) from error
    finally:
        draft.unlink(missing_ok=True)


def _exists(path: Path) -> AlreadyExists:
    return AlreadyExists(f"{path} exists (--force replaces it)")
