"""How often the kernel was given each inode, and has not let go of it.

What is unlinked stays until nobody has it open.  The kernel does not say who has it open, but it
keeps an inode for whoever has, and says when it forgets it.
"""

from __future__ import annotations

from array import array
from threading import Lock

_BITS = 12
_SIZE = 1 << _BITS
_COUNT_MAX = (1 << 16) - 1


class References:
    """Counts, two bytes for each inode that is near one that is counted.  Thread-safe.

    One that was given out more than 65,534 times is held until the end.

    :param complete: ``False``: others gave out inodes before, and it is not known which.  So any
        may be in use, until the kernel lets go of it.
    """

    def __init__(self, *, complete: bool = True) -> None:
        self._complete = complete
        self._pages: dict[int, array[int]] = {}
        self._held: dict[int, int] = {}
        self._lock = Lock()
        self.user = b""
        """Whose they are, where several processes have some: the value of an ``U`` record."""

    def add(self, inode: int) -> None:
        """It was given out once more."""
        number = inode >> _BITS
        with self._lock:
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = array("H", bytes(2 * _SIZE))
                self._held[number] = 0
            count = page[inode & _SIZE - 1]
            if count == 0:
                self._held[number] += 1
            if count < _COUNT_MAX:
                page[inode & _SIZE - 1] = count + 1

    def drop(self, inode: int, count: int) -> bool:
        """The kernel lets go of it so often; does it have it no more?"""
        number = inode >> _BITS
        with self._lock:
            page = self._pages.get(number)
            if page is None:
                return True
            held = page[inode & _SIZE - 1]
            if held == _COUNT_MAX:
                return False
            left = page[inode & _SIZE - 1] = max(held - count, 0)
            if held and not left:
                self._held[number] -= 1
                if not self._held[number]:
                    del self._pages[number], self._held[number]
            return left == 0

    def __contains__(self, inode: int) -> bool:
        if not self._complete:
            return True
        page = self._pages.get(inode >> _BITS)
        return page is not None and page[inode & _SIZE - 1] > 0


__all__ = ["References"]
