"""``kvfs cat``"""

from __future__ import annotations

import os
import stat

from kvfs.errors import Invalid, KVFSError
from kvfs.files import Attributes, Files
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._exits import Exit, exit_of
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._progress import fetching
from kvfs_frontend_cli.commands._options import ShowProgress

_STEP = 1 << 20


def cat(
    volume: str,
    path: str,
    /,
    *paths: str,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> int:
    """Print the contents of files, one after the other, byte for byte.

    Members that have arrived are printed while the rest of their tarball is on its way.

    :param volume: The volume.
    :param path: The file.
    :param paths: More files.
    """
    code = Exit.OK
    with opened(volume, place) as source, fetching(source, progress):
        files = source.files(wait=True)
        for wanted in (path, *paths):
            try:
                _print(files, files.open_path(os.fsencode(wanted)), wanted)
            except KVFSError as error:
                _output.complain(str(error))
                code = code or exit_of(error)
        files.close()
    return code


def _print(files: Files, attributes: Attributes, path: str) -> None:
    if attributes.is_directory:
        raise Invalid(f"{path} is a directory")
    if not stat.S_ISREG(attributes.mode):
        raise Invalid(f"{path} is a special file: it has no contents here")
    for offset in range(0, attributes.size, _STEP):
        for piece in files.read(attributes.inode, offset, _STEP):
            _output.write(piece)
