"""The file system model: inodes, dirents and contents over two key-value stores.

The file system is defined here and only here.  Replies come in the kernel's own layout (see
:mod:`kvfs.files.records`), so that a FUSE frontend only adds its header; other frontends use the
decoded forms (:meth:`Files.stat`, :meth:`Files.entries`, :meth:`Files.open_path`).

What is inside a tree (one version of a tarball, see :mod:`kvfs.files.records`) never changes, but
it may be taken away at any moment, by another process too, and come again.  So a record that is
found is true, whenever it was looked at.  That there is none, or that a listing is complete, is
only believed of an instant at which the tree was sealed.  See :meth:`Files._look`.

Concurrency: one :class:`Files` belongs to one thread; any number of them share the stores.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from struct import Struct
from typing import NamedTuple, Protocol

import attrs

from kvfs.errors import Corrupt, Invalid, Kind, KVFSError, NotFound, Stale
from kvfs.files.names import NameHash, locate
from kvfs.files.overlay import Overlay, get_extents
from kvfs.files.records import (
    ATTR_IN_DIRENT,
    ATTR_OUT_BYTES,
    BACK_POINTER,
    BACK_POINTER_IN_INODE,
    CONTENT_IN_INODE,
    COOKIE_DOT,
    COOKIE_DOTDOT,
    DIRENT,
    DIRENT_IN_RECORD,
    ENTRY_OUT_BYTES,
    EPOCH_BITS,
    FIRST_SLOT,
    FLAGS_IN_INODE,
    FOREVER_S,
    LAST_SLOT,
    NAME_IN_RECORD,
    NAMESPACE_VALID_S,
    NUMBER_BITS,
    OWN_TREE_MAX,
    ROOT_INODE,
    VALIDITY,
    Attributes,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    cut_of,
    dirent_key,
    inode_key,
    is_root,
    xattr_key,
)
from kvfs.kv import Buffer, KVStore, ReadView, prefix_end

SYMLINKS_MAX = 40
"""As many links as the kernel follows in one path."""
VIEW_CALLS_MAX = 100
"""So many calls look at one instant of the sealed store before a later one is taken.

