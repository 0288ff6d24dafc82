"""What comes after a file: for whoever has contents ready before they are asked for.

Programs read a directory in one of three orders: as it was listed, by inode number (which is the
order in the tarball; ``cp``, ``rsync`` and large ``fts`` walks sort so), or by name.  Each is one
scan of the sealed store, but for names, whose directory has to be sorted once.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Container
from enum import Enum
from struct import Struct
from typing import NamedTuple

from kvfs.files.records import (
    ATTR_IN_DIRENT,
    BACK_POINTER,
    BACK_POINTER_IN_INODE,
    CONTENT_IN_INODE,
    DIRENT,
    DIRENT_IN_RECORD,
    FIRST_SLOT,
    FLAGS_IN_INODE,
    LAST_SLOT,
    NAME_IN_RECORD,
    NUMBER_BITS,
    VALIDITY,
    DirentFlag,
    InodeFlag,
    dirent_key,
    extent_key,
    inode_key,
)
from kvfs.kv import Buffer, KVStore, ReadView

NAMED_MAX = 4096
"""Directories with more files are not sorted by name."""
_SORTED_KEPT = 4
_STEP = 4
_STEPS_MIN = 64
"""Records looked at for each file wanted, and at least: a long row of others ends a search."""
_MODE_IN_ATTR = 60
_MODE = Struct("<I")
_SIZE_IN_ATTR = 8
_SIZE = Struct("<Q")
_REMOVED = DirentFlag.REMOVED.value
_EXTENTS = InodeFlag.EXTENTS.value


class Order(Enum):
    """In which order the files of a directory are read."""

    SLOT = "slot"
    """As ``readdir`` lists them."""
    NUMBER = "number"
    """By inode number: as they stand in the tarball, across its directories."""
    NAME = "name"
    """By the bytes of the name, as ``sorted`` and the shell's ``*`` do (in the C locale)."""


class Place(NamedTuple):
    """A regular file and where it stands in its directory."""

    inode: int
    parent: int
    slot: int


