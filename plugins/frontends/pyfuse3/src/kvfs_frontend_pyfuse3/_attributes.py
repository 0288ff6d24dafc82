"""Records of :mod:`kvfs.files`, which have the kernel's layout, as the objects of pyfuse3."""

from __future__ import annotations

from collections.abc import Iterator

from pyfuse3 import EntryAttributes, FileNameT, InodeT, ModeT, StatvfsData

from kvfs.files import Buffer, StatFS
from kvfs.files.records import (
    ATTR,
    ATTR_IN_DIRENT,
    DIRENT,
    DIRENT_IN_RECORD,
    ENTRY,
    NAME_IN_RECORD,
    SECOND_NS,
    VALIDITY,
)


def of_entry(entry: Buffer, at: int = 0) -> EntryAttributes:
    """``struct fuse_entry_out``."""
    _, generation, entry_s, attr_s, entry_ns, attr_ns = ENTRY.unpack_from(entry, at)
    made = _of_attr(entry, at + ATTR_IN_DIRENT)
    made.generation = generation
    made.entry_timeout = _seconds(entry_s, entry_ns)
    made.attr_timeout = _seconds(attr_s, attr_ns)
    return made


def of_inode(attributes: Buffer) -> EntryAttributes:
    """``struct fuse_attr_out``."""
    seconds, nanoseconds, _ = VALIDITY.unpack_from(attributes)
    made = _of_attr(attributes, VALIDITY.size)
    made.attr_timeout = _seconds(seconds, nanoseconds)
    return made


def _seconds(seconds: int, nanoseconds: int) -> float:
    return seconds + nanoseconds / SECOND_NS if nanoseconds else seconds


def _of_attr(record: Buffer, at: int) -> EntryAttributes:
    inode, size, blocks, atime, mtime, ctime, *rest = ATTR.unpack_from(record, at)
    atime_ns, mtime_ns, ctime_ns, mode, nlink, uid, gid, rdev, blksize, _ = rest
    made = EntryAttributes()
    made.st_ino = inode
    made.st_size = size
    made.st_blocks = blocks
    made.st_atime_ns = atime * SECOND_NS + atime_ns
    made.st_mtime_ns = mtime * SECOND_NS + mtime_ns
    made.st_ctime_ns = ctime * SECOND_NS + ctime_ns
    made.st_mode = mode
    made.st_nlink = nlink
    made.st_uid = uid
    made.st_gid = gid
    made.st_rdev = rdev  # the kernel's encoding, which libfuse hands on as it is
    made.st_blksize = blksize
    return made


def absent(timeout_s: int) -> EntryAttributes:
    """A name that is not there, which the kernel may believe for so long."""
    made = EntryAttributes()
    made.st_ino = InodeT(0)
    made.entry_timeout = timeout_s
    return made


def listed(raw: memoryview) -> Iterator[tuple[FileNameT, EntryAttributes, int]]:
    """(name, attributes, cookie) of each ``fuse_direntplus`` of a piece of a listing."""
    at = 0
    while at < len(raw):
        inode, cookie, length, kind = DIRENT.unpack_from(raw, at + DIRENT_IN_RECORD)
        name = bytes(raw[at + NAME_IN_RECORD : at + NAME_IN_RECORD + length])
        if name in (b".", b".."):
            # They come without attributes, since the kernel takes but number and type of them.
            attributes = absent(0)
            attributes.st_ino = inode
            attributes.st_mode = ModeT(kind << 12)
        else:
            attributes = of_entry(raw, at)
        yield FileNameT(name), attributes, cookie
        at += NAME_IN_RECORD + length + (-length % 8)


def totals_of(found: StatFS) -> StatvfsData:
    """Totals of the file system."""
    made = StatvfsData()
    made.f_bsize = found.bsize
    made.f_frsize = found.frsize
    made.f_blocks = found.blocks
    made.f_bfree = found.bfree
    made.f_bavail = found.bavail
    made.f_files = found.files
    made.f_ffree = made.f_favail = found.ffree
    made.f_namemax = found.namelen
    return made
