"""States of the caches: dropped, and warm again where a figure says so."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")
_PIECE_BYTES = 1 << 20
_LARGE_BYTES = 64 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

_mincore = ctypes.CDLL(None, use_errno=True).mincore
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def can_drop() -> bool:
    """May this process drop the kernel's caches?  Takes root."""
    return os.access(_DROP, os.W_OK)


def drop() -> bool:
    """Write out what is dirty, then drop the kernel's page, dentry and inode caches.

    :returns: ``False``: not allowed; what is dirty was written out all the same.
    """
    os.sync()
    try:
        _DROP.write_text("3")
    except OSError:
        return False
    return True


def warm(paths: Iterable[Path]) -> int:
    """Have files, and all files below directories, in the page cache.

    Large files that are there already, as the kernel says (mincore(2)), are not read again.

    :returns: how many bytes were read.
    """
    total = 0
    buffer = bytearray(_PIECE_BYTES)
    for path in paths:
        for file in _files(path):
            try:
                descriptor = os.open(file, os.O_RDONLY)
            except FileNotFoundError:
                continue  # an engine goes on compacting
            try:
                if _is_resident(descriptor):
                    continue
                while size := os.readv(descriptor, (buffer,)):
                    total += size
            finally:
                os.close(descriptor)
    return total


def _is_resident(descriptor: int) -> bool:
    """Is a large file wholly in the page cache?  Small ones are read faster than asked about."""
    size = os.fstat(descriptor).st_size
    if size < _LARGE_BYTES:
        return False
    pages = -(-size // _PAGE_BYTES)
    vector = (ctypes.c_ubyte * pages)()
    # A private map, so that ctypes may have its address without the right to write the file.
    with mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE) as view:
        start = ctypes.c_char.from_buffer(view)
        failed = _mincore(ctypes.addressof(start), size, vector)
        del start
    return not failed and sum(value & 1 for value in vector) == pages


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        for directory, _, names in os.walk(path):
            for name in names:
                yield Path(directory, name)
    elif path.exists():
        yield path
