"""Requests for locks that hold among all mounts of a volume, in threads of their own.

A lock is a record in an engine that a server keeps, so each of these requests takes a while; and
one may wait for a lock for as long as somebody else likes to hold it.  So the main loop hands them
to *lanes*: threads that each have the files of certain numbers.  All that concerns one file is done
in the order in which the kernel asked: a lock that ends with close(2) is free for whoever asks
next.  Who has to wait keeps no thread: the lane looks again, seldom and seldomer, and at once when
something of the file is given up here.

The kernel says when locks end: FLUSH, when a process closes a descriptor (its fcntl locks end), and
RELEASE, when the last descriptor of an open file is closed (those of flock, and those of the open
file).  What could not be given up because the engine did not answer is given up as soon as it does.

An interrupted request holds no lock afterwards: interrupts come through the lane, too, so it is
known whether the lock was taken.
"""

from __future__ import annotations

import errno
import fcntl
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock as Mutex
from threading import Thread

import attrs

from kvfs.errors import KVFSError
from kvfs.files import LAST_BYTE, Lock, Refused, Space
from kvfs.volume import Locking
from kvfs_frontend_fuse.protocol.operations import BODY, Handler, Reply
from kvfs_frontend_fuse.protocol.wire import (
    FLUSH_IN,
    IN_HEADER,
    LK_IN,
    LK_OUT,
    RELEASE_IN,
    LockFlag,
    Opcode,
)
from kvfs_frontend_fuse.serving.complaints import Complaints, log
from kvfs_frontend_fuse.serving.device import Device

LANES = 8
JOIN_S = 2.0
"""How long :meth:`LockRequests.close` waits for threads that are in the middle of a call."""
_PAUSE_MIN_S = 0.005
_PAUSE_MAX_S = 0.5
_PAUSE_GROWTH = 1.5
_DONE: Reply = ()


@attrs.frozen
class _Request:
    opcode: int
    unique: int
    inode: int
    raw: bytes


@attrs.frozen
class _Interrupt:
    unique: int


@attrs.define
class _Waiter:
    """One who waits for a lock."""

    request: _Request
    lock: Lock
    is_unsure: bool = False
    """May it have the lock, since the engine took it and did not say so?"""


@attrs.define
class _File:
    """What is left to do of a file."""

    waiters: list[_Waiter] = attrs.field(factory=list)
    """Who came first is first."""
    owed: list[Callable[[], None]] = attrs.field(factory=list)
    """To be given up as soon as the engine answers."""
    pause_s: float = _PAUSE_MIN_S
    due_s: float = 0.0
    """When to look again (monotonic)."""

    def postpone(self) -> None:
        """Look again later, and not when everybody else does."""
        self.due_s = time.monotonic() + self.pause_s * random.uniform(0.5, 1)
        self.pause_s = min(self.pause_s * _PAUSE_GROWTH, _PAUSE_MAX_S)

    def hasten(self) -> None:
        """Look again at once."""
        self.pause_s, self.due_s = _PAUSE_MIN_S, 0.0


