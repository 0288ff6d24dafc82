"""The FUSE protocol as bytes: opcodes, flags and struct layouts, and nothing that acts on them.

Source: ``include/uapi/linux/fuse.h`` of the Linux kernel, protocol 7.31 (Linux 5.4) to 7.45 (Linux
6.18).  Numbers are in the byte order of the host and structs have no implicit padding, so every
layout is a :class:`struct.Struct` in standard sizes.

A request is a :data:`IN_HEADER` and a body; a reply is an :data:`OUT_HEADER` and a body, handed to
the kernel in one write.  A notification is a reply whose ``unique`` is 0 and whose ``error`` is the
code.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct

import attrs

MAJOR = 7
MINOR = 45
"""The newest minor version whose requests are all known here."""
MINOR_MIN = 31
"""The oldest kernel accepted speaks this (Linux 5.4); KVFS is tested from 5.10 (7.32) on."""


class Opcode(IntEnum):
    """What the kernel asks (``enum fuse_opcode``)."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    BMAP = 37
    DESTROY = 38
    IOCTL = 39
    POLL = 40
    NOTIFY_REPLY = 41
    BATCH_FORGET = 42
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    SETUPMAPPING = 48
    REMOVEMAPPING = 49
    SYNCFS = 50
    TMPFILE = 51
    STATX = 52
    COPY_FILE_RANGE_64 = 53


OPCODES = max(Opcode) + 1
"""Length of a table that is indexed by opcode."""


class Notify(IntEnum):
    """What the server may tell the kernel unasked (``enum fuse_notify_code``)."""

    POLL = 1
    INVAL_INODE = 2
    INVAL_ENTRY = 3
    STORE = 4
    RETRIEVE = 5
    DELETE = 6
    RESEND = 7
    INC_EPOCH = 8
    PRUNE = 9


class InitFlag(IntFlag):
    """What INIT negotiates; bits from 32 up travel in ``flags2``."""

    ASYNC_READ = 1 << 0
    POSIX_LOCKS = 1 << 1
    FILE_OPS = 1 << 2
    ATOMIC_O_TRUNC = 1 << 3
    EXPORT_SUPPORT = 1 << 4
    BIG_WRITES = 1 << 5
    DONT_MASK = 1 << 6
    SPLICE_WRITE = 1 << 7
    SPLICE_MOVE = 1 << 8
    SPLICE_READ = 1 << 9
    FLOCK_LOCKS = 1 << 10
    HAS_IOCTL_DIR = 1 << 11
    AUTO_INVAL_DATA = 1 << 12
    DO_READDIRPLUS = 1 << 13
    READDIRPLUS_AUTO = 1 << 14
    ASYNC_DIO = 1 << 15
    WRITEBACK_CACHE = 1 << 16
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    HANDLE_KILLPRIV = 1 << 19
    POSIX_ACL = 1 << 20
    ABORT_ERROR = 1 << 21
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    EXPLICIT_INVAL_DATA = 1 << 25
    MAP_ALIGNMENT = 1 << 26
    SUBMOUNTS = 1 << 27
    HANDLE_KILLPRIV_V2 = 1 << 28
    SETXATTR_EXT = 1 << 29
    INIT_EXT = 1 << 30
    SECURITY_CTX = 1 << 32
    HAS_INODE_DAX = 1 << 33
    CREATE_SUPP_GROUP = 1 << 34
    HAS_EXPIRE_ONLY = 1 << 35
    DIRECT_IO_ALLOW_MMAP = 1 << 36
    PASSTHROUGH = 1 << 37
    NO_EXPORT_SUPPORT = 1 << 38
    HAS_RESEND = 1 << 39
    ALLOW_IDMAP = 1 << 40
    OVER_IO_URING = 1 << 41
    REQUEST_TIMEOUT = 1 << 42


class SetattrValid(IntFlag):
    """Which fields of a SETATTR count (``FATTR_*``)."""

    MODE = 1 << 0
    UID = 1 << 1
    GID = 1 << 2
    SIZE = 1 << 3
    ATIME = 1 << 4
    MTIME = 1 << 5
    FH = 1 << 6
    ATIME_NOW = 1 << 7
    MTIME_NOW = 1 << 8
    LOCKOWNER = 1 << 9
    CTIME = 1 << 10
    KILL_SUIDGID = 1 << 11


