"""Unbuffered streams over descriptors, whose errors are those of KVFS."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from kvfs.errors import Invalid
from kvfs_backing_posix._errors import translated

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_DROP_STEP = 8 << 20
"""How far a direct reader is ahead before it drops what lies behind."""


class Reader(io.RawIOBase):
    """One object from its first byte to its last, seekable; pinned to the file that was opened.

    :param direct: drop from the page cache what was read, whoever else had it there.
    """

    def __init__(self, fd: int, start: int, *, what: str, direct: bool) -> None:
        super().__init__()
        self._fd = fd
        self._position = start
        self._what = what
        self._direct = direct
        self._dropped = start
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        self._check()
        return self._fd

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer``, or less of it; 0 at the end.

        :raises KVFSError: the device or server failed.
        """
        self._check()
        try:
            count = os.preadv(self._fd, [buffer], self._position)
        except OSError as error:
            raise translated(error, f"reading {self._what}") from error
        self._advance(count)
        return count

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes; all that are left for a negative size."""
        self._check()
        if size is None or size < 0:
            return self.readall()
        try:
            data = os.pread(self._fd, size, self._position)
        except OSError as error:
            raise translated(error, f"reading {self._what}") from error
        self._advance(len(data))
        return data

    def _advance(self, count: int) -> None:
        self._position += count
        if self._direct and self._position - self._dropped >= _DROP_STEP:
            self._drop()

    def _drop(self) -> None:
        if self._position > self._dropped and hasattr(os, "posix_fadvise"):
            length = self._position - self._dropped
            os.posix_fadvise(self._fd, self._dropped, length, os.POSIX_FADV_DONTNEED)
        self._dropped = self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte of the object.

        :raises Invalid: before its beginning.
        """
        self._check()
        base = 0
        if whence == os.SEEK_CUR:
            base = self._position
        elif whence == os.SEEK_END:
            base = os.fstat(self._fd).st_size
        if base + offset < 0:
            raise Invalid(f"posix: {self._what}: a position before the beginning")
        if self._direct:
            self._drop()
        self._position = self._dropped = base + offset
        return self._position

    def tell(self) -> int:
        self._check()
        return self._position

    def close(self) -> None:
        if not self.closed:
            if self._direct:
                self._drop()
            os.close(self._fd)
        super().close()


class Writer(io.RawIOBase):
    """A file being written, from its beginning.  Closing it leaves the descriptor open.

    A buffer in front of it may be flushed late, by the garbage collector even, when the number of
    the descriptor belongs to another file: after :meth:`abandon` nothing is written any more.
    """

    def __init__(self, fd: int, *, what: str) -> None:
        super().__init__()
        self._fd = fd
        self._what = what
        self._position = 0
        self._abandoned = False

    def abandon(self) -> None:
        """Drop whatever is still written."""
        self._abandoned = True

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: ReadableBuffer) -> int:
        """Append ``data``, or the beginning of it.

        :raises Exhausted: the disk is full.
        """
        if self._abandoned:
            return memoryview(data).nbytes
        try:
            count = os.write(self._fd, data)
        except OSError as error:
            raise translated(error, f"writing {self._what}") from error
        self._position += count
        return count
