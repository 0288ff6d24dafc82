"""Every key and record of KVFS, in one table.

A volume has two stores of one engine.  *state* holds what exists nowhere else: the superblock, the
catalogue, the directories above the tarballs, files that were written, and the root inode of each
tarball.  *sealed* holds
what can be fetched again: everything inside the tarballs.  What is changed inside a tarball is laid
over that: see :mod:`kvfs.files.overlay`.  The format version is in the superblock
and, as one byte, in the two records of the hot path.

Keys are big-endian, so that they sort as meant.  Values on the hot path have the layout in which
the Linux kernel wants them (``struct fuse_entry_out``, ``fuse_attr_out`` and ``fuse_direntplus`` of
include/uapi/linux/fuse.h, little-endian hosts): a LOOKUP or GETATTR reply is a slice of a record,
a READDIRPLUS reply is a sequence of them.
"""

from __future__ import annotations

import stat
from enum import IntFlag
from struct import Struct
from typing import Self

import attrs

from kvfs.errors import Corrupt
from kvfs.kv import Buffer

FORMAT = 3
"""Version of everything declared here; a volume of another version is refused."""

# ---------------------------------------------------------------------------------------------
# Inode numbers: 24 bits of tarball id, 8 bits of epoch, 32 bits of number within, in tar order.
#
# An epoch is one version of a tarball's object.  So no inode number, and nothing that a kernel
# keeps under one, ever means the bytes of two versions.  Id and epoch together are a *tree*.

ID_BITS = 24
EPOCH_BITS = 8
NUMBER_BITS = 32
ID_MAX = (1 << ID_BITS) - 1
EPOCH_MASK = (1 << EPOCH_BITS) - 1
NUMBER_MASK = (1 << NUMBER_BITS) - 1
VOLUME_ID = 0
"""The id of the volume itself: its root and the directories above the tarballs."""
ROOT_NUMBER = 1
"""The number of the root directory of the volume, and of each tarball."""
ROOT_INODE = 1


_ID_SHIFT = EPOCH_BITS + NUMBER_BITS
OWN_TREE_MAX = (VOLUME_ID + 1 << EPOCH_BITS) - 1
"""Trees up to this one are of the volume itself."""
_ID_SPREAD = 6
NUMBER_MAX = NUMBER_MASK - (1 << ID_BITS + _ID_SPREAD)
"""The last number that every tarball has room for: 2^32 - 2^30 - 1."""
FIRST_MADE_NUMBER = 1 << NUMBER_BITS - 1
"""Numbers from here on are of what was made inside a tarball after it was fetched."""


def inode_of(tarball: int, number: int, epoch: int = 0) -> int:
    """The inode number of member ``number`` of a tarball, up to ``NUMBER_MAX``.

    Linux finds an inode by a hash in which the low 27 or so bits count.  If the numbers of all
    tarballs began at the same one, their roots would share a bucket, and listing a volume of many
    tarballs would take the square of their number.  So the beginning depends on the id.

    :param epoch: which version of the tarball; its low 8 bits count.
    """
    return (tree_of(tarball, epoch) << NUMBER_BITS) + (tarball << _ID_SPREAD) + number


def tree_of(tarball: int, epoch: int) -> int:
    """One version of a tarball: what ``inode >> NUMBER_BITS`` is for each of its inodes."""
    return tarball << EPOCH_BITS | epoch & EPOCH_MASK


def generation_of(epoch: int) -> int:
    """How often an epoch's inode numbers were used before, as the kernel wants to be told.

    Numbers come again after 256 versions; by the generation the kernel knows an inode that it
    still has of the earlier one, and lets go of it.
    """
    return epoch >> EPOCH_BITS


def tarball_of(inode: int) -> int:
    """The id of the tarball that an inode belongs to; 0 for the volume itself."""
    return inode >> _ID_SHIFT


def is_own_tree(tree: int) -> bool:
    """Is it the tree of the volume itself, and no version of a tarball?"""
    return tree <= OWN_TREE_MAX


