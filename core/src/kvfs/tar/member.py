"""One member of a tarball, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

import attrs

NO_XATTRS: Mapping[bytes, bytes] = MappingProxyType({})
"""Shared by all members without extended attributes: making a dict each would cost time."""


class MemberType(Enum):
    """What a member is, once the dialects' synonyms are resolved."""

    REGULAR = "regular"
    HARDLINK = "hardlink"
    SYMLINK = "symlink"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"
    DIRECTORY = "directory"
    FIFO = "fifo"


@attrs.define(weakref_slot=False)
class Member:
    """One member.  To be treated as a value; it is not frozen because freezing doubles its cost.

    Nothing is sanitised: a name may be absolute, hold ``..``, be empty, or end in ``/``.  Two
    members are equal when they describe the same file, wherever in an archive they stand.

    :ivar name: raw bytes: ustar prefix joined, GNU long name or pax path applied.
    :ivar mode: permission, set-id and sticky bits, 0 to 0o7777.
    :ivar uid: 0 to 2**32 - 1, as is ``gid``.
    :ivar size: logical bytes, holes included; 0 for everything that is not a regular file.
    :ivar mtime_ns: nanoseconds since the epoch, exact, may be negative; seconds fit 64 bits.
    :ivar linkname: target of a symlink, or name of the earlier member a hard link repeats.
    :ivar atime_ns: ``None`` when the archive has none, as ``ctime_ns``.
    :ivar sparse_map: for a sparse file its data segments ``(logical offset, length)``, ascending
        and without overlap; the rest is holes.  ``None`` for a file without holes.
    :ivar offset: of its first header block, extension headers included, in the uncompressed stream.
    :ivar data_offset: of its first stored byte there; with ``stored_size`` the range from which a
        body can be fetched without the rest of the archive.
    :ivar stored_size: bytes of data in the archive: ``size``, or the sum of the segments.
    """

    name: bytes
    type: MemberType = MemberType.REGULAR
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    linkname: bytes = b""
    uname: bytes = b""
    gname: bytes = b""
    devmajor: int = 0
    devminor: int = 0
    atime_ns: int | None = None
    ctime_ns: int | None = None
    xattrs: Mapping[bytes, bytes] = NO_XATTRS
    sparse_map: tuple[tuple[int, int], ...] | None = None
    offset: int = attrs.field(default=0, eq=False)
    data_offset: int = attrs.field(default=0, eq=False)
    stored_size: int = attrs.field(default=0, eq=False)
