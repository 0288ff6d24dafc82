"""The disk: ``recorder.py IMAGE TRACE MOUNTPOINT`` serves ``image`` and ``mark`` until unmounted.

``image`` is the image file; what is written to it is logged.  ``mark`` takes notes of what has
happened outside: they stand in the trace in the order in which all of it reached the disk.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from enum import IntEnum
from struct import Struct
from typing import BinaryIO

import pyfuse3
import trio
from pyfuse3 import FileHandleT, InodeT

HEADER = Struct("<BxxxIQ")
"""Of an event in the trace: kind, length of the data behind it, offset on the disk."""


class Kind(IntEnum):
    """What happened."""

    WRITE = 1
    FLUSH = 2
    """Everything written before is on the disk when this is answered."""
    MARK = 3
    """Somebody outside took a note."""


_IMAGE, _MARK = InodeT(2), InodeT(3)
_NAMES = {b"image": _IMAGE, b"mark": _MARK}


class Recorder(pyfuse3.Operations):
    """Two files.  Requests are answered one after the other: a flush covers all writes before it.

    :param image: its descriptor.
    :param trace: opened for appending.
    """

    def __init__(self, image: int, trace: BinaryIO) -> None:
        super().__init__()
        self._image = image
        self._trace = trace

    def _log(self, kind: Kind, offset: int = 0, data: bytes = b"") -> None:
        self._trace.write(HEADER.pack(kind, len(data), offset) + data)

    async def lookup(
        self, parent_inode: InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if name not in _NAMES:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return await self.getattr(_NAMES[name], ctx)

    async def getattr(
        self, inode: InodeT, ctx: pyfuse3.RequestContext | None = None
    ) -> pyfuse3.EntryAttributes:
        found = pyfuse3.EntryAttributes()
        found.st_ino = inode
        found.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o600)
        if inode == _IMAGE:
            found.st_size = os.fstat(self._image).st_size
        elif inode != _MARK:
            found.st_mode = pyfuse3.ModeT(stat.S_IFDIR | 0o700)
        found.entry_timeout = found.attr_timeout = 3600
        return found

    async def open(
        self, inode: InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        # The pages of the kernel's cache would be a second disk, which nobody can cut.
        return pyfuse3.FileInfo(fh=FileHandleT(inode), direct_io=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        return os.pread(self._image, size, off)

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        if fh == _MARK:
            self._log(Kind.MARK, 0, buf)
            return len(buf)
        self._log(Kind.WRITE, off, buf)
        return os.pwrite(self._image, buf, off)

    async def fsync(self, fh: FileHandleT, datasync: bool) -> None:
        if fh == _IMAGE:
            self._log(Kind.FLUSH)

    async def flush(self, fh: FileHandleT) -> None:
        pass

    async def release(self, fh: FileHandleT) -> None:
        pass


def main(image: str, trace: str, mountpoint: str) -> None:
    """Serve until the mount ends."""
    with open(trace, "ab", buffering=1 << 20) as log:
        pyfuse3.init(Recorder(os.open(image, os.O_RDWR), log), mountpoint, {"fsname=kvfs-recorder"})
        try:
            trio.run(pyfuse3.main)
        finally:
            pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
