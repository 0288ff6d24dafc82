"""What holds of the records of every volume at rest: a check of the whole, as fsck makes it.

"At rest" is any moment at which no ingest runs and no refresh: after a crash too, once
``Volume.recover`` was called.  Reads both stores once in key order; memory holds the set of ids of
the catalogue and one directory's counts, not the volume.

    assert [*violations(volume)] == []
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from itertools import groupby

import attrs

from kvfs.checking import problems
from kvfs.errors import Corrupt
from kvfs.files import NameHash, locate
from kvfs.files.records import (
    CONTENT_IN_INODE,
    DIRENT_KEY,
    EPOCH_BITS,
    EPOCH_MASK,
    EXTENT_KEY,
    FIRST_SLOT,
    ID_BITS,
    INODE_KEY,
    KEYSPACES,
    LAST_SLOT,
    LINK_KEY,
    NAME_BYTES_MAX,
    OWNER_KEY,
    PROBLEM_KEY,
    ROOT_INODE,
    VOLUME_ID,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    dirent_key,
    extent_key,
    inode_key,
    inode_of,
    is_root,
    link_key,
    problem_key,
    tarball_of,
    tarball_ranges,
    tree_of,
    volume_key,
    xattr_key,
)
from kvfs.kv import KVStore, prefix_end
from kvfs.tarballs.catalogue import Catalogue, State, Tarball
from kvfs.tarballs.report import PROBLEMS_KEPT
from kvfs.volume import Volume

_WRITTEN = "; state for files that were written"


def violations(volume: Volume) -> Iterator[str]:
    """A line for each thing that is wrong; none if the volume is as it should be.

    :param volume: with no ingest or refresh running.
    """
    if not volume.read_only:
        for problem in problems(volume):
            yield f"{problem.kind} {problem.inode}: {problem.text}"
        return
    superblock = volume.superblock
    names = NameHash(superblock.hash_seed, superblock.hash_bits)
    yield from _strays(volume.state, "state")
    yield from _strays(volume.sealed, "sealed")
    above = _Tree(volume.state, volume.state, names, superblock.inline_bytes, 0)
    yield from above.check(b"D", b"E", b"I", b"J")
    yield from _check_counter(volume.state)
    catalogue = Catalogue(volume.state)
    sealed: dict[int, int] = {}
    roots: set[int] = set()
    for tarball, record in catalogue:
        yield from _check_catalogue(volume, catalogue, tarball, record)
        roots.add(record.root(tarball))
        if record.state is State.SEALED:
            sealed[tarball] = record.epoch
            within = _Tree(
                volume.sealed,
                volume.state,
                names,
                superblock.inline_bytes,
                superblock.extent_bytes,
            )
            ranges = {low[:1]: (low, high) for low, high in tarball_ranges(tarball)}
            yield from within.check(*ranges[b"D"], *ranges[b"I"])
            for letter, check in (
                (b"A", within.check_xattrs),
                (b"E", within.check_extents),
                (b"H", within.check_links),
            ):
                yield from check(*ranges[letter])
            yield from _check_remarks(volume.sealed, ranges, record)
    yield from _check_roots(volume.state, roots)
    yield from _leftovers(volume.sealed, sealed)


def _strays(store: KVStore, which: str) -> Iterator[str]:
    """Records of spaces that do not belong in this store; skips from space to space."""
    # Nobody writes files here: what only those have does not belong in the state store.
    stores = {space.letter: space.store.removesuffix(_WRITTEN) for space in KEYSPACES}
    known = {letter.encode() for letter, store in stores.items() if which in store}
    at: bytes | None = b""
    while at is not None:
        key = next((bytes(key) for key, _ in store.scan(at, None, limit=1)), None)
        if key is None:
            return
        if key[:1] not in known:
            yield f"{which}: a record {key.hex()} of a space that does not belong there"
        at = prefix_end(key[:1])


def _leftovers(store: KVStore, sealed: dict[int, int]) -> Iterator[str]:
    """Records of tarballs that are not sealed; skips from tarball to tarball."""
    for space in KEYSPACES:
        if "sealed" not in space.store or space.letter == "F":  # fences outlive what they guard
            continue
        at, end = space.letter.encode(), prefix_end(space.letter.encode())
        while True:
            key = next((bytes(key) for key, _ in store.scan(at, end, limit=1)), None)
            if key is None:
                break
            tarball = int.from_bytes(key[1:4], "big")
            if tarball not in sealed:
                yield f"sealed: {key.hex()} is of tarball {tarball:#08x}, which is not sealed"
            elif space.letter in "ADEHI":
                yield from _other_epochs(store, key[:1], tarball, sealed[tarball])
            at = key[:1] + (tarball + 1).to_bytes(4, "big")[1:]
            if tarball + 1 == 1 << 24:
                break


def _other_epochs(store: KVStore, letter: bytes, tarball: int, epoch: int) -> Iterator[str]:
    """Records of other versions of a tarball than the one that is sealed."""
    tree = tree_of(tarball, epoch)
    first, last = tarball << EPOCH_BITS, tarball << EPOCH_BITS | EPOCH_MASK
    for low, high in ((first, tree), (tree + 1, last + 1)):
        if low == high:
            continue
        start, stop = (letter + edge.to_bytes(5, "big")[1:] for edge in (low, high))
        # Past the last id the range ends where the next letter begins.
        end = stop if high >> ID_BITS + EPOCH_BITS == 0 else prefix_end(letter)
        for key, _ in store.scan(start, end, limit=1):
            yield f"sealed: {key.hex()} is of an epoch of {tarball:#08x} that has gone by"


def _check_roots(state: KVStore, roots: set[int]) -> Iterator[str]:
    """Roots of tarballs, or of versions of them, that are not in the catalogue."""
    low = inode_key(inode_of(VOLUME_ID + 1, 0))
    for key, _ in state.scan(low, prefix_end(b"I")):
        inode = INODE_KEY.unpack(key)[1]
        if inode not in roots:
            yield f"state: {inode:#x} is the root of no tarball of the catalogue"


def _check_counter(state: KVStore) -> Iterator[str]:
    following = int(state.get(volume_key("next")) or ROOT_INODE + 1)
    low, high = inode_key(following), inode_key(inode_of(VOLUME_ID + 1, 0))
    for key, _ in state.scan(low, high):
        yield f"inode {key[1:].hex()} above the tarballs is not below the counter {following}"


def _check_catalogue(
    volume: Volume, catalogue: Catalogue, tarball: int, record: Tarball
) -> Iterator[str]:
    what = f"tarball {tarball:#08x} ({record.object})"
    if catalogue.locate(record.object) != (tarball, record):
        yield f"{what}: is not found by the name of its object"
    if record.state not in (State.ABSENT, State.SEALED):
        yield f"{what}: was left {record.state}"
    inode = record.root(tarball)
    raw = volume.state.get(inode_key(inode))
    if raw is None:
        yield f"{what}: has no root inode"
    else:
        root = InodeRecord.unpack(raw)
        if (root.parent, root.slot) != (record.parent, record.slot):
            yield f"{what}: its root points back to another dirent than the catalogue"
    dirent = volume.state.get(dirent_key(record.parent, record.slot))
    if dirent is None or DirentRecord.unpack(dirent).inode != inode:
        yield f"{what}: its dirent is missing, or is that of another inode"


def _check_remarks(
    sealed: KVStore, ranges: dict[bytes, tuple[bytes, bytes]], record: Tarball
) -> Iterator[str]:
    count = 0
    for key, raw in sealed.scan(*ranges[b"P"]):
        _, tarball, number = PROBLEM_KEY.unpack(key)
        if key != problem_key(int.from_bytes(tarball, "big"), count):
            yield f"{record.object}: problem {number} follows problem {count - 1}"
        if not {"offset", "name", "kind", "message"} <= json.loads(raw).keys():
            yield f"{record.object}: problem {number} lacks a field: {raw!r}"
        count += 1
    if count != min(record.problems, PROBLEMS_KEPT):
        yield f"{record.object}: {count} problems kept, the catalogue has {record.problems}"
    for key, name in sealed.scan(*ranges[b"O"]):
        if OWNER_KEY.unpack(key)[2] not in (b"u", b"g") or not name:
            yield f"{record.object}: {key.hex()} is no owner"


@attrs.define
class _Tree:
    """The inodes and dirents of one tarball, or of what is above the tarballs."""

    _store: KVStore
    _state: KVStore
    _names: NameHash
    _inline_bytes: int
    _extent_bytes: int

    def check(
        self, dirents_low: bytes, dirents_high: bytes, inodes_low: bytes, inodes_high: bytes
    ) -> Iterator[str]:
        """Everything that holds of inodes and dirents."""
        for key, raw in self._store.scan(inodes_low, inodes_high):
            inode = INODE_KEY.unpack(key)[1]
            try:
                yield from self._check_inode(inode, InodeRecord.unpack(raw), raw)
            except Corrupt as error:
                yield f"inode {inode:#x}: {error}"

        def parent_of(item: tuple[bytes, bytes]) -> int:
            parent: int = DIRENT_KEY.unpack(item[0])[1]
            return parent

        for parent, items in groupby(self._store.scan(dirents_low, dirents_high), parent_of):
            yield from self._check_directory(parent, items)

    def _inode(self, inode: int) -> InodeRecord | None:
        """The record, ``None`` if there is none that can be decoded."""
        # The roots of tarballs are in the state store.
        in_state = tarball_of(inode) == VOLUME_ID or is_root(inode)
        raw = (self._state if in_state else self._store).get(inode_key(inode))
        try:
            return None if raw is None else InodeRecord.unpack(raw)
        except Corrupt:
            return None

    def _points_to(self, parent: int, slot: int, inode: int) -> DirentRecord | None:
        """The dirent there, if it is one of that inode."""
        raw = (self._store if tarball_of(parent) else self._state).get(dirent_key(parent, slot))
        try:
            dirent = None if raw is None else DirentRecord.unpack(raw)
        except Corrupt:
            return None
        return dirent if dirent is not None and dirent.inode == inode else None

    def _count(self, low: bytes) -> int:
        return sum(1 for _ in self._store.scan(low, prefix_end(low)))

    # -- inodes --------------------------------------------------------------------------------

    def _check_inode(self, inode: int, record: InodeRecord, raw: bytes) -> Iterator[str]:
        what = f"inode {inode:#x}"
        attributes = record.attributes
        if attributes.inode != inode:
            yield f"{what}: calls itself {attributes.inode:#x}"
        if inode == ROOT_INODE:
            if record.parent != ROOT_INODE:
                yield f"{what}: the root of the volume is not its own parent"
            return
        yield from self._check_back_pointer(inode, record)
        if attributes.is_directory:
            # Numbers are given in tar order and directories never move, so this rules out cycles.
            if tarball_of(inode) == tarball_of(record.parent) and record.parent >= inode:
                yield f"{what}: is older than the directory it is in"
            yield from self._check_nlink_of_directory(inode, record)
        else:
            names = 1 + self._count(LINK_KEY.pack(b"H", inode, 0, 0)[:9])
            if attributes.nlink != names:
                yield f"{what}: a link count of {attributes.nlink}, and {names} names"
        yield from self._check_content(inode, record, len(raw) - CONTENT_IN_INODE)
        # Those of a tarball's root are in the other store: check_xattrs sees them.
        has_xattrs = bool(record.flags & InodeFlag.XATTRS)
        if self._store is not self._state and has_xattrs != bool(
            self._count(xattr_key(inode, b""))
        ):
            yield f"{what}: its flag of extended attributes is {has_xattrs}, wrongly"

    def _check_back_pointer(self, inode: int, record: InodeRecord) -> Iterator[str]:
        if self._points_to(record.parent, record.slot, inode) is None:
            yield f"inode {inode:#x}: points back to a dirent that is not there, or of another"

    def _check_nlink_of_directory(self, inode: int, record: InodeRecord) -> Iterator[str]:
        if self._store is self._state:
            # Directories above the tarballs do not count; what is in the root of a tarball is in
            # the other store: see _check_directory.
            return
        low, high = dirent_key(inode, FIRST_SLOT), dirent_key(inode, LAST_SLOT)
        below = sum(
            DirentRecord.unpack(raw).attributes.is_directory
            for _, raw in self._store.scan(low, high)
        )
        if record.attributes.nlink != 2 + below:
            yield (
                f"directory {inode:#x}: a link count of {record.attributes.nlink}, "
                f"and {below} directories in it"
            )

    def _check_content(self, inode: int, record: InodeRecord, length: int) -> Iterator[str]:
        mode, size = record.attributes.mode, record.attributes.size
        expected = size if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else 0
        if record.flags & InodeFlag.EXTENTS:
            if not stat.S_ISREG(mode) or size <= self._inline_bytes:
                yield f"inode {inode:#x}: has extents, with mode {mode:o} and {size} bytes"
            expected = 0
        if length != expected:
            yield f"inode {inode:#x}: {length} bytes behind the record, {expected} expected"

    # -- directories ---------------------------------------------------------------------------

    def _check_directory(self, parent: int, items: Iterator[tuple[bytes, bytes]]) -> Iterator[str]:
        owner = self._inode(parent)
        if owner is None or not owner.attributes.is_directory:
            yield f"dirents in {parent:#x}, which is no directory"
            return
        directories = 0
        for key, raw in items:
            slot = DIRENT_KEY.unpack(key)[2]
            try:
                dirent = DirentRecord.unpack(raw)
                directories += dirent.attributes.is_directory
                yield from self._check_dirent(parent, slot, dirent)
            except Corrupt as error:
                yield f"dirent {slot:#x} of {parent:#x}: {error}"
        if tarball_of(parent) and owner.attributes.nlink != 2 + directories:
            yield (
                f"directory {parent:#x}: a link count of {owner.attributes.nlink}, "
                f"and {directories} directories in it"
            )

    def _check_dirent(self, parent: int, slot: int, dirent: DirentRecord) -> Iterator[str]:
        if dirent.flags & DirentFlag.REMOVED:
            if tarball_of(parent):
                yield f"dirent {slot:#x} of {parent:#x}: a removed name inside a tarball"
            return
        name = dirent.name
        what = f"{name!r} in {parent:#x}"
        if not 0 < len(name) <= NAME_BYTES_MAX or name in (b".", b"..") or set(name) & set(b"/\0"):
            yield f"{what}: is no file name"
        if dirent.slot != slot:
            yield f"{what}: is at slot {slot:#x}, its record says {dirent.slot:#x}"
        if locate(self._store.get, parent, self._names.slot(name), name)[0] != slot:
            yield f"{what}: at slot {slot:#x}, where nobody who looks for it comes by"
        record = self._inode(dirent.inode)
        if record is None:
            yield f"{what}: there is no inode {dirent.inode:#x}"
            return
        own, listed = record.attributes, dirent.attributes
        if stat.S_IFMT(own.mode) != stat.S_IFMT(listed.mode) or listed.inode != dirent.inode:
            yield f"{what}: is of another type, or number, than its inode"
        if not dirent.flags & DirentFlag.SHARED and own != listed:
            yield f"{what}: its attributes are {listed}, those of its inode {own}"
        if (record.parent, record.slot) != (parent, slot):
            if not dirent.flags & DirentFlag.SHARED:
                yield f"{what}: inode {dirent.inode:#x} points back elsewhere"
            if self._store.get(link_key(dirent.inode, parent, slot)) is None:
                yield f"{what}: a further name of {dirent.inode:#x}, without a record of that"

    # -- what hangs on inodes ------------------------------------------------------------------

    def check_xattrs(self, low: bytes, high: bytes) -> Iterator[str]:
        """Extended attributes belong to inodes that know of them."""
        for key, _ in self._store.scan(low, high):
            inode = INODE_KEY.unpack_from(key)[1]
            record = self._inode(inode)
            if record is None or not record.flags & InodeFlag.XATTRS:
                yield f"an extended attribute {key.hex()} of no inode that has any"

    def check_extents(self, low: bytes, high: bytes) -> Iterator[str]:
        """Extents belong to inodes that have them, lie within the file, and are not all zero."""
        for key, extent in self._store.scan(low, high):
            _, inode, number = EXTENT_KEY.unpack(key)
            record = self._inode(inode)
            if record is None or not record.flags & InodeFlag.EXTENTS:
                yield f"extent {number} of {inode:#x}, which has none"
                continue
            length = min(record.attributes.size - number * self._extent_bytes, self._extent_bytes)
            if len(extent) != length or not any(extent):
                yield f"extent {number} of {inode:#x}: {len(extent)} bytes for {length}, or zeros"
            if key != extent_key(inode, number):
                yield f"extent {key.hex()}: not the key it should have"

    def check_links(self, low: bytes, high: bytes) -> Iterator[str]:
        """Further names are names of their inode, and not the one that it points back to."""
        for key, value in self._store.scan(low, high):
            _, inode, parent, slot = LINK_KEY.unpack(key)
            what = f"a further name of {inode:#x} at {slot:#x} of {parent:#x}"
            record = self._inode(inode)
            dirent = self._points_to(parent, slot, inode)
            if record is None or (record.parent, record.slot) == (parent, slot) or value:
                yield f"{what}: no such inode, or it is its first name"
            if dirent is None:
                yield f"{what}: there is no such dirent"
            elif not dirent.flags & DirentFlag.SHARED:
                yield f"{what}: its dirent does not know that the inode has several names"


__all__ = ["violations"]
