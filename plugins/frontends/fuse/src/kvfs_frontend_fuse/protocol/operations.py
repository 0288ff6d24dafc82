"""One handler per opcode: translate the request, call the file system, shape the reply.

A handler takes ``(inode, request, size)``: the node the request names, the buffer that begins with
it, and its length in bytes (what follows in the buffer is left from other requests).  The caller
has checked ``size`` against :data:`.wire.REQUEST_MIN`.  A handler returns

- buffers, the body of a reply (at most :data:`.wire.IOV_MAX` - 1 of them),
- an errno, as a positive ``int``,
- ``None``: there is to be no reply,

or raises what the file system raises.  No handler keeps a reference to the request.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Protocol

from kvfs.files import Buffer, StatFS
from kvfs_frontend_fuse.protocol.wire import (
    GETXATTR_IN,
    GETXATTR_OUT,
    IN_HEADER,
    IOV_MAX,
    KSTATFS,
    NEGATIVE_ENTRY_OUT,
    OPCODES,
    OPEN_OUT,
    READ_IN,
    Opcode,
    OpenFlag,
)

Reply = Sequence[Buffer] | int | None
Handler = Callable[[int, bytes | bytearray, int], Reply]

BODY = IN_HEADER.size
READ_MAX = 32 << 20
"""Far above what max_pages allows one READ or READDIR to ask for; a larger one is malformed."""
_LOOKUP_MAX = BODY + 255 + 1
"""A name of NAME_MAX bytes and its NUL; the kernel itself passes on up to 4095 for FUSE."""
_XATTR_NAME = BODY + GETXATTR_IN.size
STATS_XATTR = b"user.kvfs.requests"
"""Not listed; JSON: how many requests of each kind the mount has had."""
_ROOT = 1
_UID_AT = 24
_UNIQUE = Struct("=Q")
_UNIQUE_AT = 8
_NOT_RESENT = (1 << 63) - 1
"""All of ``unique`` but the bit that says that the request was asked before."""
_SUPERUSER = bytes(4)
_NOT_IN_FORCE = (b"security.", b"system.posix_acl_")

# Answers that make the kernel stop asking for good, and do what is right instead: files and
# directories need no open (pages and listings are kept), closing needs no flush, permissions are
# checked from the attributes, locks are local, SEEK_DATA sees no holes, copies are read and write.
_NEVER_AGAIN = (
    Opcode.OPEN,
    Opcode.OPENDIR,
    Opcode.FLUSH,
    Opcode.FSYNC,
    Opcode.FSYNCDIR,
    Opcode.SYNCFS,
    Opcode.ACCESS,
    Opcode.GETLK,
    Opcode.SETLK,
    Opcode.SETLKW,
    Opcode.BMAP,
    Opcode.POLL,
    Opcode.LSEEK,
    Opcode.STATX,
    Opcode.SETUPMAPPING,
    Opcode.REMOVEMAPPING,
)
CHANGES = (
    Opcode.SETATTR,
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.RENAME2,
    Opcode.LINK,
    Opcode.WRITE,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
    Opcode.CREATE,
    Opcode.TMPFILE,
    Opcode.FALLOCATE,
    Opcode.COPY_FILE_RANGE,
    Opcode.COPY_FILE_RANGE_64,
)
_SUCCEED = (Opcode.RELEASE, Opcode.RELEASEDIR, Opcode.DESTROY)
_SILENT = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT, Opcode.NOTIFY_REPLY)
_DONE: tuple[Buffer, ...] = ()


class FilesAPI(Protocol):
    """What the binding calls; :class:`kvfs.files.Files` is one.

    An object belongs to one thread; buffers it returns are valid until the next call on it.
    """

    @property
    def statfs(self) -> Callable[[], StatFS]:
        """Totals of the file system."""

    def lookup(self, parent: int, name: bytes) -> Buffer | None:
        """``struct fuse_entry_out`` of a name, or ``None``."""

    def negative_timeout_s(self, parent: int) -> int:
        """How many seconds the kernel may believe that a name is absent."""

    def getattr(self, inode: int) -> Buffer:
        """``struct fuse_attr_out``."""

    def readdir(self, inode: int, cookie: int, size: int, plus: bool) -> list[Buffer]:
        """``fuse_dirent`` or ``fuse_direntplus`` entries behind ``cookie``, at most ``size``."""

    def read(self, inode: int, offset: int, size: int) -> list[Buffer]:
        """Contents, short only at the end of the file."""

    def readlink(self, inode: int) -> Buffer:
        """The target of a symbolic link."""

    def getxattr(self, inode: int, name: bytes) -> Buffer | None:
        """One extended attribute, or ``None``."""

    def listxattr(self, inode: int) -> list[bytes]:
        """The names of the extended attributes."""

    def close(self) -> None:
        """Let go of what a call may have kept; the next call takes it again."""


def _constant(reply: Reply) -> Handler:
    def handler(inode: int, request: bytes | bytearray, size: int) -> Reply:
        return reply

    return handler


def _gather(pieces: list[Buffer]) -> Sequence[Buffer]:
    return pieces if len(pieces) < IOV_MAX else (b"".join(pieces),)


class Operations:
    """The handlers over one file-system object; used by the thread that owns it.

    :param xattrs: ``False``: the first question for an extended attribute is answered so that the
        kernel never asks again.
    :param opens: the kernel tells of each file that is opened and closed, which only those want to
        know who keep its locks.
    :param stats: the value of the attribute :data:`STATS_XATTR` of the root of the mount.
    """

    def __init__(
        self,
        files: FilesAPI,
        *,
        xattrs: bool,
        opens: bool = False,
        stats: Callable[[], bytes] | None = None,
    ) -> None:
        self.files = files
        self._opens = opens
        self._stats = stats
        self.table: list[Handler] = [_constant(errno.ENOSYS)] * OPCODES
        for opcodes, reply in (
            (_NEVER_AGAIN, errno.ENOSYS),
            (CHANGES, errno.EROFS),
            (_SUCCEED, _DONE),
            (_SILENT, None),
            ((Opcode.IOCTL,), errno.ENOTTY),
            ((Opcode.INIT,), errno.EIO),
        ):
            for opcode in opcodes:
                self.table[opcode] = _constant(reply)
        self.table[Opcode.LOOKUP] = self.lookup
        self.table[Opcode.GETATTR] = self.getattr
        self.table[Opcode.READLINK] = self.readlink
        self.table[Opcode.READ] = self.read
        self.table[Opcode.READDIR] = self.readdir
        self.table[Opcode.READDIRPLUS] = self.readdirplus
        self.table[Opcode.STATFS] = self.statfs
        if opens:
            self.table[Opcode.OPEN] = self.open_as_ever
        if xattrs:
            self.table[Opcode.GETXATTR] = self.getxattr
            self.table[Opcode.LISTXATTR] = self.listxattr

    def lookup(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """An entry; where it is absent, a negative entry for as long as that may be believed."""
        if size > _LOOKUP_MAX:
            return errno.ENAMETOOLONG
        # One NUL, at the end: the name is well-formed.
        if request.find(0, BODY, size) != size - 1:
            return errno.EINVAL
        entry = self.files.lookup(inode, bytes(request[BODY : size - 1]))
        if entry is not None:
            return (entry,)
        timeout_s = self.files.negative_timeout_s(inode)
        if not timeout_s:
            return errno.ENOENT
        return (NEGATIVE_ENTRY_OUT.pack(timeout_s),)

    def getattr(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """The attributes of a node."""
        return (self.files.getattr(inode),)

    def readlink(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """The target of a symbolic link."""
        return (self.files.readlink(inode),)

    def read(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Contents of a file."""
        _, offset, length, _, _, _, _ = READ_IN.unpack_from(request, BODY)
        if length > READ_MAX:
            return errno.EINVAL
        return _gather(self.files.read(inode, offset, length))

    def open_as_ever(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """An open file; its pages are kept, as where the kernel does not ask."""
        return (self._open_out(request, OpenFlag.KEEP_CACHE),)

    def _open_out(self, request: bytes | bytearray, flags: int) -> bytes:
        """``struct fuse_open_out`` with these flags.

        If it is to be known what is open, the handle is the number of the request, which no other
        of the mount has.
        """
        if not self._opens:
            return OPEN_OUT.pack(0, flags, 0)
        (unique,) = _UNIQUE.unpack_from(request, _UNIQUE_AT)
        return OPEN_OUT.pack(unique & _NOT_RESENT, flags & ~OpenFlag.NOFLUSH, 0)

    def readdir(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A piece of a listing: names, inode numbers and types."""
        return self._list(inode, request, False)

    def readdirplus(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A piece of a listing with complete attributes."""
        return self._list(inode, request, True)

    def _list(self, inode: int, request: bytes | bytearray, plus: bool) -> Reply:
        _, cookie, length, _, _, _, _ = READ_IN.unpack_from(request, BODY)
        if length > READ_MAX:
            return errno.EINVAL
        return _gather(self.files.readdir(inode, cookie, length, plus))

    def statfs(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Totals, as statvfs(3) shows them."""
        totals = self.files.statfs()
        return (
            KSTATFS.pack(
                totals.blocks,
                totals.bfree,
                totals.bavail,
                totals.files,
                totals.ffree,
                totals.bsize,
                totals.namelen,
                totals.frsize,
                0,
                b"",
            ),
        )

    def getxattr(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """An extended attribute, or its size where no room is offered."""
        if request.find(0, _XATTR_NAME, size) != size - 1:
            return errno.EINVAL
        name = bytes(request[_XATTR_NAME : size - 1])
        if inode == _ROOT and name == STATS_XATTR and self._stats is not None:
            return self._sized(self._stats(), request)
        value = self.files.getxattr(inode, name)
        if value is None:
            return self._no_xattr(name)
        return self._sized(value, request)

    def _no_xattr(self, name: bytes) -> int:
        # "Not supported" is for the whole mount, and programs that look for labels and ACLs of
        # every file (ls -l) then stop asking.
        return errno.EOPNOTSUPP if name.startswith(_NOT_IN_FORCE) else errno.ENODATA

    def listxattr(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """All names, each with its NUL, or their size where no room is offered."""
        names = self.files.listxattr(inode)
        if request[_UID_AT : _UID_AT + 4] != _SUPERUSER:
            # The kernel lets nobody else read these; not to list them is left to file systems.
            names = [name for name in names if not name.startswith(b"trusted.")]
        return self._sized(b"".join([name + b"\0" for name in names]), request)

    @staticmethod
    def _sized(value: Buffer, request: bytes | bytearray) -> Reply:
        room, _ = GETXATTR_IN.unpack_from(request, BODY)
        if room == 0:
            return (GETXATTR_OUT.pack(len(value), 0),)
        if len(value) > room:
            return errno.ERANGE
        return (value,)