class _Lane:
    """One thread, and the files that it has to do with."""

    def __init__(
        self,
        locking: Locking,
        complaints: Complaints,
        answer: Callable[[_Request, Reply], None],
        name: str,
    ) -> None:
        self._locking = locking
        self._complaints = complaints
        self._answer = answer
        self._files: dict[int, _File] = {}
        self._queue: SimpleQueue[_Request | _Interrupt | None] = SimpleQueue()
        self.submit = self._queue.put
        self.thread = Thread(target=self._work, name=name, daemon=True)

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=self._pause_s())
                if job is None:
                    return
                if isinstance(job, _Request):
                    self._serve(job)
                else:
                    self._interrupt(job.unique)
            except Empty:
                pass
            now_s = time.monotonic()
            for inode in [inode for inode, file in self._files.items() if file.due_s <= now_s]:
                self._look(inode)

    def _pause_s(self) -> float | None:
        """How long there is nothing to look at; ``None``: until a request comes."""
        if not self._files:
            return None
        return max(min(file.due_s for file in self._files.values()) - time.monotonic(), 0)

    # -- one request -------------------------------------------------------------------------------

    def _serve(self, request: _Request) -> None:
        reply: Reply
        try:
            self._pay(request.inode)
            reply = self._do(request)
        except Exception as error:
            reply = self._failed(request, error)
        if reply is not None:
            self._answer(request, reply)

    def _do(self, request: _Request) -> Reply:
        """Carry a request out; ``None``: it waits."""
        if (release := self._release_of(request)) is not None:
            release()
            self._hasten(request.inode)
            return _DONE
        lock = self._lock_of(request)
        if request.opcode == Opcode.GETLK:
            return (self._conflict(request.inode, lock),)
        if self._locking.acquire(request.inode, lock) is not None:
            self._hasten(request.inode)  # perhaps it was exclusive before
            return _DONE
        if request.opcode == Opcode.SETLK:
            return errno.EAGAIN
        self._wait(_Waiter(request, lock))
        return None

    def _failed(self, request: _Request, error: Exception) -> Reply:
        """Answer a request that raised, or have it wait; what is to be given up, will be."""
        number = self._complaints.failed(request.opcode, request.inode, error)
        if not isinstance(error, KVFSError) or not error.retryable:
            return number
        if (release := self._release_of(request)) is not None:
            file = self._files.setdefault(request.inode, _File())
            file.owed.append(release)
            file.postpone()
        elif request.opcode == Opcode.SETLKW:
            self._wait(_Waiter(request, self._lock_of(request), is_unsure=True))
            return None
        return number

    def _wait(self, waiter: _Waiter) -> None:
        file = self._files.setdefault(waiter.request.inode, _File())
        file.waiters.append(waiter)
        if len(file.waiters) == 1:
            file.postpone()

    def _hasten(self, inode: int) -> None:
        if (file := self._files.get(inode)) is not None:
            file.hasten()

    def _conflict(self, inode: int, wanted: Lock) -> bytes:
        """``struct fuse_lk_out``: what is in the way, or that nothing is."""
        found = self._locking.test(inode, wanted)
        if found is None:
            return LK_OUT.pack(wanted.start, wanted.last, fcntl.F_UNLCK, 0)
        kind = fcntl.F_WRLCK if found.exclusive else fcntl.F_RDLCK
        # The number of a process means something else on another machine, or nothing.
        pid = found.pid if self._locking.is_here(found) else 0
        return LK_OUT.pack(found.start, found.last, kind, pid)

    # -- what a request asks for -------------------------------------------------------------------

    def _release_of(self, request: _Request) -> Callable[[], None] | None:
        """What gives up the locks that a request ends; ``None``: it is of another kind."""
        inode, raw = request.inode, request.raw
        if request.opcode == Opcode.FLUSH:
            _, _, _, owner = FLUSH_IN.unpack_from(raw, BODY)
            return partial(self._locking.release, inode, Space.POSIX, owner)
        if request.opcode == Opcode.RELEASE:
            handle, _, _, _ = RELEASE_IN.unpack_from(raw, BODY)
            return partial(self._locking.release_handle, inode, handle)
        _, owner, start, last, kind, _, flags, _ = LK_IN.unpack_from(raw, BODY)
        if request.opcode == Opcode.GETLK or kind != fcntl.F_UNLCK:
            return None
        space = Space.FLOCK if flags & LockFlag.FLOCK else Space.POSIX
        return partial(self._locking.release, inode, space, owner, start, min(last, LAST_BYTE))

    def _lock_of(self, request: _Request) -> Lock:
        handle, owner, start, last, kind, pid, flags, _ = LK_IN.unpack_from(request.raw, BODY)
        if start > min(last, LAST_BYTE):
            raise Refused(errno.EINVAL, "a lock of no byte")
        return Lock(
            space=Space.FLOCK if flags & LockFlag.FLOCK else Space.POSIX,
            owner=self._locking.owner(owner),
            start=start,
            last=min(last, LAST_BYTE),
            exclusive=kind == fcntl.F_WRLCK,
            pid=pid,
            handle=handle,
        )

    # -- those who wait ----------------------------------------------------------------------------

    def _pay(self, inode: int) -> None:
        """Give up what was to be given up earlier."""
        file = self._files.get(inode)
        while file is not None and file.owed:
            file.owed[0]()
            del file.owed[0]
            file.hasten()

    def _look(self, inode: int) -> None:
        """Give what can be given up or taken now."""
        file = self._files[inode]
        try:
            self._pay(inode)
            while file.waiters:
                granted = self._locking.acquire(inode, *(waiter.lock for waiter in file.waiters))
                if granted is None:
                    break
                self._answer(file.waiters.pop(granted).request, _DONE)
        except Exception as error:
            number = self._complaints.failed(Opcode.SETLKW, inode, error)
            if isinstance(error, KVFSError) and error.retryable:
                for waiter in file.waiters:
                    waiter.is_unsure = True
            else:
                file.owed.clear()
                while file.waiters:
                    self._answer(file.waiters.pop().request, number)
        self._put_off(inode, file)

    def _put_off(self, inode: int, file: _File) -> None:
        if file.waiters or file.owed:
            file.postpone()
        else:
            del self._files[inode]

    def _interrupt(self, unique: int) -> None:
        for inode, file in self._files.items():
            for waiter in file.waiters:
                if waiter.request.unique == unique:
                    file.waiters.remove(waiter)
                    self._answer(waiter.request, self._given_up(inode, waiter))
                    return

    def _given_up(self, inode: int, waiter: _Waiter) -> Reply:
        """What one who waited is told: that it was interrupted, unless it has the lock."""
        if waiter.is_unsure:
            try:
                if self._locking.acquire(inode, waiter.lock) is not None:
                    return _DONE
            except KVFSError:
                pass  # If it has it, that ends with the descriptor.
        return errno.EINTR


