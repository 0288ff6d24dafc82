"""The conversation over an open /dev/fuse: INIT, then a loop of read, dispatch, reply.

One thread reads the device and answers everything whose contents are there; it makes one call of
the file system and one writev(2) per request, and keeps no state between requests: FUSE without
OPEN has none.  What has to wait goes to :mod:`.waiters`; what is worth having ready is pushed by
:mod:`kvfs_frontend_fuse.pushing`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, MutableSequence
from typing import Protocol

from kvfs.errors import Stale, Unavailable
from kvfs.files import NotResident, WritableFiles
from kvfs.volume import Locking, Observer
from kvfs_frontend_fuse._settings import FuseSettings, cores
from kvfs_frontend_fuse.protocol.changes import ChangingOperations, Deferred
from kvfs_frontend_fuse.protocol.negotiate import REQUEST_BYTES, Negotiated, answer_init
from kvfs_frontend_fuse.protocol.operations import BODY, FilesAPI, Operations, Reply
from kvfs_frontend_fuse.protocol.wire import (
    IN_HEADER,
    INTERRUPT_IN,
    NO_REPLY,
    OPCODES,
    OUT_HEADER,
    REQUEST_MIN,
    Opcode,
)
from kvfs_frontend_fuse.pushing.pusher import Pusher
from kvfs_frontend_fuse.pushing.streams import FollowingAPI
from kvfs_frontend_fuse.serving.complaints import Complaints, log
from kvfs_frontend_fuse.serving.device import Device
from kvfs_frontend_fuse.serving.locks import LockRequests
from kvfs_frontend_fuse.serving.waiters import Waiters

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

    @property
    def is_shared(self) -> bool:
        """May others change it, too, of whom this process does not know?"""

    def begin_writing(self, mount: str, *, before_first: Callable[[], object]) -> None:
        """Be the one process that writes, where it is not read-only; for this mount.

        :param before_first: called before the first change of each tarball, by a thread that waits.
        """

    def files(self, *, wait: bool) -> FilesAPI:
        """The file system, for one thread.

        :param wait: block until what a call needs has arrived, instead of raising ``NotResident``.
        """

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell ``observer`` what names lead elsewhere, until what this returns is called."""

    def following(self) -> FollowingAPI | None:
        """What a reader will read next, for one thread; ``None``: that cannot be known."""


