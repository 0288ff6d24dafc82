"""Reading a tree for a check: spaces of keys in order, records that may be damaged.

A tree is that of the volume itself, or that of a tarball: what was written there, laid over what
was fetched (:mod:`kvfs.files.overlay`).  What was fetched is under a seal, and taken for right.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

import attrs

from kvfs.closing import Closing
from kvfs.errors import Corrupt
from kvfs.files.names import NameHash
from kvfs.files.nodes import Node
from kvfs.files.overlay import TAG, TAGGED, Overlay
from kvfs.files.records import (
    CONTENT_IN_INODE,
    DIRENT_KEY,
    EXTENT_KEY,
    FIRST_MADE_NUMBER,
    INODE_KEY,
    LINK_KEY,
    NUMBER_BITS,
    NUMBER_MAX,
    OWN_TREE_MAX,
    ROOT_INODE,
    ROOT_NUMBER,
    VOLUME_ID,
    DirentFlag,
    DirentRecord,
    cut_of,
    dirent_key,
    id_bytes,
    inode_key,
    is_own,
    tarball_of,
    volume_key,
    written_key,
)
from kvfs.kv import Buffer, Readable, prefix_end

LAYOUTS: dict[bytes, Struct] = {
    b"A": INODE_KEY,
    b"D": DIRENT_KEY,
    b"E": EXTENT_KEY,
    b"H": LINK_KEY,
    b"I": INODE_KEY,
    b"U": INODE_KEY,
}
"""The spaces of a tree.  In each, an inode number follows the letter: all sort alike."""
_UNLINKED = b"U"
"""Only what was written can be that."""
_TYPES = frozenset(
    (
        stat.S_IFREG,
        stat.S_IFDIR,
        stat.S_IFLNK,
        stat.S_IFIFO,
        stat.S_IFSOCK,
        stat.S_IFCHR,
        stat.S_IFBLK,
    )
)


class Record(NamedTuple):
    """What is stored under a key, as it is to be seen."""

    key: bytes
    value: Buffer
    is_written: bool
    """Else it was fetched."""


@attrs.frozen(kw_only=True)
class Tree:
    """What every pass reads, and knows of the volume."""

    reader: Readable | Overlay
    """Shows what was mended so far; a scan, what there was when it began."""
    names: NameHash
    extent_bytes: int
    size_max: int
    """The largest file, in bytes."""
    owner: tuple[int, int]
    """User and group of what has to be made anew."""
    saw: Callable[[int], None]
    """Called with the bytes of each record that is read."""
    root: int = ROOT_INODE
    place: tuple[int, int] = (ROOT_INODE, 0)
    """Where the root's own name is."""

    @property
    def upper(self) -> Readable:
        """What was written."""
        return self.reader.upper if isinstance(self.reader, Overlay) else self.reader

    @property
    def lower(self) -> Readable | None:
        """What was fetched."""
        return self.reader.lower if isinstance(self.reader, Overlay) else None

    @property
    def scope(self) -> bytes:
        """What follows the letter in the keys of this tree, and of no other."""
        if is_own(self.root):
            return id_bytes(VOLUME_ID)
        return (self.root >> NUMBER_BITS).to_bytes(4, "big")

    def holds(self, inode: int) -> bool:
        """Is it the number of an inode of this tree?"""
        if is_own(self.root):
            return is_own(inode)
        return inode >> NUMBER_BITS == self.root >> NUMBER_BITS

    # -- the numbers of inodes ---------------------------------------------------------------------

    @property
    def counter(self) -> bytes:
        """The key of the number that the next inode gets."""
        return volume_key("next") if is_own(self.root) else written_key(tarball_of(self.root))

    @property
    def number_min(self) -> int:
        """No inode that was made has a lower number."""
        return ROOT_INODE + 1 if is_own(self.root) else FIRST_MADE_NUMBER

    @property
    def number_max(self) -> int:
        """No inode has a higher number."""
        return (OWN_TREE_MAX + 1 << NUMBER_BITS) - 1 if is_own(self.root) else NUMBER_MAX

    def number_of(self, inode: int) -> int:
        """The number of an inode within the tree."""
        return inode - self.root + ROOT_NUMBER

    # -- records -----------------------------------------------------------------------------------

    def scan(
        self, start: bytes, stop: bytes | None, source: Readable | None = None
    ) -> Iterator[tuple[bytes, Buffer]]:
        """Records in order, as they are stored; of what was written, if nothing else is said."""
        for key, value in (source or self.upper).scan(start, stop):
            self.saw(len(key) + len(value))
            yield bytes(key), value

    def fetched(self, inode: int) -> Node | None:
        """An inode as it was fetched."""
        return None if self.lower is None else read_node(self.lower.get(inode_key(inode)))

    def is_hidden_name(self, inode: int, parent: int, slot: int) -> bool:
        """Was a name of that inode fetched there, and is said to be removed?"""
        key = dirent_key(parent, slot)
        above = self.upper.get(key)
        if self.lower is None or above is None or len(above):
            return False
        fetched = read_dirent(self.lower.get(key))
        return fetched is not None and fetched.inode == inode

    def nodes(self, inodes: Collection[int]) -> dict[int, tuple[Node | None, bool]]:
        """Inodes that can be read, and whether they were written; few round trips for all."""
        found = self._many([inode_key(inode) for inode in inodes])
        return {
            inode: (read_node(raw), is_written)
            for inode, (raw, is_written) in zip(inodes, found, strict=True)
        }

    def dirents(self, places: Sequence[tuple[int, int]]) -> list[DirentRecord | None]:
        """The names that can be read at slots of directories; few round trips for all."""
        found = self._many([dirent_key(*place) for place in places])
        parents = [*{parent for parent, _ in places}] if self.lower is not None else []
        records = self._many([inode_key(parent) for parent in parents])
        # What was in a directory that is gone need not be hidden one by one.
        gone = {parent for parent, (raw, _) in zip(parents, records, strict=True) if raw is None}
        return [
            read_dirent(raw) if is_written or parent not in gone else None
            for (parent, _), (raw, is_written) in zip(places, found, strict=True)
        ]

    def _many(self, keys: Sequence[bytes]) -> list[tuple[Buffer | None, bool]]:
        """Records of dirents or inodes as they are to be seen, and whether they were written."""
        above = self.upper.get_many(keys) if keys else ()
        if self.lower is None:
            return [(raw, True) for raw in above]
        wanted = [key for key, raw in zip(keys, above, strict=True) if raw is None]
        below = iter(self.lower.get_many(wanted) if wanted else ())
        return [
            (next(below), False) if raw is None else (raw if len(raw) else None, True)
            for raw in above
        ]

    def is_name_of(self, inode: int, parent: int, slot: int) -> bool:
        """Does the name there lead to that inode?"""
        [dirent] = self.dirents([(parent, slot)])
        return dirent is not None and dirent.inode == inode

    def path_of(self, inode: int) -> bytes | None:
        """A path of an inode in the volume, if its names lead up to the root."""
        names: list[bytes] = []
        seen: set[int] = set()
        while inode != ROOT_INODE:
            node = read_node(self.reader.get(inode_key(inode)))
            if node is None or inode in seen:
                return None
            seen.add(inode)
            [dirent] = self.dirents([(node.parent, node.slot)])
            if dirent is None or dirent.inode != inode:
                return None
            names.append(dirent.name)
            inode = node.parent
        return b"/".join(reversed(names))


