"""The posix store: :class:`PosixDriver`.

Threads: any.  Nothing is kept open between calls, so the file system can be unmounted, and a NAS
that came back is found again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, cast

import attrs

from kvfs.backing import BackingDriver, ObjectInfo
from kvfs.errors import Closed, NotFound
from kvfs_backing_posix._errors import translating
from kvfs_backing_posix._listing import info_of, objects
from kvfs_backing_posix._names import open_root, parent_of
from kvfs_backing_posix._settings import CAPABILITY, PosixSettings
from kvfs_backing_posix._streams import Reader
from kvfs_backing_posix._writing import Publisher, remove_abandoned


class PosixDriver(BackingDriver):
    """The files below a directory.  Thread-safe.

    Regular files are objects, and so are symbolic links to regular files, wherever they lead.
    Symbolic links to directories are not followed: nothing behind them is listed or found.
    """

    def __init__(self, settings: PosixSettings) -> None:
        """:raises NotFound: the directory is not there."""
        self._root = settings.path.absolute()
        self._direct = settings.direct
        self._closed = False
        self._publisher = Publisher(self._root, settings.fsync)
        os.close(open_root(self._root))
        writable = os.access(self._root, os.W_OK | os.X_OK)
        self.capability = attrs.evolve(CAPABILITY, writable=writable)
        if writable:
            remove_abandoned(self._root)

    def _open(self) -> None:
        if self._closed:
            raise Closed(f"posix: the store {self._root} is closed")

    def _open_file(self, name: str) -> tuple[int, os.stat_result]:
        """A descriptor of a regular file, to be closed by the caller, and its attributes."""
        with (
            parent_of(self._root, name) as (parent, last),
            translating(f"opening {name!r}"),
        ):
            # Without O_NONBLOCK the open of a FIFO would wait for a writer.
            fd = os.open(last, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
            try:
                found = os.fstat(fd)
                if not stat.S_ISREG(found.st_mode):
                    raise NotFound(f"posix: {name!r} is not a regular file")
            except BaseException:
                os.close(fd)
                raise
            return fd, found

    def stat(self, name: str) -> ObjectInfo:
        self._open()
        with (
            parent_of(self._root, name) as (parent, last),
            translating(f"{name!r}"),
        ):
            found = os.stat(last, dir_fd=parent)
        if not stat.S_ISREG(found.st_mode):
            raise NotFound(f"posix: {name!r} is not a regular file")
        return info_of(name, found)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """As :meth:`BackingDriver.list`; the entries of one directory at a time are in memory."""
        self._open()
        return objects(self._root, prefix, after)

    def read(self, name: str, start: int, stop: int) -> bytes:
        self._open()
        fd, found = self._open_file(name)
        try:
            with translating(f"reading {name!r}"):
                # What lies behind the end must not cost memory.
                wanted = min(stop, found.st_size) - start
                parts = []
                while wanted > 0 and (part := os.pread(fd, wanted, start)):
                    parts.append(part)
                    start += len(part)
                    wanted -= len(part)
        finally:
            os.close(fd)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        self._open()
        fd, _ = self._open_file(name)
        return cast(BinaryIO, Reader(fd, start, what=repr(name), direct=self._direct))

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        self._open()
        return self._publisher.write(name, if_absent=if_absent, if_match=if_match)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self._open()
        self._publisher.delete(name, if_match=if_match)

    def free_space(self) -> int | None:
        self._open()
        fd = open_root(self._root)
        try:
            with translating(f"{self._root}"):
                disk = os.fstatvfs(fd)
        finally:
            os.close(fd)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        self._closed = True


def open_store(settings: PosixSettings) -> PosixDriver:
    """Open the directory.

    :raises NotFound: it is not there.
    """
    return PosixDriver(settings)
