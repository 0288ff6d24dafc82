"""Changing a writable tree: every operation of POSIX that is not reading.

Each operation is one guarded batch: it is done whole or not at all, and what it found is still so
when it is done.  If not, it is done anew.  Who may do what is the kernel's to check, from the
attributes; what follows from an operation for times, link counts and modes is done here.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from enum import IntFlag
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kvfs.capability import Durability
from kvfs.errors import Conflict
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
from kvfs.files.files import Files, Residency, StatFS
from kvfs.files.names import NameHash
from kvfs.files.naming import Caller, Naming, RenameFlag
from kvfs.files.nodes import Node
from kvfs.files.records import is_own, unlinked_key
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

    @property
    def is_congested(self) -> bool:
        """Would a change have to wait until the engine has taken others?"""
        ...

    def new_number(self) -> int:
        """An inode number that no other ever had."""
        ...

    def sync(self) -> None:
        """Return when everything so far is as durable as the volume promises."""
        ...

    def may_have_lost(self, inode: int) -> bool:
        """May a killed process have taken something of it along?  Says so once."""
        ...


class WritableFiles(Files):
    """As :class:`~kvfs.files.Files`, and the directories that belong to no tarball can be changed.

    :raises Refused: (any method here) with the errno that POSIX has for it.
    """

    def __init__(
        self,
        context: WriteContext,
        sealed: KVStore,
        *,
        names: NameHash,
        extent_bytes: int,
        residency: Residency,
        statfs: Callable[[], StatFS],
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
        self._contents = context.contents
        self._naming = Naming(context.contents, context.references)
        self._hash = names
        self._clock = clock

    def _do(
        self, operation: Callable[Concatenate[Change, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Do one operation, anew if somebody changed what it found."""
        for _ in range(CONFLICTS_MAX):
            change = Change(self._view(0), self._hash, self._clock())
            result = operation(change, *args, **kwargs)
            batch = change.finish()
            if not batch.puts and not batch.deletes and not batch.range_deletes:
                return result
            try:
                self._context.store.commit(batch, self._context.durability)
            except Conflict as error:
                conflict = error
                continue
            return result
        raise conflict

    @property
    def is_congested(self) -> bool:
        """Would a change have to wait until the engine has taken others?"""
        return self._context.is_congested

    @staticmethod
    def _writable(inode: int) -> None:
        if not is_own(inode):
            raise Refused(errno.EROFS, f"inode {inode:#x} is inside a tarball")

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
        self._writable(parent)
        inode = self._context.new_number()
        node = self._do(self._naming.new, inode, parent, name, mode, rdev, content, caller)
        self._context.references.add(inode)
        return node.entry()

    def tmpfile(self, parent: int, mode: int, caller: Caller) -> bytes:
        """Make a file that has no name (yet); returns its ``fuse_entry_out``."""
        self._writable(parent)
        inode = self._context.new_number()
        node = self._do(self._naming.new_nameless, inode, parent, mode, caller)
        self._context.references.add(inode)
        return node.entry()

    def link(self, inode: int, parent: int, name: bytes) -> bytes:
        """Give an inode one more name; returns its ``fuse_entry_out``."""
        self._writable(inode)
        self._writable(parent)
        node = self._do(self._naming.link, inode, parent, name)
        self._context.references.add(inode)
        return node.entry()

    # -- removing ----------------------------------------------------------------------------------

    def unlink(self, parent: int, name: bytes) -> None:
        """Remove the name of something that is no directory; it stays while it is in use."""
        self._writable(parent)
        self._do(self._naming.unlink, parent, name)

    def rmdir(self, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        self._writable(parent)
        self._do(self._naming.rmdir, parent, name)

    def forget(self, inode: int, count: int) -> None:
        """The kernel lets go of an inode that it was given ``count`` times."""
        if not is_own(inode) or not self._context.references.drop(inode, count):
            return
        if self._view(0).get(unlinked_key(inode)) is not None:
            self._do(self._naming.reclaim, inode)

    def reclaim_all(self) -> int:
        """Remove whatever has no name, when nobody uses anything; returns how much there was."""
        removed = 0
        prefix = unlinked_key(0)[:1]
        while True:
            view = self._view(0)
            found = [bytes(k) for k, _ in view.scan(prefix, prefix_end(prefix), limit=1000)]
            if not found:
                return removed
            for key in found:
                self._do(self._naming.reclaim, int.from_bytes(key[1:], "big"))
            removed += len(found)

    # -- renaming ----------------------------------------------------------------------------------

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0
    ) -> None:
        """Give something another name, in place of what has it, as renameat2(2)."""
        self._writable(parent)
        self._writable(new_parent)
        if flags not in (0, RenameFlag.NOREPLACE, RenameFlag.EXCHANGE):
            raise Refused(errno.EINVAL, f"rename with flags {flags:#x}")
        naming = self._naming
        operation = naming.exchange if flags & RenameFlag.EXCHANGE else naming.rename
        self._do(operation, parent, name, new_parent, new_name, flags)

    # -- attributes --------------------------------------------------------------------------------

    def setattr(self, inode: int, changes: Changes) -> bytes:
        """Change attributes; returns the ``fuse_attr_out`` then."""
        self._writable(inode)
        return self._do(set_attributes, self._contents, inode, changes).attr_out()

    def setxattr(
        self, inode: int, name: bytes, value: bytes, flags: int = 0, *, drops_setgid: bool = False
    ) -> None:
        """Set one extended attribute."""
        self._writable(inode)
        check_xattr_name(name)
        if len(name) > XATTR_NAME_BYTES_MAX:
            raise Refused(errno.ERANGE, f"an attribute with a name of {len(name)} bytes")
        if len(value) > XATTR_BYTES_MAX:
            raise Refused(errno.E2BIG, f"an attribute of {len(value)} bytes")
        self._do(set_xattr, inode, name, value, flags, drops_setgid)

    def getxattr(self, inode: int, name: bytes) -> Buffer | None:
        """The value of one extended attribute; ``None``: there is none of this name."""
        value = super().getxattr(inode, name)
        if value is None:
            check_xattr_name(name)
        return value

    def removexattr(self, inode: int, name: bytes) -> None:
        """Remove one extended attribute."""
        self._writable(inode)
        check_xattr_name(name)
        self._do(remove_xattr, inode, name)

    # -- contents ----------------------------------------------------------------------------------

    def write(
        self, inode: int, offset: int, data: Buffer, *, drops_privileges: bool = False
    ) -> int:
        """Write ``data`` at ``offset``; returns how many bytes: all."""
        self._writable(inode)
        self._do(self._write, inode, offset, data, drops_privileges)
        return len(data)

    def _write(
        self, change: Change, inode: int, offset: int, data: Buffer, drops_privileges: bool
    ) -> None:
        node = self._file(change, inode)
        if not len(data):
            return  # changes nothing, wherever it is
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
        self._writable(inode)
        if length <= 0 or offset < 0:
            raise Refused(errno.EINVAL, "fallocate of no bytes")
        known = FallocateFlag.KEEP_SIZE | FallocateFlag.PUNCH_HOLE | FallocateFlag.ZERO_RANGE
        if mode & ~known.value:
            raise Refused(errno.EOPNOTSUPP, f"fallocate with mode {mode:#x}")
        self._do(self._fallocate, inode, mode, offset, length, drops_privileges)

    def _fallocate(
        self,
        change: Change,
        inode: int,
        mode: int,
        offset: int,
        length: int,
        drops_privileges: bool,
    ) -> None:
        node = self._file(change, inode)
        stop = offset + length
        if mode & (FallocateFlag.PUNCH_HOLE | FallocateFlag.ZERO_RANGE):
            self._contents.zero(change, node, offset, length)
        if not mode & FallocateFlag.KEEP_SIZE and stop > node.attributes.size:
            self._contents.truncate(change, node, stop)
        node.modified(change.now_ns)
        if drops_privileges:
            node.drop_privileges()
        change.store(node)

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
        self._writable(inode)
        done = 0
        # Of one file too: not what the copy itself appends to it.
        length = min(length, self.stat(source).size - offset)
        while done < length:
            step = min(COPY_BYTES, length - done)
            data = b"".join(self.read(source, offset + done, step))
            if not data:
                break
            self._do(self._write, inode, new_offset + done, data, drops_privileges)
            done += len(data)
        return done

    def seek(self, inode: int, offset: int, whence: int) -> int:
        """The offset of the next data or hole, as lseek(2) with ``SEEK_DATA`` or ``SEEK_HOLE``."""
        if is_own(inode):
            return self._do(self._seek, inode, offset, whence)
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

    def _given(self, inode: int) -> None:
        if is_own(inode):
            self._context.references.add(inode)


__all__ = ["FallocateFlag", "WritableFiles", "WriteContext"]
