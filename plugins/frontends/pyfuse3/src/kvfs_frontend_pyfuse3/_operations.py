"""One handler per request: translate the call, call the file system, translate the answer.

All handlers run in the one thread of the event loop, and none gives up control between a call of
the file system and the use of what it returned.  One whose contents are not there waits in
:mod:`kvfs_frontend_pyfuse3._waiting`, and then makes its call once more.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import pyfuse3
import trio
from pyfuse3 import (
    EntryAttributes,
    FileHandleT,
    FileInfo,
    FileNameT,
    FlagT,
    FUSEError,
    InodeT,
    ModeT,
    ReaddirToken,
    RequestContext,
    SetattrFields,
    StatvfsData,
    XAttrNameT,
    readdir_reply,
)

from kvfs.errors import KVFSError
from kvfs.files import NotResident
from kvfs.files.records import NAME_BYTES_MAX
from kvfs_frontend_fuse.binding import Complaints, FilesAPI, Opcode
from kvfs_frontend_pyfuse3._attributes import absent, listed, of_entry, of_inode, totals_of
from kvfs_frontend_pyfuse3._waiting import Call, Waiters

LISTING_BYTES = 4096
"""A piece of a listing; the kernel asks for a page or more, and how much libfuse does not say."""
IDLE_S = 0.1
"""After so long without a request the views of the stores are let go."""

T = TypeVar("T")


class Operations(pyfuse3.Operations):
    """The handlers over one file-system object.

    What is not here is answered ENOSYS by the base class, which makes the kernel stop asking and do
    what is right: closing needs no flush, permissions are checked from the attributes.

    :ivar began: set when the kernel has had its answer to INIT.
    :param xattrs: ``False``: the first question for an extended attribute is answered so that the
        kernel never asks again.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(self, files: FilesAPI, waiters: Waiters, *, xattrs: bool) -> None:
        super().__init__()
        self.began = trio.Event()
        self._files = files
        self._waiters = waiters
        self._xattrs = xattrs
        self._complaints = Complaints()
        self._used = trio.Event()

    def init(self) -> None:
        self.began.set()

    async def let_go_when_idle(self) -> None:
        """Close the file system's views whenever nothing was asked for a while; runs for ever.

        A view held by an idle mount keeps the engine from reusing pages that an ingest frees.
        """
        while True:
            await self._used.wait()
            while self._used.is_set():
                self._used = trio.Event()
                await trio.sleep(IDLE_S)
            self._files.close()

    async def _answer(
        self,
        opcode: Opcode,
        inode: int,
        call: Callable[[FilesAPI], T],
        *,
        caller: int = 0,
        needs: Call | None = None,
    ) -> T:
        """What ``call`` makes of the file system.

        :param caller: the thread that asks, where libfuse tells.
        :param needs: a call that needs the same contents, where ``call`` has effects.
        :raises FUSEError: whatever went wrong.
        """
        self._used.set()
        while True:
            try:
                return call(self._files)
            except NotResident:
                pass
            except Exception as error:
                raise self._failure(opcode, inode, error) from error
            try:
                await self._waiters.until(needs or call, caller=caller)
            except Exception as error:
                raise self._failure(opcode, inode, error) from error

    def _failure(self, opcode: Opcode, inode: int, error: Exception) -> FUSEError:
        if isinstance(error, FUSEError):
            return error
        return FUSEError(self._complaints.failed(opcode, inode, error))

    # -- names and attributes ----------------------------------------------------------------------

    async def lookup(
        self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        """An entry; where it is absent, a negative entry for as long as that may be believed."""
        if len(name) > NAME_BYTES_MAX:
            raise FUSEError(errno.ENAMETOOLONG)

        def call(files: FilesAPI) -> EntryAttributes:
            entry = files.lookup(parent_inode, name)
            if entry is not None:
                return of_entry(entry)
            timeout_s = files.negative_timeout_s(parent_inode)
            if not timeout_s:
                raise FUSEError(errno.ENOENT)
            return absent(timeout_s)

        return await self._answer(Opcode.LOOKUP, parent_inode, call, caller=ctx.pid)

    async def forget(self, inode_list: Sequence[tuple[InodeT, int]]) -> None:
        """Nothing is kept of what the kernel knows."""

    async def getattr(self, inode: InodeT, ctx: RequestContext) -> EntryAttributes:
        """The attributes of a node."""
        return await self._answer(
            Opcode.GETATTR, inode, lambda files: of_inode(files.getattr(inode)), caller=ctx.pid
        )

    async def readlink(self, inode: InodeT, ctx: RequestContext) -> FileNameT:
        """The target of a symbolic link."""
        target = await self._answer(
            Opcode.READLINK, inode, lambda files: bytes(files.readlink(inode)), caller=ctx.pid
        )
        return FileNameT(target)

    # -- contents ----------------------------------------------------------------------------------

    async def open(self, inode: InodeT, flags: FlagT, ctx: RequestContext) -> FileInfo:
        """The handle is the inode, all that a read is told; the kernel keeps pages.

        A file that has to be fetched again is waited for here, where it is known who asks.
        """
        await self._answer(
            Opcode.OPEN, inode, lambda files: files.read(inode, 0, 0), caller=ctx.pid
        )
        return FileInfo(fh=FileHandleT(inode), keep_cache=True)

    async def read(self, fh: FileHandleT, off: int, size: int) -> bytes:
        """Contents of a file."""
        return await self._answer(
            Opcode.READ, fh, lambda files: b"".join(files.read(fh, off, size))
        )

    async def release(self, fh: FileHandleT) -> None:
        """Nothing is kept of an open file."""

    # -- listings ----------------------------------------------------------------------------------

    async def opendir(self, inode: InodeT, ctx: RequestContext) -> FileHandleT:
        """The handle is the inode; what listing it needs is waited for here, as in :meth:`open`."""
        await self._answer(
            Opcode.OPENDIR,
            inode,
            lambda files: files.readdir(inode, 0, 0, True),
            caller=ctx.pid,
        )
        return FileHandleT(inode)

    async def readdir(self, fh: FileHandleT, start_id: int, token: ReaddirToken) -> None:
        """As many entries behind ``start_id`` as the kernel has room for."""
        await self._answer(
            Opcode.READDIRPLUS,
            fh,
            lambda files: _list(files, fh, start_id, token),
            needs=lambda files: files.readdir(fh, start_id, LISTING_BYTES, True),
        )

    async def releasedir(self, fh: FileHandleT) -> None:
        """Nothing is kept of an open directory."""

    # -- extended attributes and totals ------------------------------------------------------------

    async def getxattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> bytes:
        """An extended attribute."""
        if not self._xattrs:
            raise FUSEError(errno.ENOSYS)

        def call(files: FilesAPI) -> bytes:
            value = files.getxattr(inode, name)
            if value is None:
                raise FUSEError(errno.ENODATA)
            return bytes(value)

        return await self._answer(Opcode.GETXATTR, inode, call, caller=ctx.pid)

    async def listxattr(self, inode: InodeT, ctx: RequestContext) -> Sequence[XAttrNameT]:
        """The names of all extended attributes."""
        if not self._xattrs:
            raise FUSEError(errno.ENOSYS)
        names = await self._answer(
            Opcode.LISTXATTR, inode, lambda files: files.listxattr(inode), caller=ctx.pid
        )
        return [XAttrNameT(name) for name in names]

    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        """Totals of the file system."""
        return await self._answer(
            Opcode.STATFS, InodeT(0), lambda files: totals_of(files.statfs()), caller=ctx.pid
        )

    # -- changes -----------------------------------------------------------------------------------

    async def setattr(
        self,
        inode: InodeT,
        attr: EntryAttributes,
        fields: SetattrFields,
        fh: FileHandleT | None,
        ctx: RequestContext,
    ) -> EntryAttributes:
        _refuse()

    async def mknod(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, rdev: int, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse()

    async def mkdir(
        self, parent_inode: InodeT, name: FileNameT, mode: ModeT, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse()

    async def unlink(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        _refuse()

    async def rmdir(self, parent_inode: InodeT, name: FileNameT, ctx: RequestContext) -> None:
        _refuse()

    async def symlink(
        self, parent_inode: InodeT, name: FileNameT, target: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse()

    async def rename(
        self,
        parent_inode_old: InodeT,
        name_old: FileNameT,
        parent_inode_new: InodeT,
        name_new: FileNameT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> None:
        _refuse()

    async def link(
        self, inode: InodeT, new_parent_inode: InodeT, new_name: FileNameT, ctx: RequestContext
    ) -> EntryAttributes:
        _refuse()

    async def create(
        self,
        parent_inode: InodeT,
        name: FileNameT,
        mode: ModeT,
        flags: FlagT,
        ctx: RequestContext,
    ) -> tuple[FileInfo, EntryAttributes]:
        _refuse()

    async def write(self, fh: FileHandleT, off: int, buf: bytes) -> int:
        _refuse()

    async def setxattr(
        self, inode: InodeT, name: XAttrNameT, value: bytes, ctx: RequestContext
    ) -> None:
        _refuse()

    async def removexattr(self, inode: InodeT, name: XAttrNameT, ctx: RequestContext) -> None:
        _refuse()


def _refuse() -> NoReturn:
    raise FUSEError(errno.EROFS)


def _list(files: FilesAPI, inode: int, cookie: int, token: ReaddirToken) -> None:
    """Hand entries to libfuse until it has no room for another."""
    begun = False
    while True:
        try:
            pieces = files.readdir(inode, cookie, LISTING_BYTES, True)
        except KVFSError:
            if begun:
                return  # of the next request, which starts where this one stopped
            raise
        if not pieces:
            return
        for name, attributes, behind in listed(memoryview(b"".join(pieces))):
            if not readdir_reply(token, name, attributes, behind):
                return
            cookie, begun = behind, True
