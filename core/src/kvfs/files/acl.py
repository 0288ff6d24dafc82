"""POSIX access control lists, in the form in which the kernel passes them: ``system.posix_acl_*``.

Source: include/uapi/linux/posix_acl_xattr.h and fs/posix_acl.c of the Linux kernel; acl(5).
"""

from __future__ import annotations

import errno
import stat
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from kvfs.files.change import Refused

ACCESS = b"system.posix_acl_access"
DEFAULT = b"system.posix_acl_default"
_VERSION = 2
_HEADER = Struct("<I")
_ENTRY = Struct("<HHI")
_ALL = 0o7
_NOBODY = (1 << 32) - 1


class Tag(IntEnum):
    """Whom an entry is about."""

    USER_OBJ = 0x01
    USER = 0x02
    GROUP_OBJ = 0x04
    GROUP = 0x08
    MASK = 0x10
    OTHER = 0x20


class Entry(NamedTuple):
    """One line of a list."""

    tag: int
    perm: int
    id: int


class ACL:
    """A list of entries."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries

    @classmethod
    def unpack(cls, value: bytes) -> ACL:
        """Out of the value of an attribute.

        :raises Refused: it is none.
        """
        if not value:
            return cls([])
        if len(value) < _HEADER.size or (len(value) - _HEADER.size) % _ENTRY.size:
            raise Refused(errno.EINVAL, f"an ACL of {len(value)} bytes")
        (version,) = _HEADER.unpack_from(value)
        if version != _VERSION:
            raise Refused(errno.EOPNOTSUPP, f"an ACL of version {version}")
        entries = [Entry(*fields) for fields in _ENTRY.iter_unpack(value[_HEADER.size :])]
        tags = [entry.tag for entry in entries]
        needed = {Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER}
        if entries and (
            not needed.issubset(tags)
            or any(tags.count(tag) > 1 for tag in (*needed, Tag.MASK))
            or not set(tags).issubset(set(Tag))
            or tags != sorted(tags)
            or any(entry.id == _NOBODY and entry.tag in (Tag.USER, Tag.GROUP) for entry in entries)
            or any(entry.perm & ~_ALL for entry in entries)
            or (Tag.MASK not in tags and (Tag.USER in tags or Tag.GROUP in tags))
        ):
            raise Refused(errno.EINVAL, "an ACL that lacks entries, has some twice, or mixed up")
        return cls(entries)

    def pack(self) -> bytes:
        """As the value of an attribute."""
        return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in self.entries)

    @property
    def is_minimal(self) -> bool:
        """Does it say no more than permission bits do?"""
        return all(entry.tag in (Tag.USER_OBJ, Tag.GROUP_OBJ, Tag.OTHER) for entry in self.entries)

    def _perm(self, tag: Tag) -> int | None:
        return next((entry.perm for entry in self.entries if entry.tag == tag), None)

    @property
    def permissions(self) -> int:
        """The permission bits that show it: the group's are those of the mask."""
        mask = self._perm(Tag.MASK)
        group = self._perm(Tag.GROUP_OBJ) if mask is None else mask
        user, other = self._perm(Tag.USER_OBJ) or 0, self._perm(Tag.OTHER) or 0
        return user << 6 | (group or 0) << 3 | other

    def _shown_by(self, mode: int) -> dict[Tag, int]:
        """What permission bits say of the entries that they stand for."""
        group = Tag.GROUP_OBJ if self._perm(Tag.MASK) is None else Tag.MASK
        return {Tag.USER_OBJ: mode >> 6 & _ALL, group: mode >> 3 & _ALL, Tag.OTHER: mode & _ALL}

    def with_permissions(self, mode: int) -> ACL:
        """After a chmod(2)."""
        bits = self._shown_by(mode)
        return ACL([Entry(e.tag, bits.get(Tag(e.tag), e.perm), e.id) for e in self.entries])

    def restricted_to(self, mode: int) -> ACL:
        """As the access list of what is created with ``mode`` where this is the default."""
        bits = self._shown_by(mode)
        return ACL([Entry(e.tag, e.perm & bits.get(Tag(e.tag), _ALL), e.id) for e in self.entries])


def with_permissions(mode: int, permissions: int) -> int:
    """A mode with other permission bits."""
    return stat.S_IFMT(mode) | mode & 0o7000 | permissions
