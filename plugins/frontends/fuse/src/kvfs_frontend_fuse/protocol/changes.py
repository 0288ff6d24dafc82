"""The handlers of requests that change something; used where the volume can be written to."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from struct import Struct

from kvfs.files import Buffer, Caller, Changes, Refused, WritableFiles
from kvfs_frontend_fuse.protocol.operations import (
    BODY,
    CHANGES,
    Handler,
    Operations,
    Reply,
)
from kvfs_frontend_fuse.protocol.wire import (
    BATCH_FORGET_IN,
    COPY_FILE_RANGE_IN,
    CREATE_IN,
    FALLOCATE_IN,
    FORGET_IN,
    FORGET_ONE,
    LINK_IN,
    LSEEK_IN,
    MKDIR_IN,
    MKNOD_IN,
    OPEN_IN,
    OPEN_OUT,
    RENAME2_IN,
    RENAME_IN,
    SETATTR_IN,
    SETXATTR_IN,
    U64_OUT,
    WRITE_IN,
    WRITE_OUT,
    Opcode,
    OpenFlag,
    SetattrValid,
    SetxattrFlag,
    WriteFlag,
)

_CALLER = Struct("=II")
_CALLER_AT = 24
_RESENT_AT = 15
_RESENT = 0x80
"""The highest bit of ``unique``: the request may have been carried out already."""
_SECOND_NS = 1_000_000_000
_OPENED_MAX = 1 << 16
_APPENDING = OpenFlag.DIRECT_IO
"""What is appended comes in one piece: through pages, it would be cut at the first."""
_ATTRIBUTES = ~(SetattrValid.FH | SetattrValid.LOCKOWNER).value
_DONE: tuple[Buffer, ...] = ()


class Deferred(Exception):
    """The request would keep others waiting: it belongs to a thread that may wait."""


def _names(request: bytes | bytearray, start: int, size: int, count: int) -> Sequence[bytes]:
    """So many names, each with its NUL, and nothing behind.

    :raises Refused: there is something else.
    """
    *names, rest = bytes(request[start:size]).split(b"\0")
    if len(names) != count or rest:
        raise Refused(errno.EINVAL, "a malformed name")
    return names


def _caller(request: bytes | bytearray, umask: int) -> Caller:
    uid, gid = _CALLER.unpack_from(request, _CALLER_AT)
    return Caller(uid, gid, umask)


def _is_resent(request: bytes | bytearray) -> bool:
    return bool(request[_RESENT_AT] & _RESENT)


def _signed(seconds: int) -> int:
    return seconds - (1 << 64) if seconds >> 63 else seconds


class ChangingOperations(Operations):
    """The handlers of a mount that can be written to.

    :param waits: may a request keep its thread waiting?  If not, it is :class:`Deferred`.
    """

    files: WritableFiles

    def __init__(
        self,
        files: WritableFiles,
        *,
        xattrs: bool,
        waits: bool,
        opens: bool = False,
        stats: Callable[[], bytes] | None = None,
    ) -> None:
        super().__init__(files, xattrs=xattrs, opens=opens, stats=stats)
        self._waits = waits
        handlers: dict[Opcode, Handler] = {
            Opcode.FORGET: self.forget,
            Opcode.BATCH_FORGET: self.batch_forget,
            Opcode.SETATTR: self.setattr,
            Opcode.SYMLINK: self.symlink,
            Opcode.MKNOD: self.mknod,
            Opcode.MKDIR: self.mkdir,
            Opcode.TMPFILE: self.tmpfile,
            Opcode.LINK: self.link,
            Opcode.UNLINK: self.unlink,
            Opcode.RMDIR: self.rmdir,
            Opcode.RENAME: self.rename,
            Opcode.RENAME2: self.rename2,
            Opcode.WRITE: self.write,
            Opcode.FSYNC: self.fsync,
            Opcode.FSYNCDIR: self.fsync,
            Opcode.FALLOCATE: self.fallocate,
            Opcode.LSEEK: self.lseek,
            Opcode.COPY_FILE_RANGE: self.copy_file_range,
            Opcode.COPY_FILE_RANGE_64: self.copy_file_range_64,
        }
        if xattrs:
            handlers[Opcode.SETXATTR] = self.setxattr
            handlers[Opcode.REMOVEXATTR] = self.removexattr
        for opcode, handler in handlers.items():
            self.table[opcode] = handler
        if files.is_shared:
            self.table[Opcode.OPEN] = self.open
            self.table[Opcode.OPENDIR] = self.opendir
            self.table[Opcode.CREATE] = self.create
            if not waits:  # for the engine, as each of them does
                for opcode in (*CHANGES, Opcode.FORGET, Opcode.BATCH_FORGET):
                    self.table[opcode] = self._defer
        else:
            # The kernel then makes a node and needs not open it: one request, and none at the end.
            self.table[Opcode.CREATE] = self._no_create
        self._opened: dict[int, int] = {}
        """When that was changed which the kernel may have pages of."""

    @staticmethod
    def _defer(inode: int, request: bytes | bytearray, size: int) -> Reply:
        raise Deferred

    @staticmethod
    def _no_create(inode: int, request: bytes | bytearray, size: int) -> Reply:
        return errno.ENOSYS

    # -- opening what others may change ------------------------------------------------------------

    def open(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A file is opened: its pages go if it was changed since it was the last time.

        That is not to be seen by its mtime, which programs set as they like.
        """
        flags, _ = OPEN_IN.unpack_from(request, BODY)
        if flags & os.O_APPEND:
            return (self._open_out(request, _APPENDING),)
        changed_ns = self.files.stat(inode).ctime_ns
        is_known = self._opened.get(inode) == changed_ns
        if len(self._opened) >= _OPENED_MAX:
            self._opened.clear()
        self._opened[inode] = changed_ns
        return (self._open_out(request, OpenFlag.KEEP_CACHE if is_known else 0),)

    @staticmethod
    def opendir(inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A directory is opened: what is listed is not kept."""
        return (OPEN_OUT.pack(0, 0, 0),)

    def create(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A new file, open; who wants it to be new is told if it is not."""
        flags, mode, umask, _ = CREATE_IN.unpack_from(request, BODY)
        (name,) = _names(request, BODY + CREATE_IN.size, size, 1)
        caller = _caller(request, umask)

        def make() -> bytes:
            return self.files.mknod(inode, name, mode, 0, caller)

        try:
            (entry,) = self._made(request, inode, name, make)
        except Refused as error:
            if error.errno == errno.EEXIST and not flags & os.O_EXCL:
                # Somebody else made it after the kernel had looked, which is to look again: then it
                # checks who may open it.
                return errno.ESTALE
            raise
        return (entry, self._open_out(request, _APPENDING if flags & os.O_APPEND else 0))

    # -- names -------------------------------------------------------------------------------------

    def _made(
        self, request: bytes | bytearray, parent: int, name: bytes, make: Callable[[], bytes]
    ) -> tuple[Buffer]:
        """What a request makes, unless a killed worker had made it."""
        try:
            return (make(),)
        except Refused as error:
            if error.errno == errno.EEXIST and _is_resent(request):
                entry = self.files.lookup(parent, name)
                if entry is not None:
                    return (entry,)
            raise

    @staticmethod
    def _gone(request: bytes | bytearray, remove: Callable[[], None]) -> Reply:
        """Remove something, unless a killed worker had done so."""
        try:
            remove()
        except Refused as error:
            if error.errno != errno.ENOENT or not _is_resent(request):
                raise
        return _DONE

    def mknod(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A new file, or a special one."""
        mode, rdev, umask, _ = MKNOD_IN.unpack_from(request, BODY)
        (name,) = _names(request, BODY + MKNOD_IN.size, size, 1)
        caller = _caller(request, umask)
        return self._made(
            request, inode, name, lambda: self.files.mknod(inode, name, mode, rdev, caller)
        )

    def mkdir(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A new directory."""
        mode, umask = MKDIR_IN.unpack_from(request, BODY)
        (name,) = _names(request, BODY + MKDIR_IN.size, size, 1)
        caller = _caller(request, umask)
        return self._made(request, inode, name, lambda: self.files.mkdir(inode, name, mode, caller))

    def symlink(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A new symbolic link."""
        name, target = _names(request, BODY, size, 2)
        caller = _caller(request, 0)
        return self._made(
            request, inode, name, lambda: self.files.symlink(inode, name, target, caller)
        )

    def tmpfile(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A new file without a name, open."""
        _, mode, umask, _ = CREATE_IN.unpack_from(request, BODY)
        entry = self.files.tmpfile(inode, mode, _caller(request, umask))
        return (entry, self._open_out(request, OpenFlag.KEEP_CACHE | OpenFlag.NOFLUSH))

    def link(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """One more name."""
        (old,) = LINK_IN.unpack_from(request, BODY)
        (name,) = _names(request, BODY + LINK_IN.size, size, 1)
        return self._made(request, inode, name, lambda: self.files.link(old, inode, name))

    def unlink(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """One name less."""
        (name,) = _names(request, BODY, size, 1)
        return self._gone(request, lambda: self.files.unlink(inode, name))

    def rmdir(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """One directory less."""
        (name,) = _names(request, BODY, size, 1)
        return self._gone(request, lambda: self.files.rmdir(inode, name))

    def rename(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Another name."""
        (new_parent,) = RENAME_IN.unpack_from(request, BODY)
        return self._rename(inode, new_parent, 0, request, BODY + RENAME_IN.size, size)

    def rename2(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Another name, on a condition, or in exchange."""
        new_parent, flags, _ = RENAME2_IN.unpack_from(request, BODY)
        return self._rename(inode, new_parent, flags, request, BODY + RENAME2_IN.size, size)

    def _rename(
        self,
        inode: int,
        new_parent: int,
        flags: int,
        request: bytes | bytearray,
        start: int,
        size: int,
    ) -> Reply:
        name, new_name = _names(request, start, size, 2)
        return self._gone(
            request, lambda: self.files.rename(inode, name, new_parent, new_name, flags)
        )

    def forget(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """The kernel lets go of a node."""
        (count,) = FORGET_IN.unpack_from(request, BODY)
        self.files.forget(inode, count)
        return None

    def batch_forget(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """The kernel lets go of several nodes."""
        count, _ = BATCH_FORGET_IN.unpack_from(request, BODY)
        at = BODY + BATCH_FORGET_IN.size
        for _ in range(min(count, (size - at) // FORGET_ONE.size)):
            self.files.forget(*FORGET_ONE.unpack_from(request, at))
            at += FORGET_ONE.size
        return None

    # -- attributes --------------------------------------------------------------------------------

    def setattr(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Mode, owner, size or times."""
        (
            valid, _, _, length, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _,
        ) = SETATTR_IN.unpack_from(request, BODY)  # fmt: skip
        has = SetattrValid
        changes = Changes(
            mode=mode if valid & has.MODE else None,
            uid=uid if valid & has.UID else None,
            gid=gid if valid & has.GID else None,
            size=length if valid & has.SIZE else None,
            atime_ns=_signed(atime) * _SECOND_NS + atime_ns if valid & has.ATIME else None,
            mtime_ns=_signed(mtime) * _SECOND_NS + mtime_ns if valid & has.MTIME else None,
            atime_now=bool(valid & has.ATIME_NOW),
            mtime_now=bool(valid & has.MTIME_NOW),
            drops_privileges=bool(valid & has.KILL_SUIDGID),
        )
        if not valid & _ATTRIBUTES:
            # All that is left of a chown(2) to nobody else.  Anybody may do it, but only the owner
            # takes setuid away by it; it can't be refused to others, since it looks the same as
            # what the kernel sends ahead of an fallocate(2) by somebody who may write.
            changes = Changes(drops_privileges=self._owns(inode, request))
        return (self.files.setattr(inode, changes),)

    def _owns(self, inode: int, request: bytes | bytearray) -> bool:
        uid, _ = _CALLER.unpack_from(request, _CALLER_AT)
        return uid in (0, self.files.stat(inode).uid)

    def setxattr(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """An extended attribute."""
        if size < BODY + SETXATTR_IN.size:
            return errno.EINVAL
        length, flags, more, _ = SETXATTR_IN.unpack_from(request, BODY)
        name, nul, value = bytes(request[BODY + SETXATTR_IN.size : size]).partition(b"\0")
        if not name or not nul or len(value) != length:
            return errno.EINVAL
        drops_setgid = bool(more & SetxattrFlag.ACL_KILL_SGID)
        self.files.setxattr(inode, name, value, flags, drops_setgid=drops_setgid)
        return _DONE

    def removexattr(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """An extended attribute less."""
        (name,) = _names(request, BODY, size, 1)
        self.files.removexattr(inode, name)
        return _DONE

    def _no_xattr(self, name: bytes) -> int:
        return errno.ENODATA

    # -- contents ----------------------------------------------------------------------------------

    def write(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Contents."""
        if not self._waits and self.files.is_congested:
            raise Deferred
        _, at, length, flags, _, opened, _ = WRITE_IN.unpack_from(request, BODY)
        # Where the end is, the kernel cannot know if others write, too.
        appends = self.files.is_shared and opened & os.O_APPEND and not flags & WriteFlag.CACHE
        offset = None if appends else at
        start = BODY + WRITE_IN.size
        if length != size - start:
            return errno.EINVAL
        with memoryview(request)[start:size] as data:
            written = self.files.write(
                inode, offset, data, drops_privileges=bool(flags & WriteFlag.KILL_SUIDGID)
            )
        return (WRITE_OUT.pack(written, 0),)

    def fsync(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A promise that everything so far lasts."""
        if not self._waits:
            raise Deferred
        self.files.sync(inode)
        return _DONE

    @staticmethod
    def _is_superuser(request: bytes | bytearray) -> bool:
        # The kernel says whether a write drops setuid and setgid, but not of what follows.
        uid, _ = _CALLER.unpack_from(request, _CALLER_AT)
        return bool(uid == 0)

    def fallocate(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Room, holes and zeros."""
        _, offset, length, mode, _ = FALLOCATE_IN.unpack_from(request, BODY)
        drops = not self._is_superuser(request)
        self.files.fallocate(inode, mode, offset, length, drops_privileges=drops)
        return _DONE

    def lseek(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """Where data or a hole begins."""
        _, offset, whence, _ = LSEEK_IN.unpack_from(request, BODY)
        return (U64_OUT.pack(self.files.seek(inode, _signed(offset), whence)),)

    def _copy(self, inode: int, request: bytes | bytearray) -> int:
        if not self._waits:
            raise Deferred
        _, offset, target, _, new_offset, length, _ = COPY_FILE_RANGE_IN.unpack_from(request, BODY)
        drops = not self._is_superuser(request)
        return self.files.copy_range(
            inode, offset, target, new_offset, min(length, 1 << 30), drops_privileges=drops
        )

    def copy_file_range(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A copy of contents."""
        return (WRITE_OUT.pack(self._copy(inode, request), 0),)

    def copy_file_range_64(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """A copy of contents, of any length."""
        return (U64_OUT.pack(self._copy(inode, request)),)


__all__ = ["ChangingOperations", "Deferred"]
