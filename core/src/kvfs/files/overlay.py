"""What was written inside a tarball, over what was fetched of it.

The sealed store keeps a tarball as its object has it; what is changed there goes to the state
store, under the same keys.  So a tarball that was written to takes only the space of what changed,
and begins in an instant, whatever its size.  A record above stands for the one below:

- An empty value says that the record below is not there any more.
- Extended attributes and links may have empty values, so above these have one byte more.
- An inode above says from which number on the extents below are not its any more
  (:func:`kvfs.files.records.pack_inode`): whoever cuts off a large file need not name its extents.
- What hangs on an inode that is gone is gone with it, and need not be named either.

What belongs to the volume itself has nothing below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from kvfs.files.records import (
    EXTENT_KEY,
    ID_BITS,
    VOLUME_ID,
    extent_key,
    id_bytes,
)
from kvfs.kv import Buffer, Readable

_ID_AT = 1
_ID_END = _ID_AT + ID_BITS // 8
_OWN = id_bytes(VOLUME_ID)
_SPACES = b"ADEHI"
"""What a tarball is made of; other spaces are of one store only."""
TAGGED = b"AH"
"""The spaces in which values may be empty."""
TAG = b"="
"""Is behind values of those, above."""
GONE = b""
"""The value above of what is below, and is not to be seen."""

Records = Iterator[tuple[Buffer, Buffer]]
_NUMBERS_END = 1 << 32


class Overlay:
    """One store as if it were laid into another.  What it returns is valid as long as theirs is.

    :param upper: holds what was written, as it is stored.
    :param lower: what that lies over.
    """

    __slots__ = ("lower", "upper")

    def __init__(self, upper: Readable, lower: Readable) -> None:
        self.upper = upper
        self.lower = lower

    def shown(self, key: bytes, found: Buffer | None) -> Buffer | None:
        """The record of ``key``, if ``found`` is what stands above."""
        if not _lies_over(key):
            return found
        return self.lower.get(key) if found is None else _shown(key, found)

    @staticmethod
    def stored(key: bytes, value: Buffer) -> Buffer:
        """What has to stand above for ``value`` to be shown."""
        return bytes(value) + TAG if key[0] in TAGGED and _lies_over(key) else value

    def hides(self, key: bytes) -> bool:
        """Must something stand above for a record not to be shown?"""
        return _lies_over(key) and self.lower.get(key) is not None

    def get(self, key: bytes) -> Buffer | None:
        """The value of ``key``, or ``None``."""
        return self.shown(key, self.upper.get(key))

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        """The values of ``keys``, in their order, which are of one space."""
        found = [*self.upper.get_many(keys)]
        if not keys or not _lies_over(keys[0]):
            return found
        absent = [at for at, value in enumerate(found) if value is None]
        found = [None if value is None else _shown(keys[0], value) for value in found]
        for at, value in zip(absent, self.lower.get_many([keys[at] for at in absent]), strict=True):
            found[at] = value
        return found

    def scan(self, start: bytes, stop: bytes | None, *, limit: int | None = None) -> Records:
        """(key, value) with ``start <= key < stop``, of one space, in byte order."""
        above = self.upper.scan(start, stop)
        if not _lies_over(start):
            return islice(above, limit)
        return islice(self._merge(above, self.lower.scan(start, stop)), limit)

    @staticmethod
    def _merge(upper: Records, lower: Records) -> Records:
        below = next(lower, None)
        for key, value in upper:
            raw = bytes(key)
            while below is not None and bytes(below[0]) < raw:
                yield below
                below = next(lower, None)
            if below is not None and bytes(below[0]) == raw:
                below = next(lower, None)
            shown = _shown(raw, value)
            if shown is not None:
                yield key, shown
        if below is not None:
            yield below
            yield from lower


def _lies_over(key: bytes) -> bool:
    """Is it of a tarball?"""
    return key[0] in _SPACES and key[_ID_AT:_ID_END] != _OWN


def _shown(key: bytes, value: Buffer) -> Buffer | None:
    if not len(value):
        return None
    return value[: -len(TAG)] if key[0] in TAGGED else value


def scan_extents(
    view: Readable | Overlay, inode: int, cut: int | None, first: int, stop: int | None = None
) -> Iterator[tuple[int, Buffer]]:
    """(number, value) of the extents of a file from ``first`` up to ``stop``.

    :param cut: of its inode.
    """
    end = _NUMBERS_END if stop is None else stop
    if isinstance(view, Overlay) and cut is not None:
        middle = min(max(cut, first), end)
        spans: list[tuple[Readable | Overlay, int, int]]
        spans = [(view, first, middle), (view.upper, middle, end)]
    else:
        spans = [(view, first, end)]
    for source, low, high in spans:
        if low < high:
            top = extent_key(inode, high) if high < _NUMBERS_END else extent_key(inode + 1, 0)
            for key, value in source.scan(extent_key(inode, low), top):
                if len(value):
                    yield EXTENT_KEY.unpack(bytes(key))[2], value


def get_extents(
    view: Readable | Overlay, inode: int, cut: int | None, numbers: range
) -> Sequence[Buffer | None]:
    """The values of some extents of a file, ``None`` where there is none."""
    keys = [extent_key(inode, number) for number in numbers]
    if cut is None or not isinstance(view, Overlay) or numbers.stop <= cut:
        return view.get_many(keys)
    below = max(cut - numbers.start, 0)
    found = [*view.get_many(keys[:below])] if below else []
    return [*found, *view.upper.get_many(keys[below:])]


__all__ = ["GONE", "Overlay", "get_extents", "scan_extents"]