def is_own(inode: int) -> bool:
    """Does an inode belong to the volume itself, and to no tarball?"""
    return inode >> _ID_SHIFT == VOLUME_ID


def is_root(inode: int) -> bool:
    """Is it the root directory of the volume, or of a version of a tarball?"""
    return inode & NUMBER_MASK == (inode >> _ID_SHIFT << _ID_SPREAD) + ROOT_NUMBER


# ---------------------------------------------------------------------------------------------
# Keys

DIRENT_KEY = Struct(">cQQ")
INODE_KEY = Struct(">cQ")
EXTENT_KEY = Struct(">cQI")
LINK_KEY = Struct(">cQQQ")
OWNER_KEY = Struct(">c3scI")
PROBLEM_KEY = Struct(">c3sI")


def dirent_key(parent: int, slot: int) -> bytes:
    """``D`` parent slot: the entry of a name in a directory."""
    return DIRENT_KEY.pack(b"D", parent, slot)


def inode_key(inode: int) -> bytes:
    """``I`` inode: attributes and small contents."""
    return INODE_KEY.pack(b"I", inode)


def extent_key(inode: int, number: int) -> bytes:
    """``E`` inode number: one extent of a file that is too large to be kept in its inode."""
    return EXTENT_KEY.pack(b"E", inode, number)


def xattr_key(inode: int, name: bytes) -> bytes:
    """``A`` inode name: one extended attribute."""
    return INODE_KEY.pack(b"A", inode) + name


def link_key(inode: int, parent: int, slot: int) -> bytes:
    """``H`` inode parent slot: one more name of an inode, besides the one it points back to."""
    return LINK_KEY.pack(b"H", inode, parent, slot)


def unlinked_key(inode: int) -> bytes:
    """``U`` inode: one that has no name, and may still be in use."""
    return INODE_KEY.pack(b"U", inode)


def locks_key(inode: int) -> bytes:
    """``K`` inode: the locks on a file, of all mounts."""
    return INODE_KEY.pack(b"K", inode)


def inode_of_locks(key: Buffer) -> int:
    """The inode in a :func:`locks_key`."""
    inode: int = INODE_KEY.unpack(key)[1]
    return inode


def id_bytes(tarball: int) -> bytes:
    """A tarball id as it stands in keys: 3 bytes."""
    return tarball.to_bytes(3, "big")


def owner_key(tarball: int, kind: bytes, number: int) -> bytes:
    """``O`` id (``u`` | ``g``) number: the name that a tarball gives to a user or group."""
    return OWNER_KEY.pack(b"O", id_bytes(tarball), kind, number)


def problem_key(tarball: int, number: int) -> bytes:
    """``P`` id number: one remark of the ingest."""
    return PROBLEM_KEY.pack(b"P", id_bytes(tarball), number)


def catalogue_key(tarball: int) -> bytes:
    """``T`` id: one tarball of the backing store."""
    return b"T" + id_bytes(tarball)


def fence_key(tarball: int) -> bytes:
    """``F`` id: whose writes to a tarball's records count."""
    return b"F" + id_bytes(tarball)


def written_key(tarball: int) -> bytes:
    """``W`` id: a tarball that was written to."""
    return b"W" + id_bytes(tarball)


def volume_key(name: str) -> bytes:
    """``V`` name: facts about the volume."""
    return b"V" + name.encode()


@attrs.frozen
class Keyspace:
    """One line of the table of keyspaces."""

    letter: str
    name: str
    store: str
    key: str
    value: str


