"""Whether the records of a writable tree fit together: everything is reached, counted and used.

It knows of the layout what :mod:`kvfs.files.records` says, and nothing of the code that writes it.
"""

from __future__ import annotations

import stat
from collections import defaultdict
from collections.abc import Container, Iterator

from kvfs.files import NameHash, References, locate
from kvfs.files.overlay import Overlay
from kvfs.files.records import (
    CONTENT_IN_INODE,
    DIRENT_KEY,
    EXTENT_KEY,
    INODE_KEY,
    LINK_KEY,
    NUMBER_BITS,
    ROOT_INODE,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    InodeRecord,
)
from kvfs.kv import Buffer, KVDriver, KVStore, prefix_end
from kvfs.volume import superblock as superblocks

_UNCOUNTED = 1
"""The link count of a directory with too many subdirectories."""


def inconsistencies(
    store: KVStore,
    in_use: Container[int] | References = (),
    *,
    sealed: KVStore | None = None,
    root: int = ROOT_INODE,
) -> list[str]:
    """A line for each thing that is wrong; none if the tree is as it should be.

    :param store: holds the tree; memory grows with its records, not with the contents.
    :param in_use: inodes that may be there without a name.
    :param sealed: of a tarball that was written to, what that was laid over.
    :param root: of a tarball, its root.
    """
    return [*_Check(store, sealed, root).run(in_use)]