class WriteFlag(IntFlag):
    """Of a WRITE (``FUSE_WRITE_*``)."""

    CACHE = 1 << 0
    LOCKOWNER = 1 << 1
    KILL_SUIDGID = 1 << 2


class SetxattrFlag(IntFlag):
    """Of a SETXATTR (``FUSE_SETXATTR_*``)."""

    ACL_KILL_SGID = 1 << 0


class OpenFlag(IntFlag):
    """Of a file that is opened (``FOPEN_*``)."""

    DIRECT_IO = 1 << 0
    KEEP_CACHE = 1 << 1
    NONSEEKABLE = 1 << 2
    CACHE_DIR = 1 << 3
    STREAM = 1 << 4
    NOFLUSH = 1 << 5


class LockFlag(IntFlag):
    """Of a request for a lock (``FUSE_LK_*``)."""

    FLOCK = 1 << 0


@attrs.frozen
class Layout:
    """A C struct of the protocol."""

    name: str
    fields: tuple[str, ...]
    struct: Struct

    @property
    def size(self) -> int:
        """Bytes."""
        return self.struct.size


# One line per struct (an indented line continues it): its name in fuse.h, then field:code, in the
# codes of the struct module.  The fields of an embedded struct are written out; a trailing name or
# data is no part of a layout.  fuse_setxattr_in is the form with FUSE_SETXATTR_EXT.
_ATTR = (
    "ino:Q size:Q blocks:Q atime:Q mtime:Q ctime:Q atimensec:I mtimensec:I ctimensec:I mode:I"
    " nlink:I uid:I gid:I rdev:I blksize:I flags:I"
)
_LOCK = "start:Q end:Q type:I pid:I"
_DIRENT = "ino:Q off:Q namelen:I type:I"
_ENTRY = (
    "nodeid:Q generation:Q entry_valid:Q attr_valid:Q entry_valid_nsec:I attr_valid_nsec:I " + _ATTR
)
_TABLE = f"""
fuse_in_header            len:I opcode:I unique:Q nodeid:Q uid:I gid:I pid:I
    total_extlen:H padding:H
fuse_out_header           len:I error:i unique:Q
fuse_attr                 {_ATTR}
fuse_attr_out             attr_valid:Q attr_valid_nsec:I dummy:I {_ATTR}
fuse_entry_out            {_ENTRY}
fuse_dirent               {_DIRENT}
fuse_direntplus           {_ENTRY} {_DIRENT}
fuse_init_in              major:I minor:I max_readahead:I flags:I flags2:I unused:44s
fuse_init_out             major:I minor:I max_readahead:I flags:I max_background:H
    congestion_threshold:H max_write:I time_gran:I max_pages:H map_alignment:H flags2:I
    max_stack_depth:I request_timeout:H unused:22s
fuse_kstatfs              blocks:Q bfree:Q bavail:Q files:Q ffree:Q bsize:I namelen:I frsize:I
    padding:I spare:24s
fuse_forget_in            nlookup:Q
fuse_batch_forget_in      count:I dummy:I
fuse_forget_one           nodeid:Q nlookup:Q
fuse_getattr_in           getattr_flags:I dummy:I fh:Q
fuse_setattr_in           valid:I padding:I fh:Q size:Q lock_owner:Q atime:Q mtime:Q ctime:Q
    atimensec:I mtimensec:I ctimensec:I mode:I unused4:I uid:I gid:I unused5:I
fuse_mknod_in             mode:I rdev:I umask:I padding:I
fuse_mkdir_in             mode:I umask:I
fuse_rename_in            newdir:Q
fuse_rename2_in           newdir:Q flags:I padding:I
fuse_link_in              oldnodeid:Q
fuse_open_in              flags:I open_flags:I
fuse_create_in            flags:I mode:I umask:I open_flags:I
fuse_release_in           fh:Q flags:I release_flags:I lock_owner:Q
fuse_flush_in             fh:Q unused:I padding:I lock_owner:Q
fuse_read_in              fh:Q offset:Q size:I read_flags:I lock_owner:Q flags:I padding:I
fuse_open_out             fh:Q open_flags:I backing_id:i
fuse_write_out            size:I padding:I
fuse_write_in             fh:Q offset:Q size:I write_flags:I lock_owner:Q flags:I padding:I
fuse_fsync_in             fh:Q fsync_flags:I padding:I
fuse_setxattr_in          size:I flags:I setxattr_flags:I padding:I
fuse_getxattr_in          size:I padding:I
fuse_getxattr_out         size:I padding:I
fuse_lk_in                fh:Q owner:Q {_LOCK} lk_flags:I padding:I
fuse_access_in            mask:I padding:I
fuse_interrupt_in         unique:Q
fuse_bmap_in              block:Q blocksize:I padding:I
fuse_ioctl_in             fh:Q flags:I cmd:I arg:Q in_size:I out_size:I
fuse_poll_in              fh:Q kh:Q flags:I events:I
fuse_fallocate_in         fh:Q offset:Q length:Q mode:I padding:I
fuse_lseek_in             fh:Q offset:Q whence:I padding:I
fuse_copy_file_range_in   fh_in:Q off_in:Q nodeid_out:Q fh_out:Q off_out:Q len:Q flags:Q
fuse_syncfs_in            padding:Q
fuse_notify_inval_inode_out ino:Q off:q len:q
fuse_notify_inval_entry_out parent:Q namelen:I flags:I
fuse_notify_store_out     nodeid:Q offset:Q size:I padding:I
fuse_statx_in             getattr_flags:I reserved:I fh:Q sx_flags:I sx_mask:I
"""


