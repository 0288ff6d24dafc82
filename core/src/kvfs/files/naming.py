"""Names and what they lead to: making, linking, removing, renaming.

Each method is one operation on a :class:`~kvfs.files.change.Change`: it reads what it depends on,
and says what is to be written.
"""

from __future__ import annotations

import errno
import stat
from enum import IntFlag

import attrs

from kvfs.files import acl
from kvfs.files.change import Change, Refused
from kvfs.files.contents import Contents
from kvfs.files.nodes import LINKS_MAX, Node
from kvfs.files.records import (
    FIRST_SLOT,
    LAST_SLOT,
    LINK_KEY,
    Attributes,
    InodeFlag,
    dirent_key,
    inode_key,
    link_key,
    unlinked_key,
    xattr_key,
)
from kvfs.files.references import References
from kvfs.kv import prefix_end

DIRECTORY_BYTES = 4096


class RenameFlag(IntFlag):
    """As renameat2(2) has them."""

    NOREPLACE = 1
    EXCHANGE = 2
    WHITEOUT = 4


@attrs.frozen
class Caller:
    """On whose behalf something is made."""

    uid: int = 0
    gid: int = 0
    umask: int = 0
    """Applied here, and not before, since a default ACL takes its place."""


class Naming:
    """The operations on names.

    :param references: tells what is in use, and has to stay when it has lost its last name.
    """

    def __init__(self, contents: Contents, references: References) -> None:
        self._contents = contents
        self._references = references

    # -- making ------------------------------------------------------------------------------------

    def new(
        self,
        change: Change,
        inode: int,
        parent: int,
        name: bytes,
        mode: int,
        rdev: int,
        content: bytes,
        caller: Caller,
    ) -> Node:
        """Make something under a name."""
        directory = change.directory(parent)
        slot, taken = change.find(parent, name)
        if taken is not None:
            raise Refused(errno.EEXIST, f"{name!r} is there already")
        node = self._born(change, inode, directory, mode, caller)
        node.slot = slot
        node.attributes.rdev = rdev
        if stat.S_ISLNK(mode):
            node.content = content
            node.attributes.size = len(content)
        elif node.is_directory:
            node.attributes.size = DIRECTORY_BYTES
            node.attributes.nlink = 2
            directory.gain_subdirectory()
        directory.modified(change.now_ns)
        change.put_name(parent, slot, name, node)
        change.store(node)
        change.store(directory)
        return node

    def _born(self, change: Change, inode: int, directory: Node, mode: int, caller: Caller) -> Node:
        """A new inode, with what it inherits from its directory."""
        above = directory.attributes
        gid = caller.gid
        if above.mode & stat.S_ISGID:
            gid = above.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        now_ns = change.now_ns
        attributes = Attributes(
            inode=inode,
            mode=mode,
            uid=caller.uid,
            gid=gid,
            mtime_ns=now_ns,
            atime_ns=now_ns,
            ctime_ns=now_ns,
        )
        node = Node(attributes=attributes, parent=directory.inode, slot=0)
        if not stat.S_ISLNK(mode):
            self._inherit(change, directory, node, caller.umask)
        return node

    def _inherit(self, change: Change, directory: Node, node: Node, umask: int) -> None:
        """Apply the default ACL of the directory, or else the umask."""
        attributes = node.attributes
        default = None
        if directory.has_xattrs:
            default = change.get(xattr_key(directory.inode, acl.DEFAULT))
        if default is None:
            attributes.mode &= ~umask
            return
        access = acl.ACL.unpack(default).restricted_to(attributes.mode)
        attributes.mode = acl.with_permissions(attributes.mode, access.permissions)
        if not access.is_minimal:
            change.put(xattr_key(node.inode, acl.ACCESS), access.pack())
            node.flags |= InodeFlag.XATTRS
        if node.is_directory:
            change.put(xattr_key(node.inode, acl.DEFAULT), default)
            node.flags |= InodeFlag.XATTRS

    def new_nameless(
        self, change: Change, inode: int, parent: int, mode: int, caller: Caller
    ) -> Node:
        """Make a file that has no name."""
        node = self._born(change, inode, change.directory(parent), mode, caller)
        node.attributes.nlink = 0
        change.put(unlinked_key(inode), self._references.user)
        change.store(node)
        return node

    def link(self, change: Change, inode: int, parent: int, name: bytes) -> Node:
        """Give a node one more name."""
        directory = change.directory(parent)
        node = change.node(inode)
        if node.is_directory:
            raise Refused(errno.EPERM, "a directory has one name")
        if node.attributes.nlink >= LINKS_MAX:
            raise Refused(errno.EMLINK, f"the file has {LINKS_MAX} names")
        slot, taken = change.find(parent, name)
        if taken is not None:
            raise Refused(errno.EEXIST, f"{name!r} is there already")
        if node.attributes.nlink == 0:
            if change.get(unlinked_key(inode)) is None:
                raise Refused(errno.ENOENT, f"inode {inode:#x} is gone")
            change.delete(unlinked_key(inode))
            node.parent, node.slot = parent, slot
        else:
            change.put(link_key(inode, parent, slot), b"")
        node.attributes.nlink += 1
        node.changed(change.now_ns)
        directory.modified(change.now_ns)
        change.put_name(parent, slot, name, node)
        change.store(node)
        change.store(directory)
        return node

    # -- removing ----------------------------------------------------------------------------------

    def unlink(self, change: Change, parent: int, name: bytes) -> None:
        """Remove the name of something that is no directory."""
        directory = change.directory(parent)
        slot, node = change.existing(parent, name)
        if node.is_directory:
            raise Refused(errno.EISDIR, f"{name!r} is a directory")
        change.remove_name(parent, slot)
        directory.modified(change.now_ns)
        change.store(directory)
        self._lose_name(change, node, parent, slot)

    def rmdir(self, change: Change, parent: int, name: bytes) -> None:
        """Remove an empty directory."""
        directory = change.directory(parent)
        slot, node = change.existing(parent, name)
        self._check_removable(change, node, name)
        change.remove_name(parent, slot)
        directory.lose_subdirectory()
        directory.modified(change.now_ns)
        change.store(directory)
        self._lose_name(change, node, parent, slot)

    @staticmethod
    def _check_removable(change: Change, node: Node, name: bytes) -> None:
        if not node.is_directory:
            raise Refused(errno.ENOTDIR, f"{name!r} is not a directory")
        if not change.is_empty(node):
            raise Refused(errno.ENOTEMPTY, f"{name!r} is not empty")

    def _lose_name(self, change: Change, node: Node, parent: int, slot: int) -> None:
        """A name of a node is gone: with the last one goes the node, as soon as nobody uses it."""
        attributes = node.attributes
        node.changed(change.now_ns)
        attributes.nlink = 0 if node.is_directory else attributes.nlink - 1
        if attributes.nlink:
            self._forget_link(change, node, parent, slot)
        elif node.inode in self._references:
            change.put(unlinked_key(node.inode), self._references.user)
        else:
            self._erase(change, node)
            return
        change.store(node)

    @staticmethod
    def _forget_link(change: Change, node: Node, parent: int, slot: int) -> None:
        """Let a node that has other names not point to this one."""
        if (node.parent, node.slot) != (parent, slot):
            change.delete(link_key(node.inode, parent, slot))
            return
        prefix = link_key(node.inode, 0, 0)[: -2 * 8]
        for key, _ in change.view.scan(prefix, prefix_end(prefix), limit=1):
            _, _, node.parent, node.slot = LINK_KEY.unpack(bytes(key))
            change.delete(bytes(key))

    def _erase(self, change: Change, node: Node) -> None:
        """Remove all records of a node that has no name."""
        self._contents.remove(change, node)
        if node.has_xattrs:
            prefix = xattr_key(node.inode, b"")
            change.discard_range(prefix, prefix_end(prefix) or prefix)
        if node.is_directory:
            # What may be left there keeps places in chains of colliding names, or hides names.
            low, high = dirent_key(node.inode, FIRST_SLOT), dirent_key(node.inode, LAST_SLOT)
            change.discard_range(low, high)
        elif change.is_laid_over:  # what says of further names that they are gone
            prefix = link_key(node.inode, 0, 0)[: -2 * 8]
            change.discard_range(prefix, prefix_end(prefix) or prefix)
        change.delete(inode_key(node.inode))

    def reclaim(self, change: Change, inode: int, user: bytes) -> None:
        """Remove what has no name any more, if it is ``user`` who had it in use."""
        if change.get(unlinked_key(inode)) != user:
            return
        change.delete(unlinked_key(inode))
        self._erase(change, change.node(inode))

    # -- renaming ----------------------------------------------------------------------------------

    def rename(
        self, change: Change, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> None:
        """Move a name, in place of what has the new one."""
        source, target = change.directory(parent), change.directory(new_parent)
        slot, node = change.existing(parent, name)
        new_slot, replaced = change.find(new_parent, new_name)
        if replaced is not None and flags & RenameFlag.NOREPLACE:
            raise Refused(errno.EEXIST, f"{new_name!r} is there already")
        if replaced == node.inode:
            return  # two names of one file, or one name: nothing is done, as POSIX has it
        if node.is_directory and parent != new_parent:
            self._check_no_loop(change, node, target)
        if replaced is not None:
            self._replace(change, node, change.node(replaced), target, new_slot, new_name)
        change.remove_name(parent, slot)
        if replaced is None:
            # The name that is gone may have stood in the way.
            new_slot, _ = change.find(new_parent, new_name)
        change.put_name(new_parent, new_slot, new_name, node)
        self._move(change, node, (parent, slot), (new_parent, new_slot))
        if node.is_directory and parent != new_parent:
            source.lose_subdirectory()
            target.gain_subdirectory()
        node.changed(change.now_ns)
        for each in (source, target):
            each.modified(change.now_ns)
        for each in (source, target, node):
            change.store(each)

    def _replace(
        self, change: Change, node: Node, victim: Node, directory: Node, slot: int, name: bytes
    ) -> None:
        """Take its name from what has it."""
        if node.is_directory:
            self._check_removable(change, victim, name)
            directory.lose_subdirectory()
        elif victim.is_directory:
            raise Refused(errno.EISDIR, f"{name!r} is a directory")
        self._lose_name(change, victim, directory.inode, slot)

    @staticmethod
    def _check_no_loop(change: Change, node: Node, target: Node) -> None:
        """A directory does not move into itself."""
        inode = target.inode
        while True:
            if inode == node.inode:
                raise Refused(errno.EINVAL, "a directory does not move into itself")
            above = change.node(inode).parent
            if above == inode:
                return
            inode = above

    @staticmethod
    def _move(change: Change, node: Node, before: tuple[int, int], after: tuple[int, int]) -> None:
        """A node's name is elsewhere now."""
        if (node.parent, node.slot) == before:
            node.parent, node.slot = after
        else:
            change.delete(link_key(node.inode, *before))
            change.put(link_key(node.inode, *after), b"")

    def exchange(
        self, change: Change, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int
    ) -> None:
        """Let two names change places."""
        source, target = change.directory(parent), change.directory(new_parent)
        slot, node = change.existing(parent, name)
        new_slot, other = change.existing(new_parent, new_name)
        if node.inode == other.inode:
            return
        if parent != new_parent:
            for moving, into in ((node, target), (other, source)):
                if moving.is_directory:
                    self._check_no_loop(change, moving, into)
            for moving, out_of, into in ((node, source, target), (other, target, source)):
                if moving.is_directory:
                    out_of.lose_subdirectory()
                    into.gain_subdirectory()
        change.put_name(parent, slot, name, other)
        change.put_name(new_parent, new_slot, new_name, node)
        self._move(change, node, (parent, slot), (new_parent, new_slot))
        self._move(change, other, (new_parent, new_slot), (parent, slot))
        for each in (source, target):
            each.modified(change.now_ns)
        for each in (node, other):
            each.changed(change.now_ns)
        for each in (source, target, node, other):
            change.store(each)


__all__ = ["Caller", "Naming", "RenameFlag"]