class Session:
    """One mount's conversation with the kernel, from INIT to the end.

    :meth:`negotiate`, :meth:`run` and :meth:`close` belong to one thread.

    :param descriptor: the open device; the session owns it.
    :param counts: by opcode, the requests so far; grows in place.
    :param stats: the value of the virtual attribute of the root (see
        :data:`~kvfs_frontend_fuse.protocol.operations.STATS_XATTR`).
    :param pushes: may contents be pushed?  Only where this process is replaced when it is killed.
    :param mount: tells this mount from every other, where one of its processes takes over from
        another.
    :param locking: the locks of programs, if they are not the kernel's alone.
    :param on_foreign_interrupt: called by the loop with the ``unique`` of a request that was
        interrupted and does not wait here: it may wait at another reader of the same mount.
    """

    def __init__(
        self,
        descriptor: int,
        volume: VolumeAPI,
        settings: FuseSettings,
        *,
        counts: MutableSequence[int] | memoryview[int] | None = None,
        stats: Callable[[], bytes] | None = None,
        pushes: bool = False,
        mount: str = "",
        locking: Locking | None = None,
        on_foreign_interrupt: Callable[[int], None] | None = None,
    ) -> None:
        self._volume = volume
        self._settings = settings
        self._pushes = pushes and settings.push
        self._on_foreign_interrupt = on_foreign_interrupt
        self._pusher: Pusher | None = None
        self._counts = [0] * OPCODES if counts is None else counts
        self._complaints = Complaints()
        self._device = Device(descriptor, self._complaints, poll_us=settings.poll_us)
        self._request = bytearray(REQUEST_BYTES)
        self._ending = False
        self._over = False
        self._read_failures = 0
        self._read_only = volume.read_only
        self._mount = mount
        self._stats = stats
        self._operations: Operations | None = None
        self._locks = (
            None if locking is None else LockRequests(self._device, self._complaints, locking)
        )
        self._waiters = Waiters(
            self._device,
            self._complaints,
            threads=settings.waiters,
            operations=lambda: self._operations_for(waits=True),
        )

    def _operations_for(self, *, waits: bool) -> Operations:
        """The handlers, for one thread."""
        files, xattrs = self._volume.files(wait=waits), self._settings.xattrs
        opens = self._locks is not None
        stats = None if waits else self._stats
        if self._read_only:
            return Operations(files, xattrs=xattrs, opens=opens, stats=stats)
        assert isinstance(files, WritableFiles), "writing has begun"
        return ChangingOperations(files, xattrs=xattrs, waits=waits, opens=opens, stats=stats)

    @property
    def alarm(self) -> int:
        """A descriptor; a byte written to it makes the loop look whether it is to end."""
        return self._device.alarm

    def end(self) -> None:
        """Leave the loop, now.  From any other thread."""
        self._ending = True
        if self._pusher is None:
            self._leave()
        else:
            self._pusher.stop()

    def _leave(self) -> None:
        self._over = True
        self._device.wake()

    @property
    def pusher(self) -> Pusher | None:
        """Whoever pushes contents, while the loop runs."""
        return self._pusher

    def close(self) -> None:
        """Close the device and end the waiting threads.  Again is allowed, and does nothing."""
        self._device.close()
        self._waiters.close()
        if self._locks is not None:
            self._locks.close()
        if self._operations is not None:
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

            agreed = answer_init(
                self._request,
                size,
                self._settings,
                read_only=self._read_only,
                shared=self._volume.is_shared,
                locks=self._locks is not None,
                reply=reply,
            )
            if agreed is not None:
                log.debug("FUSE 7.%d, %r", agreed.minor, agreed.flags)
                return agreed
        return None

    def _receive(self) -> int | None:
        """Read one request; its size, or ``None`` at the end."""
        while not self._over:
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
        :raises AlreadyExists: somebody else writes to the volume.
        """
        if not self._read_only:
            self._volume.begin_writing(self._mount, before_first=self._settle)
        operations = self._operations = self._operations_for(waits=False)
        operations.table[Opcode.INTERRUPT] = self._interrupt
        if self._locks is not None:
            self._locks.begin(operations.table)
        if (cpus := cores(self._settings.cpus)) is not None:
            os.sched_setaffinity(0, cpus)
        pusher = self._start_pushing()
        try:
            self._loop(operations, None if pusher is None else pusher.saw)
        finally:
            if pusher is not None:
                pusher.stop()
                pusher.close()

    def _settle(self) -> None:
        """Have nothing under way to the kernel that was read before."""
        if self._pusher is not None:
            self._pusher.settle()

    def _start_pushing(self) -> Pusher | None:
        following = self._volume.following() if self._pushes else None
        if following is not None:
            self._pusher = Pusher(self._device, following, self._settings, on_end=self._leave)
            if self._ending:
                self._pusher.stop()
        return self._pusher

    def _loop(self, operations: Operations, saw_read: Callable[[int, int], None] | None) -> None:
        # This loop is the hot path of the project: everything it touches is a local name.
        descriptor = self._device.descriptor
        request = self._request
        into = [request]
        table = operations.table
        readv, writev, wait = os.readv, os.writev, self._device.wait
        unpack, pack = IN_HEADER.unpack_from, OUT_HEADER.pack
        head, counts, read = OUT_HEADER.size, self._counts, Opcode.READ.value
        # A view held by an idle mount keeps the engine from reusing pages that an ingest frees.
        idle = operations.files.close
        reply: Reply
        while not self._over:
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
            length, opcode, unique, inode, _, _, reader, _, _ = unpack(request)
            if opcode >= OPCODES or length != size or size < REQUEST_MIN[opcode]:
                self._refuse(opcode, unique, length, size)
                continue
            counts[opcode] += 1
            try:
                reply = table[opcode](inode, request, size)
            except (NotResident, Deferred, Stale) as error:
                if isinstance(error, Stale):
                    # Perhaps the view is, which is lost with its server.  Those who wait have none.
                    idle()
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
            if opcode == read and saw_read is not None:
                saw_read(inode, reader)

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
        if not self.interrupt(unique) and self._on_foreign_interrupt is not None:
            self._on_foreign_interrupt(unique)
        return None

    def interrupt(self, unique: int) -> bool:
        """Answer a request with EINTR if it waits here; did it?  From any thread."""
        if self._locks is not None and self._locks.interrupt(unique):
            return True
        if not self._waiters.interrupt(unique):
            return False
        self._device.reply(Opcode.INTERRUPT, unique, errno.EINTR)
        return True

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