def _layout(line: str) -> Layout:
    name, *fields = line.split()
    names, codes = zip(*(field.split(":") for field in fields), strict=True)
    return Layout(name, names, Struct("=" + "".join(codes)))


LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in map(_layout, _TABLE.replace("\n  ", " ").strip().splitlines())
}
"""Every struct that is read or written here, by its name in fuse.h."""

IN_HEADER = LAYOUTS["fuse_in_header"].struct
OUT_HEADER = LAYOUTS["fuse_out_header"].struct
INIT_IN = LAYOUTS["fuse_init_in"].struct
INIT_OUT = LAYOUTS["fuse_init_out"].struct
KSTATFS = LAYOUTS["fuse_kstatfs"].struct
READ_IN = LAYOUTS["fuse_read_in"].struct
FORGET_IN = LAYOUTS["fuse_forget_in"].struct
BATCH_FORGET_IN = LAYOUTS["fuse_batch_forget_in"].struct
FORGET_ONE = LAYOUTS["fuse_forget_one"].struct
SETATTR_IN = LAYOUTS["fuse_setattr_in"].struct
MKNOD_IN = LAYOUTS["fuse_mknod_in"].struct
MKDIR_IN = LAYOUTS["fuse_mkdir_in"].struct
CREATE_IN = LAYOUTS["fuse_create_in"].struct
OPEN_IN = LAYOUTS["fuse_open_in"].struct
OPEN_OUT = LAYOUTS["fuse_open_out"].struct
FLUSH_IN = LAYOUTS["fuse_flush_in"].struct
RELEASE_IN = LAYOUTS["fuse_release_in"].struct
LK_IN = LAYOUTS["fuse_lk_in"].struct
LINK_IN = LAYOUTS["fuse_link_in"].struct
RENAME_IN = LAYOUTS["fuse_rename_in"].struct
RENAME2_IN = LAYOUTS["fuse_rename2_in"].struct
WRITE_IN = LAYOUTS["fuse_write_in"].struct
WRITE_OUT = LAYOUTS["fuse_write_out"].struct
FALLOCATE_IN = LAYOUTS["fuse_fallocate_in"].struct
LSEEK_IN = LAYOUTS["fuse_lseek_in"].struct
COPY_FILE_RANGE_IN = LAYOUTS["fuse_copy_file_range_in"].struct
SETXATTR_IN = LAYOUTS["fuse_setxattr_in"].struct
GETXATTR_IN = LAYOUTS["fuse_getxattr_in"].struct
GETXATTR_OUT = LAYOUTS["fuse_getxattr_out"].struct
INTERRUPT_IN = LAYOUTS["fuse_interrupt_in"].struct
INVAL_INODE_OUT = LAYOUTS["fuse_notify_inval_inode_out"].struct
INVAL_ENTRY_OUT = LAYOUTS["fuse_notify_inval_entry_out"].struct
NOTIFY_STORE_OUT = LAYOUTS["fuse_notify_store_out"].struct

NEGATIVE_ENTRY_OUT = Struct("=16xQ104x")
"""``struct fuse_entry_out`` of a name that is absent: node 0, and for how long."""
LK_OUT = Struct("=QQII")
"""``struct fuse_lk_out``: start, end, type, pid."""
U64_OUT = Struct("=Q")
"""``struct fuse_lseek_out`` and ``struct fuse_copy_file_range_out``."""
INIT_IN_SHORT = Struct("=IIII")
"""``struct fuse_init_in`` before 7.36, without ``flags2``."""

