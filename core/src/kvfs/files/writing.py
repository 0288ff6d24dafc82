"""Changing a tree: every operation of POSIX that is not reading.

Each operation is one guarded batch: it is done whole or not at all, and what it found is still so
when it is done.  If not, it is done anew.  Who may do what is the kernel's to check, from the
attributes; what follows from an operation for times, link counts and modes is done here.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Container
from contextlib import suppress
from enum import IntFlag
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kvfs.capability import Durability
from kvfs.errors import Conflict, NotFound, Stale
from kvfs.files.attributing import (
    XATTR_BYTES_MAX,
    XATTR_NAME_BYTES_MAX,
    Changes,
    check_xattr_name,
    drop_capabilities,
    remove_xattr,
    set_attributes,
    set_xattr,
)
from kvfs.files.change import Change, Refused
from kvfs.files.contents import Contents
from kvfs.files.files import Files, NotResident, Residency, StatFS, View
from kvfs.files.names import NameHash
from kvfs.files.naming import Caller, Naming, RenameFlag
from kvfs.files.nodes import Node
from kvfs.files.overlay import Overlay
from kvfs.files.records import EPOCH_BITS, NUMBER_BITS, is_own_tree, unlinked_key
from kvfs.files.references import References
from kvfs.kv import Buffer, KVStore, prefix_end

P = ParamSpec("P")
R = TypeVar("R")

CONFLICTS_MAX = 1000
"""An operation that somebody gets in the way of so often is given up."""
COPY_BYTES = 1 << 20
"""A copy is made in steps of so many bytes; each is one change."""
SYMLINK_BYTES_MAX = 4095


class FallocateFlag(IntFlag):
    """As fallocate(2) has them."""

    KEEP_SIZE = 0x01
    PUNCH_HOLE = 0x02
    ZERO_RANGE = 0x10


class WriteContext(Protocol):
    """What all threads that write to one volume share; the volume has it."""

    store: KVStore
    """Holds the writable tree."""
    durability: Durability
    """What a change is committed at; what makes it last is :meth:`sync`."""
    contents: Contents
    references: References
    is_shared: bool
    """May others change the volume, too, behind the back of this kernel?"""

    @property
    def is_congested(self) -> bool:
        """Would a change have to wait until the engine has taken others?"""
        ...

    @property
    def dirty(self) -> Container[int]:
        """The trees of tarballs that may be written to: once whole, they stay."""
        ...

    def open_tree(self, tree: int) -> None:
        """Let a tree of a tarball be written to; may wait.

        :raises NotResident: it is not in the store.
        :raises Stale: its tarball is another by now.
        :raises Refused: it is not to be written to.
        """
        ...

    def new_inode(self, tree: int) -> int:
        """An inode number, of a tree, that no other ever had."""
        ...

    def sync(self) -> None:
        """Return when everything so far is as durable as the volume promises."""
        ...

    def may_have_lost(self, inode: int) -> bool:
        """May a killed process have taken something of it along?  Says so once."""
        ...


class WritableFiles(Files):
    """As :class:`~kvfs.files.Files`, and what the volume lets be changed can be.

    That is the tree of the volume itself, or the trees of its tarballs: each of them is, for names,
    a file system of its own.  What is changed there is laid over what was fetched.

    :param own: may the tree of the volume itself be changed?
    :raises Refused: (any method here) with the errno that POSIX has for it.
    :raises NotResident: (any method here) also if nothing was changed yet in that tarball.
    """

    _counts = True

    def __init__(
        self,
        context: WriteContext,
        sealed: KVStore,
        *,
        names: NameHash,
        extent_bytes: int,
        residency: Residency,
        statfs: Callable[[], StatFS],
        own: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(
            context.store,
            sealed,
            names=names,
            extent_bytes=extent_bytes,
            residency=residency,
            statfs=statfs,
        )
        self._context = context
        if context.is_shared:
            self._kept_s = 0
        self._contents = context.contents
        self._naming = Naming(context.contents, context.references)
        self._hash = names
        self._own = own
        self._clock = clock
        self.before_effect: Callable[[], object] = _nothing
        """Called before a change is committed, and before something is given to the kernel: what
        it raises ends the call, which then has had no effect.  Until then a call may be given up.
        """

    def _do(
        self,
        tree: int,
        operation: Callable[Concatenate[Change, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Do one operation in a tree, anew if somebody changed what it found."""
        for _ in range(CONFLICTS_MAX):
            view = self._view(0) if is_own_tree(tree) else self._enter(tree)
            change = Change(view, self._hash, self._clock())
            try:
                result = operation(change, *args, **kwargs)
                batch = change.finish()
            except Exception:
                if not self._is_torn(view, change):
                    raise
                continue
            if not batch.puts and not batch.deletes and not batch.range_deletes:
                if not self._is_torn(view, change):
                    return result
                continue
            self.before_effect()
            try:
                self._context.store.commit(batch, self._context.durability)
            except Conflict:
                continue
            return result
        raise Conflict(f"others were in the way of an operation {CONFLICTS_MAX} times")

    def _is_torn(self, view: View, change: Change) -> bool:
        """Has an operation that commits nothing seen what never was there at one instant?"""
        return self._is_live(view) and not change.holds()

    @property
    def is_congested(self) -> bool:
        """Would a change have to wait until the engine has taken others?"""
        return self._context.is_congested

    def _writable(self, inode: int) -> int:
        """The tree of an inode, if it may be written to."""
        tree = inode >> NUMBER_BITS
        if is_own_tree(tree):
            if not self._own:
                raise Refused(errno.EROFS, f"inode {inode:#x} is above the tarballs")
        elif tree not in self._context.dirty:
            self._open_tree(tree)
        return tree

    def _open_tree(self, tree: int) -> None:
        raise NotResident(tree >> EPOCH_BITS)

    def _writable_both(self, inode: int, other: int) -> int:
        """The one tree of two inodes, if it may be written to."""
        tree, another = inode >> NUMBER_BITS, other >> NUMBER_BITS
        if is_own_tree(tree):
            self._writable(inode)
            tree = another if is_own_tree(another) else tree
        # Before the tarball is opened: what is refused must not keep it from being evicted.
        if another != tree:
            raise Refused(errno.EXDEV, f"inodes {inode:#x}, {other:#x}: not of one tarball")
        return self._writable(inode)

    # -- where things are, of trees that are written to --------------------------------------------

    def _enter(self, tree: int) -> View:
        if tree not in self._context.dirty:
            return super()._enter(tree)
        if tree in self._written and self._calls_left > 0:
            self._calls_left -= 1
            lower = self._views[1]
            assert lower is not None
        else:
            lower = self._look(tree)
            if tree not in self._written:
                raise self._absent(tree)
        return Overlay(self._view(0), lower)

    def _is_whole(self, tree: int) -> bool:
        return tree in self._context.dirty or super()._is_whole(tree)

    def _believes(self, tree: int) -> bool:
        return tree in self._context.dirty or super()._believes(tree)

    def _inode(self, inode: int) -> tuple[Buffer, View]:
        try:
            return super()._inode(inode)
        except NotFound as error:
            if not self.is_shared:
                raise
            # Somebody else has removed it, and did not know that it is in use here.
            raise Refused(errno.ESTALE, f"there is no inode {inode:#x} any more") from error

    # -- making ------------------------------------------------------------------------------------

    def mknod(self, parent: int, name: bytes, mode: int, rdev: int, caller: Caller) -> bytes:
        """Make a file, FIFO, socket or device; returns its ``fuse_entry_out``."""
        return self._make(parent, name, mode, caller, rdev=rdev)

    def mkdir(self, parent: int, name: bytes, mode: int, caller: Caller) -> bytes:
        """Make a directory; returns its ``fuse_entry_out``."""
        return self._make(parent, name, stat.S_IFDIR | mode & 0o7777, caller)

    def symlink(self, parent: int, name: bytes, target: bytes, caller: Caller) -> bytes:
        """Make a symbolic link; returns its ``fuse_entry_out``."""
        if len(target) > SYMLINK_BYTES_MAX:
            raise Refused(errno.ENAMETOOLONG, f"a link to {len(target)} bytes")
        return self._make(parent, name, stat.S_IFLNK | 0o777, caller, content=target)

    def _make(
        self,
        parent: int,
        name: bytes,
        mode: int,
        caller: Caller,
        *,
        rdev: int = 0,
        content: bytes = b"",
    ) -> bytes:
        tree = self._writable(parent)
        inode = self._context.new_inode(tree)
        node = self._do(tree, self._naming.new, inode, parent, name, mode, rdev, content, caller)
        self._context.references.add(inode)
        return node.entry(self._kept_s)

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> bytes:
        """Make a file that has no name (yet); returns its ``fuse_entry_out``."""
        tree = self._writable(parent)
        inode = self._context.new_inode(tree)
        node = self._do(tree, self._naming.new_nameless, inode, parent, mode, caller)
        self._context.references.add(inode)
        return node.entry(self._kept_s)

    def link(self, inode: int, parent: int, name: bytes) -> bytes:
        """Give an inode one more name; returns its ``fuse_entry_out``."""
        tree = self._writable_both(inode, parent)
        node = self._do(tree, self._naming.link, inode, parent, name)
        self._context.references.add(inode)
        return node.entry(self._kept_s)

    # -- removing ----------------------------------------------------------------------------------

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove the name of something that is no directory; it stays while it is in use."""
        self._do(self._writable(parent), self._naming.unlink, parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        self._do(self._writable(parent), self._naming.rmdir, parent, name)

    def forget(self, inode: int, count: int) -> None:
        """The kernel lets go of an inode that it was given ``count`` times."""
        tree = inode >> NUMBER_BITS
        if not self._context.references.drop(inode, count):
            return
        if not is_own_tree(tree) and tree not in self._context.dirty:
            return
        user = self._context.references.user
        if self._view(0).get(unlinked_key(inode)) == user:
            self._do(tree, self._naming.reclaim, inode, user)

    def reclaim_all(self, users: Callable[[], Container[bytes]] = tuple) -> int:
        """Remove whatever has no name and is not in use; returns how much there was.

        :param users: asked who of those who had it in use is still there.
        """
        removed = 0
        start = unlinked_key(0)
        stop = prefix_end(start[:1])
        while True:
            records = self._view(0).scan(start, stop, limit=1000)
            found = [(bytes(key), bytes(user)) for key, user in records]
            if not found:
                return removed
            present = users()  # afterwards: who comes meanwhile has none of these
            for key, user in found:
                if user in present:
                    continue
                inode = int.from_bytes(key[1:], "big")
                with suppress(NotResident, Stale):  # of a tarball that has to be fetched first
                    self._do(inode >> NUMBER_BITS, self._naming.reclaim, inode, user)
                    removed += 1
            start = found[-1][0] + b"\0"

    # -- renaming ----------------------------------------------------------------------------------

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0
    ) -> None:
        """Give something another name, in place of what has it, as renameat2(2)."""
        tree = self._writable_both(parent, new_parent)
        if flags not in (0, RenameFlag.NOREPLACE, RenameFlag.EXCHANGE):
            raise Refused(errno.EINVAL, f"rename with flags {flags:#x}")
        naming = self._naming
        operation = naming.exchange if flags & RenameFlag.EXCHANGE else naming.rename
        self._do(tree, operation, parent, name, new_parent, new_name, flags)

    # -- attributes --------------------------------------------------------------------------------

    def setattr(self, inode: int, changes: Changes) -> bytes:
        """Change attributes; returns the ``fuse_attr_out`` then."""
        tree = self._writable(inode)
        node = self._do(tree, set_attributes, self._contents, inode, changes)
        return node.attr_out(self._kept_s)

    def setxattr(
        self, inode: int, name: bytes, value: bytes, flags: int = 0, *, drops_setgid: bool = False
    ) -> None:
        """Set one extended attribute."""
        tree = self._writable(inode)
        check_xattr_name(name)
        if len(name) > XATTR_NAME_BYTES_MAX:
            raise Refused(errno.ERANGE, f"an attribute with a name of {len(name)} bytes")
        if len(value) > XATTR_BYTES_MAX:
            raise Refused(errno.E2BIG, f"an attribute of {len(value)} bytes")
        self._do(tree, set_xattr, inode, name, value, flags, drops_setgid)

    def getxattr(self, inode: int, name: bytes) -> Buffer | None:
        """The value of one extended attribute; ``None``: there is none of this name."""
        value = super().getxattr(inode, name)
        if value is None:
            check_xattr_name(name)
        return value

    def removexattr(self, inode: int, name: bytes) -> None:
        """Remove one extended attribute."""
        tree = self._writable(inode)
        check_xattr_name(name)
        self._do(tree, remove_xattr, inode, name)

    # -- contents ----------------------------------------------------------------------------------

    @property
    def is_shared(self) -> bool:
        """May others change the volume, too, behind the back of this kernel?"""
        return self._context.is_shared

    def write(
        self,
        inode: int,
        offset: int | None,
        data: Buffer,
        *,
        drops_privileges: bool = False,
    ) -> int:
        """Write ``data`` at ``offset`` (``None``: at the end); returns how many bytes: all."""
        self._do(self._writable(inode), self._write, inode, offset, data, drops_privileges)
        return len(data)

    def _write(
        self, change: Change, inode: int, offset: int | None, data: Buffer, drops_privileges: bool
    ) -> None:
        node = self._file(change, inode)
        if not len(data):
            return  # changes nothing, wherever it is
        if offset is None:
            offset = node.attributes.size
        self._contents.write(change, node, offset, data)
        drop_capabilities(change, node)
        node.modified(change.now_ns)
        if drops_privileges:
            node.drop_privileges()
        change.store(node)

    @staticmethod
    def _file(change: Change, inode: int) -> Node:
        node = change.node(inode)
        if not node.is_regular:
            raise Refused(errno.EINVAL, f"inode {inode:#x} is not a file")
        return node

    def fallocate(
        self, inode: int, mode: int, offset: int, length: int, *, drops_privileges: bool = False
    ) -> None:
        """Make room, a hole or zeros, as fallocate(2)."""
        tree = self._writable(inode)
        if length <= 0 or offset < 0:
            raise Refused(errno.EINVAL, "fallocate of no bytes")
        known = FallocateFlag.KEEP_SIZE | FallocateFlag.PUNCH_HOLE | FallocateFlag.ZERO_RANGE
        if mode & ~known.value:
            raise Refused(errno.EOPNOTSUPP, f"fallocate with mode {mode:#x}")
        stop = offset + length
        while offset < stop:
            offset = self._do(
                tree, self._fallocate, inode, mode, offset, stop - offset, drops_privileges
            )

    def _fallocate(
        self,
        change: Change,
        inode: int,
        mode: int,
        offset: int,
        length: int,
        drops_privileges: bool,
    ) -> int:
        """One step; returns up to where it is done."""
        node = self._file(change, inode)
        done = stop = offset + length
        if mode & (FallocateFlag.PUNCH_HOLE | FallocateFlag.ZERO_RANGE):
            done = self._contents.zero(change, node, offset, length)
        if done == stop and not mode & FallocateFlag.KEEP_SIZE and stop > node.attributes.size:
            self._contents.truncate(change, node, stop)
        node.modified(change.now_ns)
        if drops_privileges:
            node.drop_privileges()
        change.store(node)
        return done

    def copy_range(
        self,
        source: int,
        offset: int,
        inode: int,
        new_offset: int,
        length: int,
        *,
        drops_privileges: bool = False,
    ) -> int:
        """Copy from file to file; returns how many bytes, fewer at the end of the source."""
        tree = self._writable(inode)
        done = 0
        # Of one file too: not what the copy itself appends to it.
        length = min(length, self.stat(source).size - offset)
        while done < length:
            step = min(COPY_BYTES, length - done)
            data = b"".join(self.read(source, offset + done, step))
            if not data:
                break
            self._do(tree, self._write, inode, new_offset + done, data, drops_privileges)
            done += len(data)
        return done

    def seek(self, inode: int, offset: int, whence: int) -> int:
        """The offset of the next data or hole, as lseek(2) with ``SEEK_DATA`` or ``SEEK_HOLE``."""
        tree = inode >> NUMBER_BITS
        if is_own_tree(tree) or tree in self._context.dirty:
            return self._do(tree, self._seek, inode, offset, whence)
        size = self.stat(inode).size
        if not 0 <= offset < size:
            raise Refused(errno.ENXIO, f"offset {offset} of a file of {size} bytes")
        return offset if whence == os.SEEK_DATA else size

    def _seek(self, change: Change, inode: int, offset: int, whence: int) -> int:
        return self._contents.seek(change.view, self._file(change, inode), offset, whence)

    def sync(self, inode: int | None = None) -> None:
        """Return when everything so far is as durable as the volume promises.

        :param inode: whom it is done for: it is told once if something of it may be lost.
        """
        if inode is not None and self._context.may_have_lost(inode):
            raise Refused(errno.EIO, f"the end of what inode {inode:#x} was given may be lost")
        self._context.sync()

    # -- what the kernel is given ------------------------------------------------------------------

    def lookup(self, parent: int, name: bytes) -> Buffer | None:
        """The entry of ``name``, which the kernel then has once more."""
        entry = super().lookup(parent, name)
        if entry is not None:
            self._given(entry)
        return entry

    def _given(self, record: Buffer) -> None:
        self.before_effect()
        self._context.references.add(int.from_bytes(record[:8], "little"))


def _nothing() -> None:
    """There is nothing to be told."""


__all__ = ["FallocateFlag", "WritableFiles", "WriteContext"]
