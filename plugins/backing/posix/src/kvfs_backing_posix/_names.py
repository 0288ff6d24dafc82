"""Object names as files below a directory, without leaving it.

Each directory of a name is opened without following symbolic links, so no directory outside of the
store's is ever read or written.  The last part may be a link to a file anywhere: that is how people
assemble a folder of tarballs.  To write such a name replaces the link, not what it leads to.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kvfs.errors import Invalid, NotFound
from kvfs_backing_posix._errors import translated

OWN_DIRECTORY = ".kvfs-tmp"
"""Where objects are written before they appear.  Never listed, never an object."""
_STEP = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_STEP_INSIDE = _STEP | os.O_NOFOLLOW


def encoded(name: str) -> bytes:
    """The bytes of a name; names sort as these."""
    return name.encode("utf-8", "surrogateescape")


def decoded(name: bytes) -> str:
    """The name of bytes out of a directory."""
    return name.decode("utf-8", "surrogateescape")


def open_root(root: Path) -> int:
    """A descriptor of the store's directory.

    :raises NotFound: it is not there; it may not be mounted.
    """
    try:
        return os.open(root, _STEP)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"posix: there is no directory {root}: create it, or mount what should hold it"
        ) from error
    except OSError as error:
        raise translated(error, f"opening the directory {root}") from error


@contextmanager
def parent_of(root: Path, name: str, *, create: bool = False) -> Iterator[tuple[int, bytes]]:
    """A descriptor of the directory that holds ``name``, and the last part of the name.

    :param create: make missing directories, durably.
    :raises NotFound: a directory is missing, or is a symbolic link.
    :raises Invalid: the name is one of the store's own.
    """
    *directories, last = encoded(name).split(b"/")
    if (directories or [last])[0] == OWN_DIRECTORY.encode():
        raise Invalid(f"posix: {name!r}: {OWN_DIRECTORY} is the store's own")
    fd = open_root(root)
    try:
        for directory in directories:
            below = _step(fd, directory, name, create=create)
            os.close(fd)
            fd = below
        yield fd, last
    finally:
        os.close(fd)


def _step(fd: int, directory: bytes, name: str, *, create: bool) -> int:
    try:
        try:
            return os.open(directory, _STEP_INSIDE, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        try:
            os.mkdir(directory, dir_fd=fd)
            os.fsync(fd)
        except FileExistsError:
            pass
        return os.open(directory, _STEP_INSIDE, dir_fd=fd)
    except OSError as error:
        if create and error.errno == errno.ENOTDIR:
            # A link gives ENOTDIR too, as O_DIRECTORY is looked at first.
            error = OSError(errno.EISDIR, "")
            raise translated(error, f"{name!r}: {decoded(directory)!r} is no directory") from error
        raise translated(error, f"{name!r}") from error