KEYSPACES = (
    Keyspace(
        "A",
        "xattrs",
        "sealed; state for files that were written",
        "inode u64, name",
        "the value, raw; over a tarball with a byte behind it",
    ),
    Keyspace(
        "D",
        "dirents",
        "sealed; state for what belongs to no tarball",
        "parent u64, slot u64",
        "fuse_direntplus (152 bytes + name, zero-padded to 8), version u8, flags u8",
    ),
    Keyspace(
        "E",
        "extents",
        "sealed; state for files that were written",
        "inode u64, number u32",
        "contents, absent where all zero; short: zeros up to the next",
    ),
    Keyspace("F", "fences", "sealed", "id u24", "term u64"),
    Keyspace(
        "H",
        "links",
        "sealed; state for files that were written",
        "inode u64, parent u64, slot u64",
        "empty",
    ),
    Keyspace(
        "I",
        "inodes",
        "sealed; state for roots and what belongs to no tarball",
        "inode u64",
        "fuse_attr_out (104 bytes), parent u64, slot u64, version u8, flags u8, 2 zero bytes, "
        "cut u32, contents or link target",
    ),
    Keyspace("K", "locks", "state", "inode u64", "JSON"),
    Keyspace("O", "owners", "sealed", "id u24, 'u' or 'g', number u32", "the name, raw"),
    Keyspace("P", "problems", "sealed", "id u24, number u32", "JSON"),
    Keyspace("T", "catalogue", "state", "id u24", "JSON"),
    Keyspace("U", "unlinked", "state", "inode u64", "who has it, where several write"),
    Keyspace("V", "volume", "state", "name", "JSON"),
    Keyspace("W", "written", "state", "id u24", "JSON"),
)
"""The table of keyspaces; docs/reference is generated from it."""

TARBALL_SPACES = b"ADEHIOP"
"""The spaces of the sealed store for what a tarball holds: in each it is one range of keys."""


def tarball_ranges(tarball: int) -> list[tuple[bytes, bytes]]:
    """The key ranges that hold all of one tarball, whatever its epoch, in the sealed store."""
    low = id_bytes(tarball)
    high = (tarball + 1).to_bytes(4, "big")
    ranges = []
    for letter in TARBALL_SPACES:
        # Past the last id the range ends where the next letter begins.
        stop = bytes((letter + 1,)) if high[0] else bytes((letter,)) + high[1:]
        ranges.append((bytes((letter,)) + low, stop))
    return ranges


# ---------------------------------------------------------------------------------------------
# Slots: where in a directory a name is kept, and the offset that a listing resumes at.

FIRST_SLOT = 16
"""Cookies below are ``.`` and ``..`` and the start."""
COOKIE_DOT = 1
COOKIE_DOTDOT = 2
LAST_SLOT = (1 << 63) - 1
"""Listing offsets are signed 64-bit in the kernel's interface."""
HASH_BITS = 62
PROBES_MAX = 1 << 16
"""A chain of colliding names longer than this is refused."""

# ---------------------------------------------------------------------------------------------
# Values

_ENTRY = "QQQQII"  # nodeid, generation, entry_valid, attr_valid, and both in nanoseconds
_ATTR = "QQQqqqIIIIIIIIII"
_DIRENT = "QQII"  # ino, off, namelen, type

ATTR = Struct("<" + _ATTR)
ENTRY = Struct("<" + _ENTRY)
DIRENT = Struct("<" + _DIRENT)
DIRENTPLUS = Struct("<" + _ENTRY + _ATTR + _DIRENT)
INODE = Struct("<QII" + _ATTR + "QQBB2xI")
VALIDITY = Struct("<QII")
BACK_POINTER = Struct("<QQ")
TERM = Struct(">Q")

ENTRY_OUT_BYTES = ENTRY.size + ATTR.size
ATTR_OUT_BYTES = VALIDITY.size + ATTR.size
ATTR_IN_DIRENT = ENTRY.size
DIRENT_IN_RECORD = ENTRY_OUT_BYTES
NAME_IN_RECORD = DIRENTPLUS.size
DIRENT_TRAILER_BYTES = 2
BACK_POINTER_IN_INODE = ATTR_OUT_BYTES
FLAGS_IN_INODE = INODE.size - 7
CUT_IN_INODE = INODE.size - 4
CUT = Struct("<I")
CONTENT_IN_INODE = INODE.size

