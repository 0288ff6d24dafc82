"""An inode of a writable tree, decoded to be changed."""

from __future__ import annotations

import stat
from typing import Self

import attrs

from kvfs.files.records import (
    CONTENT_IN_INODE,
    ENTRY,
    NAMESPACE_VALID_S,
    VALIDITY,
    Attributes,
    InodeFlag,
    InodeRecord,
    pack_inode,
)
from kvfs.kv import Buffer

LINKS_MAX = 65_000
"""As many names as ext4 allows.  A directory with more subdirectories has a link count of 1, which
says that it is not counted."""
_UNCOUNTED = 1


@attrs.define(kw_only=True)
class Node:
    """An inode record.  What is changed is stored when it is put into a change again."""

    attributes: Attributes
    parent: int
    slot: int
    """Where its name is; of one of several names, the others have ``H`` records."""
    flags: int = 0
    cut: int | None = None
    """From which number on the sealed extents of a file are not its any more."""
    content: bytes = b""
    """Small contents, or the target of a symbolic link."""

    @classmethod
    def unpack(cls, record: Buffer) -> Self:
        """Decode; :class:`~kvfs.errors.Corrupt` if it is not an inode record."""
        found = InodeRecord.unpack(record)
        return cls(
            attributes=found.attributes,
            parent=found.parent,
            slot=found.slot,
            flags=int(found.flags),
            cut=found.cut,
            content=bytes(record[CONTENT_IN_INODE:]),
        )

    def pack(self) -> bytes:
        """As stored."""
        return pack_inode(
            self.attributes.pack(),
            self.parent,
            self.slot,
            valid_s=NAMESPACE_VALID_S,
            flags=self.flags,
            cut=self.cut,
            content=self.content,
        )

    def entry(self, valid_s: int = NAMESPACE_VALID_S) -> bytes:
        """As ``struct fuse_entry_out``."""
        return ENTRY.pack(self.inode, 0, valid_s, valid_s, 0, 0) + self.attributes.pack()

    def attr_out(self, valid_s: int = NAMESPACE_VALID_S) -> bytes:
        """As ``struct fuse_attr_out``."""
        return VALIDITY.pack(valid_s, 0, 0) + self.attributes.pack()

    @property
    def inode(self) -> int:
        """Its number."""
        return self.attributes.inode

    @property
    def is_directory(self) -> bool:
        """Is it a directory?"""
        return stat.S_ISDIR(self.attributes.mode)

    @property
    def is_regular(self) -> bool:
        """Is it a regular file?"""
        return stat.S_ISREG(self.attributes.mode)

    @property
    def has_extents(self) -> bool:
        """Are its contents in extents?"""
        return bool(self.flags & InodeFlag.EXTENTS)

    @property
    def has_xattrs(self) -> bool:
        """Does it have extended attributes, or did it have some?"""
        return bool(self.flags & InodeFlag.XATTRS)

    # -- times and privileges ----------------------------------------------------------------------

    def changed(self, now_ns: int) -> None:
        """Its attributes change now.  No two changes leave the same record."""
        attributes = self.attributes
        attributes.ctime_ns = max(now_ns, attributes.ctime_ns + 1)

    def modified(self, now_ns: int) -> None:
        """Its contents change now."""
        self.changed(now_ns)
        self.attributes.mtime_ns = self.attributes.ctime_ns

    def drop_privileges(self) -> None:
        """What a write by somebody without privileges leaves: no setuid, no effective setgid."""
        attributes = self.attributes
        attributes.mode &= ~stat.S_ISUID
        if attributes.mode & stat.S_IXGRP:
            attributes.mode &= ~stat.S_ISGID

    # -- links -------------------------------------------------------------------------------------

    def gain_subdirectory(self) -> None:
        """One more directory points back to it with ``..``."""
        attributes = self.attributes
        if attributes.nlink != _UNCOUNTED:
            attributes.nlink = attributes.nlink + 1 if attributes.nlink < LINKS_MAX else _UNCOUNTED

    def lose_subdirectory(self) -> None:
        """One less does."""
        if self.attributes.nlink != _UNCOUNTED:
            self.attributes.nlink -= 1
