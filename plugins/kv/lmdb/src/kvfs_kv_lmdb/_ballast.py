"""Room to delete on a full disk.

LMDB never overwrites a page that a reader may need, so a batch that only deletes takes new pages
before it frees old ones, and fails when the disk is full: a store that ran full could not be
emptied.  So a file of some MiB is kept beside the data, whose blocks nobody else can take; when a
delete does not find room, the file is cut to nothing, and the delete is made again.  It is filled
again when there is room.
"""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path

import attrs

NAME = "ballast"
_BYTES_MIN = 1 << 20
_BYTES_MAX = 16 << 20
_SHARE = 256
"""The list of freed pages is the larger part of what a delete writes: 8 bytes for each 4 KiB."""

_libc = ctypes.CDLL(None, use_errno=True)
# Where off_t is short the plain name takes short offsets; where it is not there may be only that.
_fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    _fallocate.restype = ctypes.c_int


def bytes_wanted(used: int) -> int:
    """How large the ballast of a store of ``used`` bytes should be."""
    return max(_BYTES_MIN, min(used // _SHARE, _BYTES_MAX))


def _allocate(fd: int, length: int) -> bool:
    # The C library's posix_fallocate would write into each block where the file system cannot
    # allocate; the system call says so instead, and then there is no ballast.
    while _fallocate is not None and _fallocate(fd, 0, 0, length):
        if ctypes.get_errno() != errno.EINTR:
            return False
    return _fallocate is not None


@attrs.define
class Ballast:
    """The ballast of one store.  Used only by the holder of LMDB's write lock."""

    _fd: int
    _bytes: int
    _missed: int = 0
    """Commits since it could not be filled, so that a full disk is not asked at each."""

    @classmethod
    def open(cls, directory: Path) -> Ballast:
        """The ballast in ``directory``; an ``OSError`` if it cannot be opened."""
        fd = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return cls(fd, os.fstat(fd).st_size)

    def fill(self, used: int) -> None:
        """Make it as large as a store of ``used`` bytes needs, if there is room."""
        wanted = bytes_wanted(used)
        # Not at each byte that the store grows by.
        if self._bytes >= wanted - wanted // 8:
            return
        self._missed = (self._missed + 1) % 64
        if self._missed == 1:
            if _allocate(self._fd, wanted):
                self._bytes = wanted
                self._missed = 0
            else:
                # What a failed attempt did get would stay allocated.
                self._cut(self._bytes)

    def drop(self) -> bool:
        """Give up the blocks; were there any?"""
        dropped = os.fstat(self._fd).st_size > 0
        self._cut(0)
        self._bytes = 0
        return dropped

    def _cut(self, length: int) -> None:
        with suppress(OSError):
            os.ftruncate(self._fd, length)
            # A journal hands out freed blocks again once the freeing is on the disk.
            os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file, which stays."""
        os.close(self._fd)
