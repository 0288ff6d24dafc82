"""What POSIX says of a tree of files, as plain Python: the other side of the files machine.

Nothing is stored, counted in advance or done in batches: it is to be seen that it is right.  Errors
are :class:`OSError` with the errno.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NoReturn

import attrs

DIRECTORY_BYTES = 4096
NAME_BYTES_MAX = 255


def refuse(number: int) -> NoReturn:
    """It is not done, for this reason."""
    raise OSError(number, os.strerror(number))


@attrs.define(eq=False, kw_only=True)
class ModelNode:
    """A file, directory, symbolic link or special file."""

    mode: int
    uid: int
    gid: int
    born_ns: int
    parent: ModelNode | None = None
    """Of a directory: the one above."""
    inode: int = 0
    """Given by what is tested."""
    rdev: int = 0
    names: int = 0
    content: bytearray = attrs.field(factory=bytearray)
    """Of a file, or the target of a link."""
    entries: dict[bytes, ModelNode] = attrs.field(factory=dict)
    xattrs: dict[bytes, bytes] = attrs.field(factory=dict)
    atime_ns: int = attrs.Factory(lambda self: self.born_ns, takes_self=True)
    mtime_ns: int = attrs.Factory(lambda self: self.born_ns, takes_self=True)
    ctime_ns: int = attrs.Factory(lambda self: self.born_ns, takes_self=True)

    @property
    def is_directory(self) -> bool:
        """Is it a directory?"""
        return stat.S_ISDIR(self.mode)

    @property
    def nlink(self) -> int:
        """Its names; of a directory also its own ``.`` and the ``..`` below it."""
        if not self.is_directory or not self.names:
            return self.names
        return 2 + sum(node.is_directory for node in self.entries.values())

    @property
    def size(self) -> int:
        """As ``st_size``."""
        return DIRECTORY_BYTES if self.is_directory else len(self.content)

    def is_below(self, other: ModelNode) -> bool:
        """Is it that directory, or below it?"""
        node: ModelNode | None = self
        while node is not None and node is not other:
            node = node.parent
        return node is other

    def drop_privileges(self) -> None:
        """Take setuid away, and setgid where the group may execute it."""
        self.mode &= ~stat.S_ISUID
        if self.mode & stat.S_IXGRP:
            self.mode &= ~stat.S_ISGID


Touched = tuple[ModelNode, ...]
"""What an operation changed, what it made first."""


class FilesModel:
    """A tree of files, and the time."""

    def __init__(self) -> None:
        self.now_ns = 1_600_000_000_000_000_000
        self.root = ModelNode(mode=stat.S_IFDIR | 0o755, uid=0, gid=0, born_ns=0, names=1)

    def _place(self, parent: ModelNode, name: bytes) -> ModelNode | None:
        """What a name leads to, in a directory in which names can be made and removed."""
        if not parent.is_directory:
            refuse(errno.ENOTDIR)
        if not parent.names:
            refuse(errno.ENOENT)
        if len(name) > NAME_BYTES_MAX:
            refuse(errno.ENAMETOOLONG)
        return parent.entries.get(name)

    def _existing(self, parent: ModelNode, name: bytes) -> ModelNode:
        node = self._place(parent, name)
        if node is None:
            refuse(errno.ENOENT)
        return node

    def _changed(self, *nodes: ModelNode) -> None:
        for node in nodes:
            node.ctime_ns = self.now_ns

    def _modified(self, *nodes: ModelNode) -> None:
        for node in nodes:
            node.ctime_ns = node.mtime_ns = self.now_ns

    # -- names -------------------------------------------------------------------------------------

    def _born(
        self, parent: ModelNode, mode: int, uid: int, gid: int, umask: int, content: bytes = b""
    ) -> ModelNode:
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        if not stat.S_ISLNK(mode):
            mode &= ~umask
        node = ModelNode(mode=mode, uid=uid, gid=gid, born_ns=self.now_ns)
        node.content += content
        return node

    def make(
        self,
        parent: ModelNode,
        name: bytes,
        mode: int,
        uid: int,
        gid: int,
        umask: int,
        *,
        rdev: int = 0,
        target: bytes = b"",
    ) -> Touched:
        """mknod(2), mkdir(2), symlink(2)."""
        if self._place(parent, name) is not None:
            refuse(errno.EEXIST)
        node = self._born(parent, mode, uid, gid, umask, target)
        node.rdev = rdev
        node.names = 1
        if node.is_directory:
            node.parent = parent
        parent.entries[name] = node
        self._modified(parent)
        return node, parent

    def tmpfile(self, parent: ModelNode, mode: int, uid: int, gid: int, umask: int) -> Touched:
        """open(2) with ``O_TMPFILE``."""
        self._place(parent, b"")
        return (self._born(parent, mode, uid, gid, umask),)

    def link(self, node: ModelNode, parent: ModelNode, name: bytes) -> Touched:
        """link(2)."""
        if not parent.names:
            refuse(errno.ENOENT)
        if node.is_directory:
            refuse(errno.EPERM)
        if self._place(parent, name) is not None:
            refuse(errno.EEXIST)
        parent.entries[name] = node
        node.names += 1
        self._changed(node)
        self._modified(parent)
        return node, parent

    def unlink(self, parent: ModelNode, name: bytes) -> Touched:
        """unlink(2)."""
        node = self._existing(parent, name)
        if node.is_directory:
            refuse(errno.EISDIR)
        return self._removed(parent, name, node)

    def rmdir(self, parent: ModelNode, name: bytes) -> Touched:
        """rmdir(2)."""
        node = self._existing(parent, name)
        self._check_removable(node)
        return self._removed(parent, name, node)

    def _removed(self, parent: ModelNode, name: bytes, node: ModelNode) -> Touched:
        del parent.entries[name]
        node.names -= 1
        self._changed(node)
        self._modified(parent)
        return parent, node

    @staticmethod
    def _check_removable(node: ModelNode) -> None:
        if not node.is_directory:
            refuse(errno.ENOTDIR)
        if node.entries:
            refuse(errno.ENOTEMPTY)

    def rename(
        self,
        parent: ModelNode,
        name: bytes,
        new_parent: ModelNode,
        new_name: bytes,
        *,
        noreplace: bool = False,
    ) -> Touched:
        """rename(2), or renameat2(2) with ``RENAME_NOREPLACE``."""
        self._place(new_parent, b"")
        node = self._existing(parent, name)
        other = self._place(new_parent, new_name)
        if other is not None and noreplace:
            refuse(errno.EEXIST)
        if node is other:
            return (node,)
        if node.is_directory and new_parent.is_below(node):
            refuse(errno.EINVAL)
        if other is not None:
            if node.is_directory:
                self._check_removable(other)
            elif other.is_directory:
                refuse(errno.EISDIR)
            other.names -= 1
            self._changed(other)
        del parent.entries[name]
        new_parent.entries[new_name] = node
        if node.is_directory:
            node.parent = new_parent
        self._changed(node)
        self._modified(parent, new_parent)
        return (node, parent, new_parent) if other is None else (node, parent, new_parent, other)

    def exchange(
        self, parent: ModelNode, name: bytes, new_parent: ModelNode, new_name: bytes
    ) -> Touched:
        """renameat2(2) with ``RENAME_EXCHANGE``."""
        self._place(new_parent, b"")
        node, other = self._existing(parent, name), self._existing(new_parent, new_name)
        if node is other:
            return (node,)
        for moving, into in ((node, new_parent), (other, parent)):
            if moving.is_directory and into.is_below(moving):
                refuse(errno.EINVAL)
        parent.entries[name], new_parent.entries[new_name] = other, node
        for moved, into in ((node, new_parent), (other, parent)):
            if moved.is_directory:
                moved.parent = into
        self._changed(node, other)
        self._modified(parent, new_parent)
        return node, other, parent, new_parent

    # -- attributes --------------------------------------------------------------------------------

    def chmod(self, node: ModelNode, bits: int) -> Touched:
        """chmod(2)."""
        node.mode = stat.S_IFMT(node.mode) | bits
        self._changed(node)
        return (node,)

    def chown(self, node: ModelNode, uid: int | None, gid: int | None) -> Touched:
        """chown(2); ``None``: stays."""
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        if not node.is_directory and (uid is not None or gid is not None):
            node.drop_privileges()
        self._changed(node)
        return (node,)

    def utimens(self, node: ModelNode, atime_ns: int | None, mtime_ns: int | None) -> Touched:
        """utimensat(2); ``None``: now."""
        node.atime_ns = self.now_ns if atime_ns is None else atime_ns
        node.mtime_ns = self.now_ns if mtime_ns is None else mtime_ns
        self._changed(node)
        return (node,)

    def setxattr(
        self, node: ModelNode, name: bytes, value: bytes, *, create: bool, replace: bool
    ) -> Touched:
        """setxattr(2)."""
        if create and name in node.xattrs:
            refuse(errno.EEXIST)
        if replace and name not in node.xattrs:
            refuse(errno.ENODATA)
        node.xattrs[name] = value
        self._changed(node)
        return (node,)

    def removexattr(self, node: ModelNode, name: bytes) -> Touched:
        """removexattr(2)."""
        if node.xattrs.pop(name, None) is None:
            refuse(errno.ENODATA)
        self._changed(node)
        return (node,)

    # -- contents ----------------------------------------------------------------------------------

    @staticmethod
    def _check_file(node: ModelNode) -> None:
        if not stat.S_ISREG(node.mode):
            refuse(errno.EINVAL)

    def write(self, node: ModelNode, offset: int, data: bytes, *, privileged: bool) -> Touched:
        """pwrite(2)."""
        self._check_file(node)
        if not data:
            return (node,)
        content = node.content
        content += bytes(max(offset + len(data) - len(content), 0))
        content[offset : offset + len(data)] = data
        if not privileged:
            node.drop_privileges()
        self._modified(node)
        return (node,)

    def truncate(self, node: ModelNode, size: int) -> Touched:
        """truncate(2)."""
        if node.is_directory:
            refuse(errno.EISDIR)
        self._check_file(node)
        node.content[size:] = bytes(max(size - len(node.content), 0))
        self._modified(node)
        return (node,)

    def fallocate(
        self, node: ModelNode, offset: int, length: int, *, zero: bool, keep_size: bool
    ) -> Touched:
        """fallocate(2); punching a hole is to zero and to keep the size."""
        self._check_file(node)
        content, stop = node.content, offset + length
        if zero:
            end = min(stop, len(content))
            content[offset:end] = bytes(max(end - offset, 0))
        if not keep_size:
            content += bytes(max(stop - len(content), 0))
        self._modified(node)
        return (node,)

    def copy_range(
        self, source: ModelNode, offset: int, node: ModelNode, new_offset: int, length: int
    ) -> Touched:
        """copy_file_range(2) between files."""
        data = bytes(source.content[offset : offset + length])
        return self.write(node, new_offset, data, privileged=True) if data else (node,)


__all__ = ["FilesModel", "ModelNode", "Touched"]