class LockRequests:
    """The lock requests of one mount.

    :meth:`begin` and the handlers belong to the session's loop; the rest to any thread.
    """

    def __init__(self, device: Device, complaints: Complaints, locking: Locking) -> None:
        self._device = device
        self._locking = locking
        self._mutex = Mutex()
        self._unanswered: dict[int, _Lane] = {}
        self._lanes = [
            _Lane(locking, complaints, self._answer, f"kvfs-locks-{number}")
            for number in range(LANES)
        ]

    def begin(self, table: list[Handler]) -> None:
        """Take the requests that concern locks over.

        :raises KVFSError: the locks that the mount has cannot be read.
        """
        self._locking.resume()
        handlers: Mapping[Opcode, Handler] = {
            Opcode.GETLK: self._later,
            Opcode.SETLK: self._later,
            Opcode.SETLKW: self._later,
            Opcode.FLUSH: self._closed,
            Opcode.RELEASE: self._closed,
        }
        for opcode, handler in handlers.items():
            table[opcode] = handler

    def _later(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        _, opcode, unique, *_ = IN_HEADER.unpack_from(request)
        lane = self._lanes[inode % LANES]
        with self._mutex:
            self._unanswered[unique] = lane
        lane.submit(_Request(opcode, unique, inode, bytes(memoryview(request)[:size])))
        if lane.thread.ident is None:
            lane.thread.start()
        return None

    def _closed(self, inode: int, request: bytes | bytearray, size: int) -> Reply:
        if not self._locking.may_hold(inode):
            return _DONE
        return self._later(inode, request, size)

    def _answer(self, request: _Request, reply: Reply) -> None:
        with self._mutex:
            self._unanswered.pop(request.unique, None)
        self._device.reply(request.opcode, request.unique, reply)

    def interrupt(self, unique: int) -> bool:
        """The caller of a request got a signal; ``False``: it is not here, or was answered."""
        with self._mutex:
            lane = self._unanswered.get(unique)
        if lane is None:
            return False
        lane.submit(_Interrupt(unique))
        return True

    def close(self) -> None:
        """End the threads; who waits is not answered any more."""
        started = [lane for lane in self._lanes if lane.thread.ident is not None]
        for lane in started:
            lane.submit(None)
        deadline_s = time.monotonic() + JOIN_S
        for lane in started:
            lane.thread.join(max(deadline_s - time.monotonic(), 0))
        if any(lane.thread.is_alive() for lane in started):
            log.info("some requests for locks still wait for the engine; they end with the volume")


__all__ = ["LockRequests"]
