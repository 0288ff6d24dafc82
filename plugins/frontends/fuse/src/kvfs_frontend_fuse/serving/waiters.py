"""Requests that have to wait for contents, in threads of their own.

The main loop never waits: a request whose contents are not there yet is copied, queued here, and
answered by a thread that calls the blocking form of the same file system.  The order of answers is
free; the kernel matches them by ``unique``.

The threads are daemons, not those of ``concurrent.futures``: the interpreter would wait at its exit
for a download that nobody wants any more.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import NamedTuple

import attrs

from kvfs.files import WritableFiles
from kvfs_frontend_fuse.protocol.operations import Operations, Reply
from kvfs_frontend_fuse.serving.complaints import Complaints, log
from kvfs_frontend_fuse.serving.device import Device

JOIN_S = 2.0
"""How long :meth:`Waiters.close` waits for threads that are in the middle of a call."""


class _Interrupted(Exception):
    """Somebody else has answered the request: it is not to have an effect any more."""


class _Job(NamedTuple):
    opcode: int
    unique: int
    inode: int
    request: bytes


@attrs.define
class _Claim:
    """The right to answer a request, for the thread that works on it."""

    _take: Callable[[int], bool]
    _unique: int
    _taken: bool = False

    def is_ours(self) -> bool:
        """Take it if nobody has; from then on an interrupt comes too late."""
        self._taken = self._taken or self._take(self._unique)
        return self._taken

    def insist(self) -> None:
        """The request is about to have an effect.

        :raises _Interrupted: it must not: its caller was told that it was interrupted.
        """
        if not self.is_ours():
            raise _Interrupted


class Waiters:
    """A pool that starts with no thread and grows to ``threads`` as requests wait at once."""

    def __init__(
        self,
        device: Device,
        complaints: Complaints,
        *,
        threads: int,
        operations: Callable[[], Operations],
    ) -> None:
        """:param operations: makes the blocking form of the file system for one thread."""
        self._device = device
        self._complaints = complaints
        self._threads_max = threads
        self._operations = operations
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._lock = Lock()
        self._unanswered: set[int] = set()
        self._threads: list[Thread] = []
        self._busy = 0  # jobs queued or at work

    def submit(self, opcode: int, unique: int, inode: int, request: bytes) -> None:
        """Answer ``request`` as soon as what it needs is there."""
        with self._lock:
            self._unanswered.add(unique)
            self._busy += 1
            grow = len(self._threads) < min(self._busy, self._threads_max)
        self._queue.put(_Job(opcode, unique, inode, request))
        if grow:
            name = f"kvfs-waiter-{len(self._threads)}"
            thread = Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def interrupt(self, unique: int) -> bool:
        """Give up a request whose caller got a signal.

        :returns: ``True``: it was waiting and is now the caller's to answer (with EINTR);
            ``False``: it is not here, or was answered.
        """
        return self._claim(unique)

    def close(self) -> None:
        """Answer nothing any more and end the threads.

        One that is inside the file system is left behind after :data:`JOIN_S`: it ends when the
        volume is closed, and its answer goes nowhere.
        """
        with self._lock:
            self._unanswered.clear()
        for _ in self._threads:
            self._queue.put(None)
        deadline = monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(deadline - monotonic(), 0))
        if left := sum(thread.is_alive() for thread in self._threads):
            log.info("%d requests still wait for contents; they end with the volume", left)

    def _claim(self, unique: int) -> bool:
        """Whoever claims a request, once, answers it."""
        with self._lock:
            if unique not in self._unanswered:
                return False
            self._unanswered.remove(unique)
            return True

    def _work(self) -> None:
        operations: Operations | None = None
        while (job := self._queue.get()) is not None:
            # Not claimed yet: an interrupt may come as long as the call has had no effect.
            if job.unique in self._unanswered:
                claim = _Claim(self._claim, job.unique)
                reply: Reply
                try:
                    operations = operations or self._operations()
                    if isinstance(operations.files, WritableFiles):
                        operations.files.before_effect = claim.insist
                    reply = operations.table[job.opcode](job.inode, job.request, len(job.request))
                except _Interrupted:
                    reply = None
                except Exception as error:
                    reply = self._complaints.failed(job.opcode, job.inode, error)
                if claim.is_ours():
                    self._device.reply(job.opcode, job.unique, reply)
                del reply
                if operations is not None:
                    operations.files.close()  # an idle thread pins no view of the stores
            with self._lock:
                self._busy -= 1
