"""A bound on how much of the memory map counts as this process's resident memory.

Pages of a mapped file that were touched stay in the process's page tables, and ``top``, monitoring
and accounting count them as memory of the process: a daemon that has read 10 GB through the map
seems to use 10 GB.  The pages belong to the page cache, which the kernel reclaims as it likes; only
the bookkeeping grows.  ``madvise(MADV_DONTNEED)`` on a shared mapping of a file drops the page
table entries and nothing else: clean and dirty pages stay in the page cache, and the next access
maps them again (madvise(2), on shared mappings).  It is safe beside readers and in a commit.

One access may map much more than a page: Linux 6.18 maps the whole folio that it falls on, up to
2 MiB.  So it takes few reads to exceed a bound, and memory in use is looked at often.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from threading import Lock

import attrs

_MADV_DONTNEED = 4

READS_PER_CHECK = 16
PUTS_PER_CHECK = 32
"""Between two looks at the memory in use, which cost under a microsecond each.  With 2 MiB mapped
by each access, the bound is exceeded by some tens of MiB at worst."""

_madvise = ctypes.CDLL(None, use_errno=True).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_madvise.restype = ctypes.c_int


def _mapping(path: Path) -> tuple[int, int] | None:
    """Address and length of this process's mapping of ``path``, from /proc/self/maps."""
    inode = path.stat().st_ino
    try:
        lines = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and (
            (int(fields[4]) == inode and fields[5].endswith(f"/{path.name}"))
            or fields[5] == str(path)
        ):
            first, _, last = fields[0].partition("-")
            return int(first, 16), int(last, 16) - int(first, 16)
    return None


@attrs.define
class Resident:
    """The residency of one map.  Any thread may call :meth:`check`."""

    _bytes_max: int
    _address: int
    _length: int
    _statm_fd: int
    _floor: int = 0
    """Mapped files other than the map, libraries above all, when last seen without the map."""
    _lock: Lock = attrs.field(factory=Lock)

    @classmethod
    def watch(cls, path: Path, *, bytes_max: int) -> Resident | None:
        """Watch the map of ``path``, just opened; ``None`` where the system does not show it."""
        found = _mapping(path)
        if found is None:
            return None
        try:
            statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        watched = cls(bytes_max, *found, statm)
        watched._floor = watched._mapped()
        return watched

    def _mapped(self) -> int:
        pages = os.pread(self._statm_fd, 128, 0).split()[2]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def check(self) -> None:
        """Unmap what is resident if it exceeds the bound."""
        # Not while the map goes: the same addresses may be something else's at once.
        with self._lock:
            if self._length and self._mapped() - self._floor > self._bytes_max:
                _madvise(self._address, self._length, _MADV_DONTNEED)
                self._floor = self._mapped()

    def stop(self) -> None:
        """The map is about to go."""
        with self._lock:
            if self._length:
                self._length = 0
                os.close(self._statm_fd)
