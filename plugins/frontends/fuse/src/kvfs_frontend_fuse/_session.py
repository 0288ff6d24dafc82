"""The conversation over an open /dev/fuse: INIT, then a loop of read, dispatch, reply.

One thread reads the device and answers everything whose contents are there; it makes one call of
the file system and one writev(2) per request, and keeps no state between requests: FUSE without
OPEN has none.  What has to wait goes to :mod:`kvfs_frontend_fuse._waiters`.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from kvfs.errors import Unavailable
from kvfs.files import NotResident
from kvfs_frontend_fuse._complaints import Complaints, log
from kvfs_frontend_fuse._device import Device
from kvfs_frontend_fuse._negotiate import REQUEST_BYTES, Negotiated, answer_init
from kvfs_frontend_fuse._operations import BODY, FilesAPI, Operations, Reply
from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse._waiters import Waiters
from kvfs_frontend_fuse._wire import (
    IN_HEADER,
    INTERRUPT_IN,
    NO_REPLY,
    OPCODES,
    OUT_HEADER,
    REQUEST_MIN,
    Opcode,
)

READ_FAILURES_MAX = 1000
"""So many reads of the device may fail in a row before the session gives up."""


class VolumeAPI(Protocol):
    """What the binding needs of a volume; :class:`kvfs.volume.Volume` is one."""

    @property
    def name(self) -> str:
        """Shown as the source of the mount."""

    @property
    def read_only(self) -> bool:
        """Does it refuse every change?"""

    def files(self, *, wait: bool) -> FilesAPI:
        """The file system, for one thread.

        :param wait: block until what a call needs has arrived, instead of raising ``NotResident``.
        """


class Session:
    """One mount's conversation with the kernel, from INIT to the end.

    :meth:`negotiate`, :meth:`run` and :meth:`close` belong to one thread.

    :param descriptor: the open device; the session owns it.
    """

    def __init__(self, descriptor: int, volume: VolumeAPI, settings: FuseSettings) -> None:
        self._settings = settings
        self._complaints = Complaints()
        self._device = Device(descriptor, self._complaints)
        self._request = bytearray(REQUEST_BYTES)
        self._ending = False
        self._read_failures = 0
        xattrs = settings.xattrs
        self._operations = Operations(volume.files(wait=False), xattrs=xattrs)
        self._operations.table[Opcode.INTERRUPT] = self._interrupt
        self._waiters = Waiters(
            self._device,
            self._complaints,
            threads=settings.waiters,
            operations=lambda: Operations(volume.files(wait=True), xattrs=xattrs),
        )

    @property
    def alarm(self) -> int:
        """A descriptor; a byte written to it makes the loop look whether it is to end."""
        return self._device.alarm

    def end(self) -> None:
        """Leave the loop, now.  From any other thread."""
        self._ending = True
        self._device.wake()

    def close(self) -> None:
        """Close the device and end the waiting threads.  Again is allowed, and does nothing."""
        self._device.close()
        self._waiters.close()
        self._operations.files.close()

    # -- INIT ------------------------------------------------------------------------------------

    def negotiate(self) -> Negotiated | None:
        """Answer the kernel's INIT; the mount answers from then on.

        :returns: ``None``: the mount ended before.
        :raises Unsupported: the kernel is too old.
        """
        while (size := self._receive()) is not None:
            opcode, unique = self._header(size)
            if opcode != Opcode.INIT or size < REQUEST_MIN[Opcode.INIT]:
                self._complaints.malformed(opcode, size)
                if size >= BODY and opcode not in NO_REPLY:
                    self._device.reply(opcode, unique, errno.EIO)
                continue

            def reply(body: list[bytes] | int, unique: int = unique) -> None:
                self._device.reply(Opcode.INIT, unique, body)

            agreed = answer_init(self._request, size, self._settings, reply=reply)
            if agreed is not None:
                log.debug("FUSE 7.%d, %r", agreed.minor, agreed.flags)
                return agreed
        return None

    def _receive(self) -> int | None:
        """Read one request; its size, or ``None`` at the end."""
        while not self._ending:
            try:
                return os.readv(self._device.descriptor, [self._request]) or None
            except BlockingIOError:
                self._device.wait()
            except OSError as error:
                if self._has_ended(error):
                    return None
        return None

    def _header(self, size: int) -> tuple[int, int]:
        """Opcode and unique, or zeros where there is not even a header."""
        if size < BODY:
            return 0, 0
        _, opcode, unique, *_ = IN_HEADER.unpack_from(self._request)
        return opcode, unique

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Answer requests until the mount ends or :meth:`end` was called.

        :raises Unavailable: the device fails for a reason unknown.
        """
        # This loop is the hot path of the project: everything it touches is a local name.
        descriptor = self._device.descriptor
        request = self._request
        into = [request]
        table = self._operations.table
        readv, writev, wait = os.readv, os.writev, self._device.wait
        unpack, pack = IN_HEADER.unpack_from, OUT_HEADER.pack
        head = OUT_HEADER.size
        # A view held by an idle mount keeps the engine from reusing pages that an ingest frees.
        idle = self._operations.files.close
        reply: Reply
        while not self._ending:
            try:
                size = readv(descriptor, into)
            except BlockingIOError:
                wait(idle)
                continue
            except OSError as error:
                if self._has_ended(error):
                    return
                continue
            if size < BODY:
                if not size:
                    return
                self._complaints.malformed(0, size)
                continue
            length, opcode, unique, inode, _, _, _, _, _ = unpack(request)
            if opcode >= OPCODES or length != size or size < REQUEST_MIN[opcode]:
                self._refuse(opcode, unique, length, size)
                continue
            try:
                reply = table[opcode](inode, request, size)
            except NotResident:
                self._waiters.submit(opcode, unique, inode, bytes(memoryview(request)[:size]))
                continue
            except Exception as error:
                reply = self._complaints.failed(opcode, inode, error)
            if reply is None:
                continue
            try:
                if isinstance(reply, int):
                    writev(descriptor, (pack(head, -reply, unique),))
                else:
                    total = head
                    for piece in reply:
                        total += len(piece)
                    writev(descriptor, (pack(total, 0, unique), *reply))
            except OSError as error:
                self._device.refused(opcode, unique, error)

    def _refuse(self, opcode: int, unique: int, length: int, size: int) -> None:
        """Answer a request that is malformed, or of a protocol newer than ours."""
        known = opcode < OPCODES
        if known or length != size:
            self._complaints.malformed(opcode, size)
        if opcode not in NO_REPLY:
            number = errno.EINVAL if known or length != size else errno.ENOSYS
            self._device.reply(opcode, unique, number)

    def _interrupt(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        """The caller of an earlier request got a signal: stop waiting, if it is waiting.

        One that was answered meanwhile is of no interest to anybody: an INTERRUPT has no reply.
        """
        (unique,) = INTERRUPT_IN.unpack_from(request, BODY)
        if self._waiters.interrupt(unique):
            self._device.reply(Opcode.INTERRUPT, unique, errno.EINTR)
        return None

    def _has_ended(self, error: OSError) -> bool:
        """Judge a failed read of the device."""
        if error.errno in (errno.ENODEV, errno.ECONNABORTED):  # unmounted, or aborted
            return True
        # ENOENT: the request was interrupted before it was read.  Others have no known cause.
        if error.errno not in (errno.ENOENT, errno.EINTR):
            self._read_failures += 1
            log.error("reading /dev/fuse failed: %s", error)
            if self._read_failures > READ_FAILURES_MAX:
                raise Unavailable(f"/dev/fuse cannot be read: {error.strerror}") from error
        return False