assert (ENTRY_OUT_BYTES, ATTR_OUT_BYTES, DIRENTPLUS.size, INODE.size) == (128, 104, 152, 128)

PAD = tuple(bytes(-length % 8) for length in range(8))
"""Zero bytes that pad a name of length ``n`` to a multiple of eight, by ``n & 7``."""

FOREVER_S = (1 << 32) - 1
"""A validity that outlives the machine; the kernel caps it as it likes."""
NAMESPACE_VALID_S = 1
"""How long the kernel may believe attributes of what can still change: above the tarballs."""

NAME_BYTES_MAX = 255


class DirentFlag(IntFlag):
    """Flags of a dirent record."""

    SHARED = 1
    """The inode has, or had, several names: the attributes here are stale, ask the inode."""
    REMOVED = 2
    """No entry: keeps the place in a chain of colliding names."""


class InodeFlag(IntFlag):
    """Flags of an inode record."""

    EXTENTS = 1
    """The contents are in extents, not behind the record."""
    XATTRS = 2
    """There are extended attributes."""
    IMPLIED = 4
    """A directory that its tarball does not list, made because members lie below it."""


def encode_device(major: int, minor: int) -> int:
    """Device numbers in the kernel's 32-bit encoding (``new_encode_dev``)."""
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12


def decode_device(rdev: int) -> tuple[int, int]:
    """(major, minor) out of the kernel's encoding."""
    return rdev >> 8 & 0xFFF, (rdev & 0xFF) | (rdev >> 12 & 0xFFF00)


SECOND_NS = 1_000_000_000


@attrs.define(kw_only=True)
class Attributes:
    """The attributes of an inode.  Times in nanoseconds since the epoch, sizes in bytes."""

    inode: int
    mode: int
    """Type and permission bits, as in ``st_mode``."""
    size: int = 0
    nlink: int = 1
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    rdev: int = 0
    """In the kernel's encoding; see :func:`decode_device`."""
    blocks: int = 0
    """Units of 512 bytes that the contents take."""

    @property
    def is_directory(self) -> bool:
        """Is it a directory?"""
        return stat.S_ISDIR(self.mode)

    def pack(self) -> bytes:
        """As ``struct fuse_attr``."""
        atime, atime_ns = divmod(self.atime_ns, SECOND_NS)
        mtime, mtime_ns = divmod(self.mtime_ns, SECOND_NS)
        ctime, ctime_ns = divmod(self.ctime_ns, SECOND_NS)
        return ATTR.pack(
            self.inode, self.size, self.blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns,
            self.mode, self.nlink, self.uid, self.gid, self.rdev, 4096, 0,
        )  # fmt: skip

    @classmethod
    def unpack(cls, record: Buffer, offset: int = 0) -> Self:
        """Out of a ``struct fuse_attr`` at ``offset``."""
        (
            inode, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns,
            mode, nlink, uid, gid, rdev, _, _,
        ) = ATTR.unpack_from(record, offset)  # fmt: skip
        return cls(
            inode=inode,
            mode=mode,
            size=size,
            nlink=nlink,
            uid=uid,
            gid=gid,
            mtime_ns=mtime * SECOND_NS + mtime_ns,
            atime_ns=atime * SECOND_NS + atime_ns,
            ctime_ns=ctime * SECOND_NS + ctime_ns,
            rdev=rdev,
            blocks=blocks,
        )


_TRAILERS = tuple(bytes((FORMAT, flags)) for flags in range(4))


def pack_dirent(
    attr: bytes,
    inode: int,
    mode: int,
    slot: int,
    name: bytes,
    *,
    valid_s: int,
    flags: int = 0,
    generation: int = 0,
) -> bytes:
    """A dirent record.  ``attr`` is a packed ``fuse_attr``.

    :param generation: see :func:`generation_of`.
    """
    length = len(name)
    return b"".join(
        (
            ENTRY.pack(inode, generation, valid_s, valid_s, 0, 0),
            attr,
            DIRENT.pack(inode, slot, length, mode >> 12),
            name,
            PAD[length & 7],
            _TRAILERS[flags],
        )
    )