class _Check:
    def __init__(self, store: KVStore, sealed: KVStore | None, root: int) -> None:
        superblock = superblocks.read(store)
        assert superblock is not None, "there is no volume"
        self._store = store
        self._root = root
        self._view: KVDriver | Overlay = store.driver
        if sealed is not None:
            self._view = Overlay(store.driver, sealed.driver)
        self._names = NameHash(superblock.hash_seed, superblock.hash_bits)
        self._extent_bytes = superblock.extent_bytes
        self._inodes: dict[int, InodeRecord] = {}
        self._inline: dict[int, int] = {}
        self._below: dict[int, list[int]] = defaultdict(list)
        self._places: dict[int, set[tuple[int, int]]] = defaultdict(set)

    def _scan(self, letter: bytes) -> Iterator[tuple[Buffer, Buffer]]:
        """The records of a space; of a tarball, those that are its."""
        prefix = letter
        if isinstance(self._view, Overlay):
            prefix += (self._root >> NUMBER_BITS).to_bytes(4, "big")
        return self._view.scan(prefix, prefix_end(prefix))

    def _is_below(self, key: Buffer) -> bool:
        """Is a record only in the sealed store?  What does not show there may be left of it."""
        return isinstance(self._view, Overlay) and self._store.get(bytes(key)) is None

    def run(self, in_use: Container[int] | References) -> Iterator[str]:
        for key, raw in self._scan(b"I"):
            inode = INODE_KEY.unpack(bytes(key))[1]
            self._inodes[inode] = InodeRecord.unpack(raw)
            self._inline[inode] = len(raw) - CONTENT_IN_INODE
        yield from self._dirents()
        unlinked = {INODE_KEY.unpack(bytes(key))[1] for key, _ in self._scan(b"U")}
        yield from self._reached(unlinked, in_use)
        links: dict[int, set[tuple[int, int]]] = defaultdict(set)
        for key, _ in self._scan(b"H"):
            _, inode, parent, slot = LINK_KEY.unpack(bytes(key))
            if inode in self._inodes or not self._is_below(key):
                links[inode].add((parent, slot))
        for inode in links.keys() - self._inodes.keys():
            yield f"links of {inode:#x}, which is not there"
        for inode, record in self._inodes.items():
            if inode != self._root:
                yield from self._pointers(inode, record, links[inode])
            yield from self._count(inode, record)
        yield from self._xattrs()
        yield from self._contents()

    def _dirents(self) -> Iterator[str]:
        for key, raw in self._scan(b"D"):
            _, parent, slot = DIRENT_KEY.unpack(bytes(key))
            where = f"slot {slot:#x} of {parent:#x}"
            above = self._inodes.get(parent)
            if above is None and self._is_below(key):
                continue
            if above is None or not above.attributes.is_directory:
                yield f"{where}: there is no such directory"
            dirent = DirentRecord.unpack(raw)
            if dirent.flags & DirentFlag.REMOVED:
                continue
            home = self._names.slot(dirent.name)
            if locate(self._view.get, parent, home, dirent.name)[0] != slot:
                yield f"{where}: {dirent.name!r} is not found there"
            if dirent.slot != slot:
                yield f"{where}: says that it is {dirent.slot:#x}"
            self._below[parent].append(dirent.inode)
            self._places[dirent.inode].add((parent, slot))

    def _reached(self, unlinked: set[int], in_use: Container[int] | References) -> Iterator[str]:
        reached: set[int] = set()
        pending = [self._root]
        while pending:
            inode = pending.pop()
            if inode in reached:
                continue
            reached.add(inode)
            if inode not in self._inodes:
                yield f"inode {inode:#x} has a name, and is not there"
            pending += self._below[inode]
        for inode in self._inodes.keys() - reached - unlinked:
            yield f"inode {inode:#x} cannot be reached"
        for inode in unlinked:
            if inode in reached or inode not in self._inodes:
                yield f"inode {inode:#x} is noted as unlinked, and has a name, or is not there"
            elif inode not in in_use:
                yield f"inode {inode:#x} has no name and is not in use"

    def _pointers(
        self, inode: int, record: InodeRecord, links: set[tuple[int, int]]
    ) -> Iterator[str]:
        places = self._places[inode]
        back = (record.parent, record.slot)
        if places and back not in places:
            yield f"inode {inode:#x} points back to {back}, its names are {places}"
        if links != places - {back}:
            yield f"inode {inode:#x}: its further names are {places - {back}}, noted: {links}"

    def _count(self, inode: int, record: InodeRecord) -> Iterator[str]:
        nlink, names = record.attributes.nlink, len(self._places[inode])
        if record.attributes.is_directory:
            below = [self._inodes.get(number) for number in self._below[inode]]
            count = 2 + sum(1 for node in below if node and node.attributes.is_directory)
            expected = count if names or inode == self._root else 0
            if nlink not in (expected, _UNCOUNTED):
                yield f"directory {inode:#x}: a link count of {nlink} for {expected}"
            if names > 1:
                yield f"directory {inode:#x} has {names} names"
        elif nlink != names:
            yield f"inode {inode:#x}: a link count of {nlink}, and {names} names"

    def _xattrs(self) -> Iterator[str]:
        for key, _ in self._scan(b"A"):
            inode = INODE_KEY.unpack_from(bytes(key))[1]
            record = self._inodes.get(inode)
            if record is None and self._is_below(key):
                continue
            if record is None or not record.flags & InodeFlag.XATTRS:
                yield f"an attribute {bytes(key).hex()} of no inode that has any"

    def _contents(self) -> Iterator[str]:
        blocks: dict[int, int] = defaultdict(int)
        for key, extent in self._scan(b"E"):
            _, inode, number = EXTENT_KEY.unpack(bytes(key))
            record = self._inodes.get(inode)
            if self._is_below(key) and (
                record is None or (record.cut is not None and number >= record.cut)
            ):
                continue
            if record is None or not record.flags & InodeFlag.EXTENTS:
                yield f"extent {number} of {inode:#x}, which has none"
                continue
            behind = number * self._extent_bytes + len(extent) - record.attributes.size
            if not 0 < len(extent) <= self._extent_bytes or behind > 0:
                yield f"extent {number} of {inode:#x}: {len(extent)} bytes, {behind} too many"
            blocks[inode] += -(-len(extent) // 512)
        for inode, record in self._inodes.items():
            attributes = record.attributes
            is_file = stat.S_ISREG(attributes.mode)
            is_inline = not record.flags & InodeFlag.EXTENTS
            if is_file and is_inline:
                blocks[inode] = -(-attributes.size // 512)
            # A directory out of a tarball says that it has some, as those of other systems do.
            if attributes.blocks != blocks[inode] and not attributes.is_directory:
                yield f"inode {inode:#x}: {attributes.blocks} blocks for {blocks[inode]}"
            kept = (
                attributes.size if is_inline and (is_file or stat.S_ISLNK(attributes.mode)) else 0
            )
            if self._inline[inode] != kept:
                yield f"inode {inode:#x}: {self._inline[inode]} bytes in it for {kept}"


__all__ = ["inconsistencies"]
