"""States of the caches: dropped, and warm again where a figure says so."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

_DROP = Path("/proc/sys/vm/drop_caches")
_PIECE_BYTES = 1 << 20


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
    """Read files, and all files below directories, so that their pages are in the page cache.

    :returns: how many bytes were read.
    """
    total = 0
    buffer = bytearray(_PIECE_BYTES)
    for path in paths:
        for file in _files(path):
            descriptor = os.open(file, os.O_RDONLY)
            try:
                while size := os.readv(descriptor, (buffer,)):
                    total += size
            finally:
                os.close(descriptor)
    return total


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        for directory, _, names in os.walk(path):
            for name in names:
                yield Path(directory, name)
    else:
        yield path