_NAME = 2  # the shortest name: one byte and its NUL
_BODIES: dict[Opcode, tuple[str | None, int]] = {
    Opcode.LOOKUP: (None, _NAME),
    Opcode.FORGET: ("fuse_forget_in", 0),
    Opcode.GETATTR: ("fuse_getattr_in", 0),
    Opcode.SETATTR: ("fuse_setattr_in", 0),
    Opcode.READLINK: (None, 0),
    Opcode.SYMLINK: (None, _NAME + 1),
    Opcode.MKNOD: ("fuse_mknod_in", _NAME),
    Opcode.MKDIR: ("fuse_mkdir_in", _NAME),
    Opcode.UNLINK: (None, _NAME),
    Opcode.RMDIR: (None, _NAME),
    Opcode.RENAME: ("fuse_rename_in", 2 * _NAME),
    Opcode.LINK: ("fuse_link_in", _NAME),
    Opcode.OPEN: ("fuse_open_in", 0),
    Opcode.READ: ("fuse_read_in", 0),
    Opcode.WRITE: ("fuse_write_in", 0),
    Opcode.STATFS: (None, 0),
    Opcode.RELEASE: ("fuse_release_in", 0),
    Opcode.FSYNC: ("fuse_fsync_in", 0),
    Opcode.SETXATTR: (None, 8 + _NAME),  # half of the struct, without FUSE_SETXATTR_EXT
    Opcode.GETXATTR: ("fuse_getxattr_in", _NAME),
    Opcode.LISTXATTR: ("fuse_getxattr_in", 0),
    Opcode.REMOVEXATTR: (None, _NAME),
    Opcode.FLUSH: ("fuse_flush_in", 0),
    Opcode.INIT: (None, INIT_IN_SHORT.size),
    Opcode.OPENDIR: ("fuse_open_in", 0),
    Opcode.READDIR: ("fuse_read_in", 0),
    Opcode.RELEASEDIR: ("fuse_release_in", 0),
    Opcode.FSYNCDIR: ("fuse_fsync_in", 0),
    Opcode.GETLK: ("fuse_lk_in", 0),
    Opcode.SETLK: ("fuse_lk_in", 0),
    Opcode.SETLKW: ("fuse_lk_in", 0),
    Opcode.ACCESS: ("fuse_access_in", 0),
    Opcode.CREATE: ("fuse_create_in", _NAME),
    Opcode.INTERRUPT: ("fuse_interrupt_in", 0),
    Opcode.BMAP: ("fuse_bmap_in", 0),
    Opcode.DESTROY: (None, 0),
    Opcode.IOCTL: ("fuse_ioctl_in", 0),
    Opcode.POLL: ("fuse_poll_in", 0),
    Opcode.NOTIFY_REPLY: (None, 0),
    Opcode.BATCH_FORGET: ("fuse_batch_forget_in", 0),
    Opcode.FALLOCATE: ("fuse_fallocate_in", 0),
    Opcode.READDIRPLUS: ("fuse_read_in", 0),
    Opcode.RENAME2: ("fuse_rename2_in", 2 * _NAME),
    Opcode.LSEEK: ("fuse_lseek_in", 0),
    Opcode.COPY_FILE_RANGE: ("fuse_copy_file_range_in", 0),
    Opcode.SETUPMAPPING: (None, 0),
    Opcode.REMOVEMAPPING: (None, 0),
    Opcode.SYNCFS: ("fuse_syncfs_in", 0),
    Opcode.TMPFILE: ("fuse_create_in", 0),
    Opcode.STATX: ("fuse_statx_in", 0),
    Opcode.COPY_FILE_RANGE_64: ("fuse_copy_file_range_in", 0),
}


def _size_min(opcode: Opcode) -> int:
    layout, rest = _BODIES[opcode]
    return IN_HEADER.size + (LAYOUTS[layout].size if layout else 0) + rest


REQUEST_MIN: tuple[int, ...] = tuple(
    _size_min(Opcode(number)) if number in set(Opcode) else IN_HEADER.size
    for number in range(OPCODES)
)
"""The fewest bytes that a request of each opcode has, header included; shorter is malformed."""
NO_REPLY = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY})
"""Requests that must not be answered."""
IOV_MAX = 1024
"""The most buffers that one writev(2) takes on Linux."""