A view that stays keeps the engine from using the pages again that an eviction frees."""
_SEALS_KEPT = 4096
# How long the kernel may believe an entry and its attributes: entry_valid to attr_valid_nsec.
_NOT_VALID = bytes(24)
_BRIEFLY = Struct("<QQII").pack(NAMESPACE_VALID_S, NAMESPACE_VALID_S, 0, 0)
_OWN = OWN_TREE_MAX
# Plain integers: arithmetic with the enumerations themselves costs a microsecond each.
_SHARED = DirentFlag.SHARED.value
_REMOVED = DirentFlag.REMOVED.value
_EXTENTS = InodeFlag.EXTENTS.value
_XATTRS = InodeFlag.XATTRS.value


View = ReadView | Overlay


class NotResident(KVFSError):
    """What was asked for is in a tarball that is not, or not yet wholly, in the store."""

    kind = Kind.UNAVAILABLE
    retryable_by_default = True

    def __init__(self, tarball: int) -> None:
        super().__init__(f"tarball {tarball:#08x} has to be fetched first")
        self.tarball = tarball


class Residency(Protocol):
    """Who knows which trees are whole; the tarball service implements it.

    A tree is one version of a tarball: :func:`kvfs.files.records.tree_of`.
    """

    def seal(self, tree: int) -> bytes | None:
        """What tells this sealing of a tree from every other; ``None``: it is not sealed now.

        While it is the same, everything of the tree is in the store.

        :raises NotResident: it was written to, and is not whole now: what is in the sealed store is
            not what the tree holds.
        """
        ...

    def is_current(self, tree: int) -> bool:
        """Is it the version that the tarball has now?  Else it will never be there again."""
        ...

    def is_written(self, seal: bytes) -> bool:
        """Was a tree written to since it was fetched, by what :meth:`seal` told of it?"""
        ...


class Dirent(NamedTuple):
    """One entry of a directory, decoded."""

    name: bytes
    attributes: Attributes


@attrs.frozen(kw_only=True)
class StatFS:
    """Totals of the file system, in the terms of statvfs(3)."""

    bsize: int
    frsize: int
    blocks: int
    bfree: int
    bavail: int
    files: int
    ffree: int
    namelen: int


class Files:
    """The tree of one volume, for one thread.

    Buffers that a method returns are valid until the next call on the same object.

    :raises NotResident: (any method) the tarball has to be fetched; try again when it progressed.
    :raises Stale: (any method) the tarball was replaced or removed; look its name up again.
    :raises NotFound: (methods that take an inode) there is no such inode.
    """

    _kept_s = NAMESPACE_VALID_S
    """How long the kernel may believe what can still change; 0: it has to ask each time."""
    _counts = False
    """Is :meth:`_given` to be called?"""

    def __init__(
        self,
        state: KVStore,
        sealed: KVStore,
        *,
        names: NameHash,
        extent_bytes: int,
        residency: Residency,
        statfs: Callable[[], StatFS],
    ) -> None:
        self._stores = (state, sealed)
        self._views: list[ReadView | None] = [None, None]
        # Without snapshots a view shows what is there at each read.
        self._is_instant = sealed.capability.snapshot
        self._slot = names.slot
        self._extent_bytes = extent_bytes
        self._residency = residency
        self.statfs = statfs
        self._calls_left = 0
        # Trees that were sealed at the instant that the view of the sealed store shows.
        self._settled: set[int] = set()
        # Those that were sealed, and over which something was laid.
        self._written: set[int] = set()
        # Seals that held before that instant.
        self._seals: dict[int, bytes] = {}

    # -- views and residency ---------------------------------------------------------------------

    def _view(self, which: int) -> ReadView:
        """A view of this instant."""
        view = self._views[which]
        if which:
            self._settled.clear()
            self._written.clear()
            self._calls_left = VIEW_CALLS_MAX
        if view is None:
            view = self._views[which] = self._stores[which].snapshot()
        else:
            view.refresh()
        return view

    def _enter(self, tree: int) -> View:
        """A view of the sealed store; the tree is whole in it if it is in ``_settled``.

        Of a tree that was written to, a view of what was, over the sealed store.
        """
        if tree in self._settled and self._calls_left > 0:
            self._calls_left -= 1
            view = self._views[1]
            assert view is not None
            return view
        view = self._look(tree)
        return Overlay(self._view(0), view) if tree in self._written else view

    def records(self, inode: int) -> View:
        """A view of where the records of an inode are, valid until the next call."""
        tree = inode >> NUMBER_BITS
        return self._view(0) if tree <= _OWN or is_root(inode) else self._enter(tree)

    def _look(self, tree: int) -> ReadView:
        """Take a view if need be, and find out whether the tree is whole in it.

        It is if one and the same seal holds before the instant of the view and after it.
        """
        self._calls_left -= 1
        view = self._views[1] if self._calls_left > 0 else None
        seal = self._seals.get(tree)
        for _ in range(2):
            if seal is None:
                view = None
                seal = self._seal(tree)
            if view is None:
                view = self._view(1)
            if seal is None:
                break
            if self._seal(tree) == seal:
                if len(self._seals) >= _SEALS_KEPT:
                    self._seals.clear()
                self._seals[tree] = seal
                if self._residency.is_written(seal):
                    self._written.add(tree)
                elif self._is_instant:
                    self._settled.add(tree)
                break
            self._seals.pop(tree, None)
            seal = None
        assert view is not None
        return view

    def _seal(self, tree: int) -> bytes | None:
        try:
            return self._residency.seal(tree)
        except NotResident:
            self.close()  # for the sake of the ingest: see _absent()
            raise

    def _is_whole(self, tree: int) -> bool:
        """Was the tree whole in all that was read since :meth:`_enter`?"""
        if tree in self._settled or tree <= _OWN:
            return True
        if self._is_instant:
            return tree in self._written
        seal = self._seals.get(tree)
        return seal is not None and self._seal(tree) == seal

    def _absent(self, tree: int) -> KVFSError:
        """Why something of a tree that is not whole is not there."""
        # A view held while the ingest runs would keep the engine from reusing its pages.
        self.close()
        tarball = tree >> EPOCH_BITS
        if self._residency.is_current(tree):
            return NotResident(tarball)
        return Stale(f"tarball {tarball:#08x} was replaced or removed: look its name up again")

    def close(self) -> None:
        """Let go of the engine's read views; the next call takes new ones."""
        self._settled.clear()
        self._written.clear()
        self._calls_left = 0
        for which, view in enumerate(self._views):
            if view is not None:
                self._views[which] = None
                view.close()

    def _believes(self, tree: int) -> bool:
        """May the kernel believe of a tree what its records say, for as long as they say?"""
        return tree in self._settled or (tree <= _OWN and self._kept_s > 0)

    def _inode(self, inode: int) -> tuple[Buffer, View]:
        """The record of an inode, and the view that has it."""
        tree = inode >> NUMBER_BITS
        view = self.records(inode)
        record = view.get(inode_key(inode))
        if record is not None:
            return record, view
        if is_root(inode) and tree > _OWN and not self._residency.is_current(tree):
            raise self._absent(tree)
        if is_root(inode) or self._is_whole(tree):
            raise NotFound(f"there is no inode {inode:#x}")
        raise self._absent(tree)

    # -- what the kernel asks, in the kernel's layout ----------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Buffer | None:
        """The entry of ``name`` as ``struct fuse_entry_out`` (128 bytes), or ``None``."""
        tree = parent >> NUMBER_BITS
        view = self._enter(tree) if tree > _OWN else self._view(0)
        _, record = locate(view.get, parent, self._slot(name), name)
        if record is None:
            if self._is_whole(tree):
                return None
            raise self._absent(tree)
        stamp = None if tree in self._settled else self._stamp(tree)
        if record[-1] & _SHARED:
            return self._shared_entry(view, record, stamp, tree)
        if stamp is None:
            return record[:ENTRY_OUT_BYTES]
        return b"".join((record[:16], stamp, record[40:ENTRY_OUT_BYTES]))

    def _stamp(self, tree: int) -> bytes | None:
        """How long the kernel may believe what is in a tree; ``None``: as its records say."""
        if self._believes(tree):
            return None
        # By whom it was written to, it may be changed again, and this kernel is not told.
        return _BRIEFLY if tree in self._written else _NOT_VALID

    def _shared_entry(
        self, view: View, record: Buffer, stamp: bytes | None, tree: int
    ) -> bytes | None:
        """The entry of a dirent whose attributes are in its inode; ``None``: just removed."""
        number = int.from_bytes(record[:8], "little")
        inode = view.get(inode_key(number))
        if inode is None:
            if self._is_live(view):
                return None
            # Records come and go so that a dirent's inode is there at every instant.
            if self._is_instant or self._is_whole(tree):
                raise Corrupt(f"a dirent names inode {bytes(record[:8]).hex()}, which is not there")
            raise self._absent(tree)
        return b"".join(
            (
                record[:16],
                record[16:40] if stamp is None else stamp,
                inode[VALIDITY.size : ATTR_OUT_BYTES],
            )
        )

    def _is_live(self, view: View) -> bool:
        """Does a view show what changes between two reads of it?"""
        if view is not self._views[0] and not isinstance(view, Overlay):
            return False
        return not self._stores[0].capability.snapshot

    def _given(self, record: Buffer) -> None:
        """The kernel is given an entry of what a dirent leads to, in answer to a listing."""

    def negative_timeout_s(self, parent: int) -> int:
        """How many seconds the absence of a name in ``parent`` may be believed.

        To be asked right after the lookup that found it absent.
        """
        return FOREVER_S if parent >> NUMBER_BITS in self._settled else 0

    def getattr(self, inode: int) -> Buffer:
        """The attributes as ``struct fuse_attr_out`` (104 bytes)."""
        record, _ = self._inode(inode)
        tree = inode >> NUMBER_BITS
        if tree in self._settled or self._believes(tree) or (is_root(inode) and self._kept_s > 0):
            return record[:ATTR_OUT_BYTES]
        valid_s = NAMESPACE_VALID_S if tree in self._written else 0
        return b"".join((VALIDITY.pack(valid_s, 0, 0), record[VALIDITY.size : ATTR_OUT_BYTES]))

    def readdir(self, inode: int, cookie: int, size: int, plus: bool) -> list[Buffer]:
        """Entries behind ``cookie`` as ``fuse_dirent`` or ``fuse_direntplus``, at most ``size``.

        Empty at the end.  ``.`` and ``..`` come first.  Cookies are hashes of names, so a listing
        resumes anywhere, in any process, after any restart.
        """
        tree = inode >> NUMBER_BITS
        replies: list[Buffer] = []
        if cookie < COOKIE_DOTDOT:
            size -= self._dots(inode, cookie, size, plus, replies)
            if size < 0:
                return replies
        view = self._enter(tree) if tree > _OWN else self._view(0)
        if self._is_instant and not self._is_whole(tree):
            raise self._absent(tree)
        start = dirent_key(inode, max(cookie + 1, FIRST_SLOT))
        stop = dirent_key(inode, LAST_SLOT)
        first = 0 if plus else DIRENT_IN_RECORD
        counts = plus and self._counts
        # What a listing of a whole tree shows is true, whether it was at an instant or not.
        may_change = tree in self._written or tree <= _OWN
        stamp = self._stamp(tree) if may_change else None
        for _, record in view.scan(start, stop):
            flags = record[-1]
            if flags & _REMOVED:
                continue
            size -= len(record) - first - 2
            if size < 0:
                break
            if plus and flags & _SHARED:
                entry = self._shared_entry(view, record, stamp, tree)
                if entry is None:
                    continue
                replies += (entry, record[ENTRY_OUT_BYTES:-2])
            elif stamp is None or not plus:
                replies.append(record[first:-2])
            else:
                replies += (record[:16], stamp, record[40:-2])
            if counts:
                self._given(record)
        if not self._is_instant and not self._is_whole(tree):
            raise self._absent(tree)
        return replies

    def _dots(self, inode: int, cookie: int, size: int, plus: bool, replies: list[Buffer]) -> int:
        """Append ``.`` and ``..`` while they fit; returns the bytes that both would take."""
        record, _ = self._inode(inode)
        parent = BACK_POINTER.unpack_from(record, BACK_POINTER_IN_INODE)[0]
        used = 0
        for name, number, own in ((b".", inode, COOKIE_DOT), (b"..", parent, COOKIE_DOTDOT)):
            if cookie < own:
                # The kernel takes no inode from these two, so no attributes are needed.
                entry = bytes(ENTRY_OUT_BYTES if plus else 0) + (
                    DIRENT.pack(number, own, len(name), stat.S_IFDIR >> 12) + name.ljust(8, b"\0")
                )
                used += len(entry)
                if used <= size:
                    replies.append(entry)
        return used

    def read(self, inode: int, offset: int, size: int) -> list[Buffer]:
        """Contents from ``offset``, short only at the end of the file."""
        tree = inode >> NUMBER_BITS
        record = view = None
        if tree > _OWN:
            view = self._enter(tree)
            record = view.get(inode_key(inode))
        if record is None or view is None:
            record, view = self._inode(inode)
        if record[FLAGS_IN_INODE] & _EXTENTS:
            return self._read_extents(inode, record, view, offset, size)
        start = CONTENT_IN_INODE + offset
        return [record[start : start + size]]

    def _read_extents(
        self, inode: int, record: Buffer, view: View, offset: int, size: int
    ) -> list[Buffer]:
        length = int.from_bytes(record[VALIDITY.size + 8 : VALIDITY.size + 16], "little")
        stop = min(offset + size, length)
        if offset >= stop:
            return []
        extent_bytes = self._extent_bytes
        numbers = range(offset // extent_bytes, (stop - 1) // extent_bytes + 1)
        pieces: list[Buffer] = []
        extents = get_extents(view, inode, cut_of(record), numbers)
        if None in extents and self._is_live(view) and view.get(inode_key(inode)) != record:
            return self.read(inode, offset, size)  # removed or cut off meanwhile, and no hole
        # At an instant that has the inode, all its extents are there: what lacks is a hole.
        if not self._is_instant and None in extents:
            self._check_whole(inode)
        for number, extent in zip(numbers, extents, strict=True):
            base = number * extent_bytes
            low = max(offset - base, 0)
            high = min(stop - base, extent_bytes)
            piece = b"" if extent is None else extent[low:high]
            pieces.append(piece)
            if len(piece) < high - low:  # a hole, or the end of one that was written in part
                pieces.append(bytes(high - low - len(piece)))
        return pieces

    def _check_whole(self, inode: int) -> None:
        tree = inode >> NUMBER_BITS
        if not self._is_whole(tree):
            raise self._absent(tree)

    def readlink(self, inode: int) -> Buffer:
        """The target of a symbolic link."""
        return self._inode(inode)[0][CONTENT_IN_INODE:]

    def getxattr(self, inode: int, name: bytes) -> Buffer | None:
        """One extended attribute, or ``None``."""
        view = self._view_of_xattrs(inode)
        if view is None:
            return None
        value = view.get(xattr_key(inode, name))
        if value is None:
            self._check_xattrs(inode)
        return value

    def listxattr(self, inode: int) -> list[bytes]:
        """The names of all extended attributes."""
        view = self._view_of_xattrs(inode)
        if view is None:
            return []
        prefix = xattr_key(inode, b"")
        names = [bytes(key[len(prefix) :]) for key, _ in view.scan(prefix, prefix_end(prefix))]
        self._check_xattrs(inode)
        return names

    def _view_of_xattrs(self, inode: int) -> View | None:
        """Where the extended attributes of an inode are; ``None`` if it has none."""
        record, view = self._inode(inode)
        if not record[FLAGS_IN_INODE] & _XATTRS:
            return None
        if is_root(inode) and inode != ROOT_INODE:
            return self._enter(inode >> NUMBER_BITS)
        # The view that has the inode, since that has its attributes too.
        return view

    def _check_xattrs(self, inode: int) -> None:
        # The inode of a tarball's root is in the other store, and there while the tarball is not.
        if is_root(inode) or not self._is_instant:
            self._check_whole(inode)

    # -- the same, decoded, for everybody else ---------------------------------------------------

    def stat(self, inode: int) -> Attributes:
        """The attributes of an inode."""
        return Attributes.unpack(self._inode(inode)[0], VALIDITY.size)

    def find(self, parent: int, name: bytes) -> Attributes | None:
        """The attributes of a name in a directory, or ``None``."""
        entry = self.lookup(parent, name)
        return None if entry is None else Attributes.unpack(entry, ATTR_IN_DIRENT)

    def entries(self, inode: int) -> Iterator[Dirent]:
        """Every entry of a directory but ``.`` and ``..``, lazily; other calls may go between."""
        cookie = COOKIE_DOTDOT
        while True:
            raw = memoryview(b"".join(self.readdir(inode, cookie, 256 << 10, True)))
            if not raw:
                return
            while raw:
                _, cookie, length, _ = DIRENT.unpack_from(raw, DIRENT_IN_RECORD)
                name = bytes(raw[NAME_IN_RECORD : NAME_IN_RECORD + length])
                yield Dirent(name, Attributes.unpack(raw, ATTR_IN_DIRENT))
                raw = raw[NAME_IN_RECORD + length + (-length % 8) :]

    def open_path(self, path: bytes, *, follow: bool = True) -> Attributes:
        """The attributes of a path from the root of the volume.

        :param follow: also follow a symbolic link in the last place; targets stay in the volume.
        :raises NotFound: a part of it does not exist, or is not a directory.
        """
        ancestors = [self.stat(ROOT_INODE)]
        parts = [part for part in reversed(path.split(b"/")) if part not in (b"", b".")]
        links = 0
        while parts:
            part = parts.pop()
            if not ancestors[-1].is_directory:
                raise NotFound(f"{path!r}: what stands before {part!r} is not a directory")
            if part == b"..":
                if len(ancestors) > 1:
                    ancestors.pop()
                continue
            found = self.find(ancestors[-1].inode, part)
            if found is None:
                raise NotFound(f"{path!r}: there is no {part!r}")
            if stat.S_ISLNK(found.mode) and (parts or follow):
                links += 1
                if links > SYMLINKS_MAX:
                    raise Invalid(f"{path!r}: too many symbolic links")
                target = bytes(self.readlink(found.inode))
                if target.startswith(b"/"):
                    raise NotFound(f"{path!r}: the link {part!r} leads out of the volume")
                parts += [step for step in reversed(target.split(b"/")) if step not in (b"", b".")]
                continue
            ancestors.append(found)
        return ancestors[-1]

    def path_of(self, inode: int) -> bytes:
        """A path of an inode from the root of the volume (one of them, if it has several)."""
        parts: list[bytes] = []
        while inode != ROOT_INODE:
            record = InodeRecord.unpack(self._inode(inode)[0])
            tree = record.parent >> NUMBER_BITS
            view = self._enter(tree) if tree > _OWN else self._view(0)
            dirent = view.get(dirent_key(record.parent, record.slot))
            if dirent is None:
                self._check_whole(record.parent)
                again = InodeRecord.unpack(self._inode(inode)[0])
                if (again.parent, again.slot) != (record.parent, record.slot):
                    continue  # moved meanwhile
                raise Corrupt(f"inode {inode:#x} points back to a dirent that is not there")
            parts.append(DirentRecord.unpack(dirent).name)
            inode = record.parent
        return b"/".join(reversed(parts))