class Space(Closing):
    """One space of keys of a tree, taken inode by inode, in order.

    What hangs on an inode that is gone, or was cut off from a file, is passed over if it was
    fetched: nothing else has to say that it is not there.
    """

    def __init__(self, tree: Tree, letter: bytes) -> None:
        self._tree = tree
        self._letter = letter
        self._layout = LAYOUTS[letter]
        self.strays: list[bytes] = []
        """Keys of what cannot be here, since somebody last took them."""
        self.idle: list[bytes] = []
        """Keys of what hides nothing, since somebody last took them."""
        self._owner: int | None = None
        self._owner_stands = False
        self._owner_cut: int | None = None
        low = letter + tree.scope
        span = low, prefix_end(low)
        self._scans = [tree.scan(*span)]
        if tree.lower is None or letter == _UNLINKED:
            self._records = self._as_stored(*self._scans)
        else:
            self._scans.append(tree.scan(*span, tree.lower))
            self._records = self._laid(*self._scans)
        self.head: int | None = None
        """The inode of the next record; ``None``: there is none."""
        self._record = Record(b"", b"", is_written=True)
        self._advance()

    def _advance(self) -> None:
        record = next(self._records, None)
        if record is None:
            self.head = None
            return
        self.head = _inode_in(record.key)
        self._record = record

    def _as_stored(self, records: Iterator[tuple[bytes, Buffer]]) -> Iterator[Record]:
        for key, value in records:
            if self._belongs(key):
                yield Record(key, value, is_written=True)
            else:
                self.strays.append(key)

    def _laid(
        self, upper: Iterator[tuple[bytes, Buffer]], lower: Iterator[tuple[bytes, Buffer]]
    ) -> Iterator[Record]:
        below = next(lower, None)
        for key, value in upper:
            while below is not None and below[0] < key:
                if self._stands(below[0]):
                    yield Record(*below, is_written=False)
                below = next(lower, None)
            covers = below is not None and below[0] == key
            if covers:
                below = next(lower, None)
            if not self._belongs(key):
                self.strays.append(key)
            elif not len(value):
                if not covers:
                    self.idle.append(key)
            elif key[0] not in TAGGED:
                yield Record(key, value, is_written=True)
            elif value[-1:] == TAG:
                yield Record(key, value[:-1], is_written=True)
            else:
                self.strays.append(key)
        while below is not None:
            if self._stands(below[0]):
                yield Record(*below, is_written=False)
            below = next(lower, None)

    def _belongs(self, key: bytes) -> bool:
        is_named = self._letter == b"A"
        fits = len(key) > self._layout.size if is_named else len(key) == self._layout.size
        return fits and 0 < self._tree.number_of(_inode_in(key)) <= self._tree.number_max

    def _stands(self, key: bytes) -> bool:
        """Does what was fetched still belong to an inode?"""
        if self._letter == b"I":
            return True
        inode = _inode_in(key)
        if inode != self._owner:
            raw = self._tree.reader.get(inode_key(inode))
            self._owner, self._owner_stands = inode, raw is not None
            self._owner_cut = None if raw is None or len(raw) < CONTENT_IN_INODE else cut_of(raw)
        if self._owner_cut is None or self._letter != b"E":
            return self._owner_stands
        number: int = EXTENT_KEY.unpack(key)[2]
        return number < self._owner_cut

    def of(self, inode: int) -> Iterator[Record]:
        """The records of an inode; those of lower ones are passed over."""
        while self.head is not None and self.head <= inode:
            record, head = self._record, self.head
            self._advance()
            if head == inode:
                yield record

    def pass_over(self, inode: int) -> None:
        """Go on behind an inode."""
        while self.head is not None and self.head <= inode:
            self._advance()

    def each(self) -> Iterator[tuple[int, Record]]:
        """All that is left, with the inode."""
        while self.head is not None:
            found = self.head, self._record
            self._advance()
            yield found

    def close(self) -> None:
        """End the scan."""
        for scan in self._scans:
            scan.close()  # type: ignore[attr-defined]


def _inode_in(key: bytes) -> int:
    return int.from_bytes(key[1:9], "big")


def read_node(record: Buffer | None) -> Node | None:
    """An inode, if it can be read."""
    try:
        node = None if record is None else Node.unpack(record)
    except Corrupt:
        return None
    return node if node is not None and stat.S_IFMT(node.attributes.mode) in _TYPES else None


def read_dirent(record: Buffer | None) -> DirentRecord | None:
    """A name, if there is one that can be read."""
    try:
        dirent = None if record is None else DirentRecord.unpack(record)
    except Corrupt:
        return None
    return None if dirent is None or dirent.flags & DirentFlag.REMOVED else dirent


__all__ = ["LAYOUTS", "Record", "Space", "Tree", "read_dirent", "read_node"]
