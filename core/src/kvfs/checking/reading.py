"""Reading a tree for a check: spaces of keys in order, records that may be damaged."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from struct import Struct

import attrs

from kvfs.closing import Closing
from kvfs.errors import Corrupt
from kvfs.files.names import NameHash
from kvfs.files.nodes import Node
from kvfs.files.records import (
    DIRENT_KEY,
    EXTENT_KEY,
    INODE_KEY,
    LINK_KEY,
    DirentFlag,
    DirentRecord,
    dirent_key,
    is_own,
)
from kvfs.kv import Buffer, Readable, prefix_end

Record = tuple[bytes, Buffer]

LAYOUTS: dict[bytes, Struct] = {
    b"A": INODE_KEY,
    b"D": DIRENT_KEY,
    b"E": EXTENT_KEY,
    b"H": LINK_KEY,
    b"I": INODE_KEY,
    b"U": INODE_KEY,
}
"""The spaces of a tree.  In each, an inode number follows the letter: all sort alike."""
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


@attrs.frozen
class Tree:
    """What every pass reads, and knows of the volume."""

    reader: Readable
    """Shows what was mended so far; a scan, what there was when it began."""
    names: NameHash
    extent_bytes: int
    size_max: int
    """The largest file, in bytes."""
    owner: tuple[int, int]
    """User and group of what has to be made anew."""
    saw: Callable[[int], None]
    """Called with the bytes of each record that is read."""

    def scan(self, start: bytes, stop: bytes | None) -> Iterator[Record]:
        """Records in order."""
        for key, value in self.reader.scan(start, stop):
            self.saw(len(key) + len(value))
            yield bytes(key), value

    def dirent(self, parent: int, slot: int) -> DirentRecord | None:
        """The name there, if there is one that can be read."""
        return read_dirent(self.reader.get(dirent_key(parent, slot)))

    def is_name_of(self, inode: int, parent: int, slot: int) -> bool:
        """Does the name there lead to that inode?"""
        dirent = self.dirent(parent, slot)
        return dirent is not None and dirent.inode == inode


class Space(Closing):
    """One space of keys, taken inode by inode, in order."""

    def __init__(self, tree: Tree, letter: bytes) -> None:
        self._letter = letter
        self._layout = LAYOUTS[letter]
        self._records = tree.scan(letter, prefix_end(letter))
        self.strays: list[bytes] = []
        """Keys that do not belong here, since somebody last took them."""
        self.head: int | None = None
        """The inode of the next record; ``None``: there is none."""
        self._record: Record = b"", b""
        self._advance()

    def _advance(self) -> None:
        for key, value in self._records:
            if self._belongs(key):
                self.head = int.from_bytes(key[1:9], "big")
                self._record = key, value
                return
            self.strays.append(key)
        self.head = None

    def _belongs(self, key: bytes) -> bool:
        is_named = self._letter == b"A"
        fits = len(key) > self._layout.size if is_named else len(key) == self._layout.size
        return fits and is_own(int.from_bytes(key[1:9], "big"))

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
        self._records.close()  # type: ignore[attr-defined]


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


def many(tree: Tree, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
    """Several records in one round trip."""
    return tree.reader.get_many(keys) if keys else ()


__all__ = ["LAYOUTS", "Record", "Space", "Tree", "many", "read_dirent", "read_node"]
