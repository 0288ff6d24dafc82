"""What is known of a node besides its contents and names: attributes, extended ones, ACLs.

Each function is one operation, or a part of one, on a :class:`~kvfs.files.change.Change`.
"""

from __future__ import annotations

import errno
import stat
from enum import IntFlag

import attrs

from kvfs.files import acl
from kvfs.files.change import Change, Refused
from kvfs.files.contents import Contents
from kvfs.files.nodes import Node
from kvfs.files.records import InodeFlag, xattr_key

XATTR_BYTES_MAX = 64 << 10
XATTR_NAME_BYTES_MAX = 255
_NAMESPACES = (b"user.", b"trusted.", b"security.")
_ACLS = (acl.ACCESS, acl.DEFAULT)
_CAPABILITIES = b"security.capability"


class XattrFlag(IntFlag):
    """As setxattr(2) has them."""

    CREATE = 1
    REPLACE = 2


@attrs.frozen(kw_only=True)
class Changes:
    """What of an inode's attributes is to change; ``None``: stays."""

    mode: int | None = None
    """The permission bits, setuid, setgid and sticky."""
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    atime_now: bool = False
    mtime_now: bool = False
    drops_privileges: bool = False
    """The caller may not keep setuid and setgid alive by changing the size."""


def set_attributes(change: Change, contents: Contents, inode: int, changes: Changes) -> Node:
    """Change attributes; returns the node then."""
    node = change.node(inode)
    attributes = node.attributes
    node.changed(change.now_ns)
    if changes.size is not None:
        if node.is_directory:
            raise Refused(errno.EISDIR, "a directory has no length to set")
        if not node.is_regular:
            raise Refused(errno.EINVAL, "only a file has a length to set")
        contents.truncate(change, node, changes.size)
        attributes.mtime_ns = attributes.ctime_ns
        drop_capabilities(change, node)
    if changes.drops_privileges and not node.is_directory:
        node.drop_privileges()
    if changes.uid is not None or changes.gid is not None:
        attributes.uid = attributes.uid if changes.uid is None else changes.uid
        attributes.gid = attributes.gid if changes.gid is None else changes.gid
        if not node.is_directory:
            node.drop_privileges()
            drop_capabilities(change, node)
    if changes.mode is not None:
        attributes.mode = stat.S_IFMT(attributes.mode) | changes.mode & 0o7777
        _mask(change, node)
    if changes.atime_now or changes.atime_ns is not None:
        attributes.atime_ns = change.now_ns if changes.atime_now else changes.atime_ns or 0
    if changes.mtime_now or changes.mtime_ns is not None:
        attributes.mtime_ns = change.now_ns if changes.mtime_now else changes.mtime_ns or 0
    change.store(node)
    return node


def drop_capabilities(change: Change, node: Node) -> None:
    """Whoever changes what a program does, or whose it is, takes its capabilities from it."""
    if node.has_xattrs:
        key = xattr_key(node.inode, _CAPABILITIES)
        if change.get(key) is not None:
            change.delete(key)


def _mask(change: Change, node: Node) -> None:
    """Let an ACL say what the permission bits say."""
    key = xattr_key(node.inode, acl.ACCESS)
    value = change.get(key) if node.has_xattrs else None
    if value is not None:
        fresh = acl.ACL.unpack(value).with_permissions(node.attributes.mode)
        change.put(key, fresh.pack())


def check_xattr_name(name: bytes) -> None:
    """Refuse the name of an attribute that cannot be."""
    if not name.startswith(_NAMESPACES) and name not in _ACLS:
        raise Refused(errno.EOPNOTSUPP, f"the attribute {name!r} is of no known namespace")
    if name in _NAMESPACES:
        raise Refused(errno.EINVAL, f"{name!r} is a namespace, and names no attribute")


def set_xattr(
    change: Change, inode: int, name: bytes, value: bytes, flags: int, drops: bool
) -> None:
    """Set one extended attribute."""
    if name in _ACLS:
        _set_acl(change, inode, name, acl.ACL.unpack(value), drops)
        return
    node = change.node(inode)
    key = xattr_key(inode, name)
    present = change.get(key) is not None
    if flags & XattrFlag.CREATE and present:
        raise Refused(errno.EEXIST, f"the attribute {name!r} is there already")
    if flags & XattrFlag.REPLACE and not present:
        raise Refused(errno.ENODATA, f"there is no attribute {name!r}")
    node.flags |= InodeFlag.XATTRS
    node.changed(change.now_ns)
    change.put(key, value)
    change.store(node)


def _set_acl(change: Change, inode: int, name: bytes, listed: acl.ACL, drops: bool) -> None:
    """Set an ACL, or remove it if it says nothing more than the permission bits do."""
    node = change.node(inode)
    attributes = node.attributes
    if name == acl.DEFAULT and listed.entries and not node.is_directory:
        raise Refused(errno.EACCES, "only a directory has a default ACL")
    if drops:
        attributes.mode &= ~stat.S_ISGID
    if name == acl.ACCESS and listed.entries:
        attributes.mode = acl.with_permissions(attributes.mode, listed.permissions)
    node.changed(change.now_ns)
    if not listed.entries or (name == acl.ACCESS and listed.is_minimal):
        change.delete(xattr_key(inode, name))
    else:
        node.flags |= InodeFlag.XATTRS
        change.put(xattr_key(inode, name), listed.pack())
    change.store(node)


def remove_xattr(change: Change, inode: int, name: bytes) -> None:
    """Remove one extended attribute."""
    node = change.node(inode)
    key = xattr_key(inode, name)
    if change.get(key) is None:
        if name in _ACLS:
            return  # there is always one: the permission bits
        raise Refused(errno.ENODATA, f"there is no attribute {name!r}")
    change.delete(key)
    node.changed(change.now_ns)
    change.store(node)


__all__ = [
    "Changes",
    "XattrFlag",
    "check_xattr_name",
    "drop_capabilities",
    "remove_xattr",
    "set_attributes",
    "set_xattr",
]