REMOVED_DIRENT = bytes(NAME_IN_RECORD) + _TRAILERS[DirentFlag.REMOVED]
"""What is left in a chain of colliding names where one was removed."""


_INODE_TAILS = tuple(bytes((FORMAT, flags)) + bytes(6) for flags in range(8))


def pack_inode(
    attr: bytes,
    parent: int,
    slot: int,
    *,
    valid_s: int,
    flags: int = 0,
    cut: int | None = None,
    content: Buffer = b"",
) -> bytes:
    """An inode record.  ``attr`` is a packed ``fuse_attr``.

    :param cut: of a file in a tarball that was written to: from this number on, the extents of the
        sealed store are not its any more.
    """
    tail = _INODE_TAILS[flags]
    if cut is not None:
        tail = tail[:-4] + CUT.pack(cut + 1)
    return b"".join(
        (VALIDITY.pack(valid_s, 0, 0), attr, BACK_POINTER.pack(parent, slot), tail, content)
    )


def cut_of(record: Buffer) -> int | None:
    """From which number on the sealed extents of a file are not its any more; ``None``: all are."""
    stored: int = CUT.unpack_from(record, CUT_IN_INODE)[0]
    return stored - 1 if stored else None


@attrs.frozen(kw_only=True)
class DirentRecord:
    """A decoded dirent record."""

    inode: int
    slot: int
    name: bytes
    attributes: Attributes
    valid_s: int
    flags: DirentFlag

    @classmethod
    def unpack(cls, record: Buffer) -> Self:
        """Decode; :class:`~kvfs.errors.Corrupt` if it is not a dirent record."""
        if len(record) < NAME_IN_RECORD + DIRENT_TRAILER_BYTES or record[-2] != FORMAT:
            raise Corrupt(f"not a dirent record of format {FORMAT}: {bytes(record[:32]).hex()}...")
        inode, _, valid_s, _, _, _ = ENTRY.unpack_from(record)
        _, slot, length, _ = DIRENT.unpack_from(record, DIRENT_IN_RECORD)
        name = bytes(record[NAME_IN_RECORD : NAME_IN_RECORD + length])
        if len(record) != NAME_IN_RECORD + length + (-length % 8) + DIRENT_TRAILER_BYTES:
            raise Corrupt(f"a dirent record whose name length {length} does not fit")
        return cls(
            inode=inode,
            slot=slot,
            name=name,
            attributes=Attributes.unpack(record, ATTR_IN_DIRENT),
            valid_s=valid_s,
            flags=DirentFlag(record[-1]),
        )


@attrs.frozen(kw_only=True)
class InodeRecord:
    """A decoded inode record, without its contents."""

    attributes: Attributes
    parent: int
    slot: int
    valid_s: int
    flags: InodeFlag
    cut: int | None = None
    """See :func:`pack_inode`."""

    @classmethod
    def unpack(cls, record: Buffer) -> Self:
        """Decode; :class:`~kvfs.errors.Corrupt` if it is not an inode record."""
        if len(record) < INODE.size or record[FLAGS_IN_INODE - 1] != FORMAT:
            raise Corrupt(f"not an inode record of format {FORMAT}: {bytes(record[:32]).hex()}...")
        parent, slot = BACK_POINTER.unpack_from(record, BACK_POINTER_IN_INODE)
        return cls(
            attributes=Attributes.unpack(record, VALIDITY.size),
            parent=parent,
            slot=slot,
            valid_s=VALIDITY.unpack_from(record)[0],
            flags=InodeFlag(record[FLAGS_IN_INODE]),
            cut=cut_of(record),
        )