class Following:
    """Reads the sealed store ahead of a reader.  Used by one thread at a time.

    :param without: the trees that are written to here, so that their contents may be others; it may
        grow at any time.
    :param is_written: was a tree written to before, or elsewhere?
    """

    def __init__(
        self,
        sealed: KVStore,
        without: Container[int] = (),
        is_written: Callable[[int], bool] = lambda tree: False,
    ) -> None:
        self._sealed = sealed
        self._without = without
        self._is_written = is_written
        self._view: ReadView | None = None
        self._sorted: dict[int, _Names] = {}

    def release(self) -> None:
        """Let go of the engine's view; the next call takes a new one."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def _fresh(self) -> ReadView:
        if self._view is None:
            self._view = self._sealed.snapshot()
        else:
            self._view.refresh()
        return self._view

    def place(self, inode: int) -> Place | None:
        """Where a file stands, by the first of its names; ``None``: not here, or it may change."""
        if self._is_written(inode >> NUMBER_BITS):
            return None
        record = self._fresh().get(inode_key(inode))
        if record is None:
            return None
        return Place(inode, *BACK_POINTER.unpack_from(record, BACK_POINTER_IN_INODE))

    def after(self, order: Order, place: Place, limit: int) -> list[Place]:
        """At most ``limit`` regular files that are not empty, behind ``place``.

        Fewer also where they stand far apart; none where they may change.
        """
        if self._is_written(place.inode >> NUMBER_BITS):
            return []
        if order is Order.SLOT:
            return self._by_slot(place.parent, place.slot + 1, limit)
        if order is Order.NUMBER:
            return self._by_number(place.inode + 1, limit)
        return self._by_name(place, limit)

    def is_first(self, order: Order, place: Place) -> bool:
        """Is it where a reader of its directory in this order begins?"""
        if order is Order.SLOT:
            first = self._by_slot(place.parent, FIRST_SLOT, 1)
        elif order is Order.NUMBER:
            first = self._by_number(place.parent + 1, 1)
        else:
            first = self._names(place.parent).places[:1]
        return bool(first) and first[0].inode == place.inode

    def contents(self, inode: int, size_max: int) -> Buffer | None:
        """All contents of a small file, or ``None`` if it is large, empty or not here.

        Looks at the instant of the call before; valid until the next call.
        """
        if inode >> NUMBER_BITS in self._without:
            return None
        view = self._view or self._fresh()
        record = view.get(inode_key(inode))
        if record is None or not _has_contents(record, VALIDITY.size):
            return None
        size = _SIZE.unpack_from(record, VALIDITY.size + _SIZE_IN_ATTR)[0]
        if size > size_max:
            return None
        found: Buffer | None = record[CONTENT_IN_INODE:]
        if record[FLAGS_IN_INODE] & _EXTENTS:
            found = view.get(extent_key(inode, 0))
        # With a hole in it, or in several extents, it is left to the way of a READ.
        return found if found is not None and len(found) == size else None

    def _by_slot(self, parent: int, start: int, limit: int) -> list[Place]:
        found: list[Place] = []
        scan = self._fresh().scan(
            dirent_key(parent, start),
            dirent_key(parent, LAST_SLOT),
            limit=max(limit * _STEP, _STEPS_MIN),
        )
        for _, record in scan:
            if (place := _file_of(record, parent)) is not None:
                found.append(place)
                if len(found) == limit:
                    break
        return found

    def _by_number(self, start: int, limit: int) -> list[Place]:
        found: list[Place] = []
        stop = (start >> NUMBER_BITS) + 1 << NUMBER_BITS
        scan = self._fresh().scan(
            inode_key(start), inode_key(stop), limit=max(limit * _STEP, _STEPS_MIN)
        )
        for key, record in scan:
            if _has_contents(record, VALIDITY.size):
                inode = int.from_bytes(key[1:], "big")
                found.append(Place(inode, *BACK_POINTER.unpack_from(record, BACK_POINTER_IN_INODE)))
                if len(found) == limit:
                    break
        return found

    def _by_name(self, place: Place, limit: int) -> list[Place]:
        names = self._names(place.parent)
        at = names.index.get(place.inode)
        return [] if at is None else names.places[at + 1 : at + 1 + limit]

    def _names(self, parent: int) -> _Names:
        """The files of a directory by name; none where there are too many to sort."""
        known = self._sorted.get(parent)
        if known is None:
            if len(self._sorted) >= _SORTED_KEPT:
                del self._sorted[next(iter(self._sorted))]
            known = self._sorted[parent] = _Names(self._sort(parent))
        return known

    def _sort(self, parent: int) -> list[Place]:
        found: list[tuple[bytes, Place]] = []
        scan = self._fresh().scan(
            dirent_key(parent, FIRST_SLOT), dirent_key(parent, LAST_SLOT), limit=NAMED_MAX + 1
        )
        for number, (_, record) in enumerate(scan):
            if number == NAMED_MAX:
                return []
            if (place := _file_of(record, parent)) is not None:
                length = DIRENT.unpack_from(record, DIRENT_IN_RECORD)[2]
                found.append((bytes(record[NAME_IN_RECORD : NAME_IN_RECORD + length]), place))
        return [place for _, place in sorted(found)]


class _Names:
    """The files of one directory by name, and where in that order each is."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        self.index = {place.inode: at for at, place in enumerate(places)}


def _has_contents(record: Buffer, attr: int) -> bool:
    """Is it a regular file that is not empty?  ``attr``: where its attributes begin."""
    if not stat.S_ISREG(_MODE.unpack_from(record, attr + _MODE_IN_ATTR)[0]):
        return False
    return bool(_SIZE.unpack_from(record, attr + _SIZE_IN_ATTR)[0])


def _file_of(record: Buffer, parent: int) -> Place | None:
    """The regular file that a dirent record names."""
    if record[-1] & _REMOVED or not _has_contents(record, ATTR_IN_DIRENT):
        return None
    inode, slot, _, _ = DIRENT.unpack_from(record, DIRENT_IN_RECORD)
    return Place(inode, parent, slot)
