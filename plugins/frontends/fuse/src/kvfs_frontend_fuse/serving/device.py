"""The open device: waiting for requests, and replies from any thread, until it is closed."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from threading import Lock
from time import perf_counter

from kvfs_frontend_fuse.protocol.operations import Reply
from kvfs_frontend_fuse.protocol.wire import OUT_HEADER
from kvfs_frontend_fuse.serving.complaints import Complaints

_IDLE_AFTER_S = 0.1
_POLL_START_S = 10e-6
_WAKE_S = 50e-6
"""What being woken on another core adds to the time that a request was away."""
_GONE = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED})
"""Replying failed since nobody waits for it: the caller was killed, or the mount has ended."""


class Device:
    """The open /dev/fuse of one mount, which it owns.

    The main loop reads and replies on :attr:`descriptor` by itself; only it closes the device.
    Everybody else replies through :meth:`reply`, which cannot hit a descriptor that was closed and
    given to somebody else.

    The descriptor does not block: a blocked read ends with a request or the mount, and nothing else
    would end it where a mount that is in use was detached.  Reading first and polling only where
    there is nothing costs too little to be measured (a 20,000-file pass, blocking against this).

    :ivar crowded: another thread is at work: no polling, which would take turns with it.
    :ivar alarm: a byte written here ends the wait, as :func:`signal.set_wakeup_fd` wants it.
    """

    def __init__(self, descriptor: int, complaints: Complaints, *, poll_us: int = 0) -> None:
        """:param poll_us: how long at most to poll before blocking, where that pays."""
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._awake, self.alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._events = select.epoll()
        # Exclusive: a request wakes one of the workers that wait, not all of them.
        self._events.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        self._events.register(self._awake, select.EPOLLIN)
        # On one core, polling would keep away the very process that is to ask.
        self._poll_max_s = poll_us * 1e-6 if len(os.sched_getaffinity(0)) > 1 else 0.0
        self._poll_s = 0.0
        self.crowded = False
        self._complaints = complaints
        self._lock = Lock()
        self._closed = False

    def reply(self, opcode: int, unique: int, reply: Reply) -> None:
        """Send what a handler returned."""
        if reply is None:
            return
        if isinstance(reply, int):
            buffers = [OUT_HEADER.pack(OUT_HEADER.size, -reply, unique)]
        else:
            total = OUT_HEADER.size + sum(len(piece) for piece in reply)
            buffers = [OUT_HEADER.pack(total, 0, unique), *reply]  # type: ignore[list-item]
        with self._lock:
            if self._closed:
                return
            try:
                os.writev(self.descriptor, buffers)
            except OSError as error:
                self.refused(opcode, unique, error)

    def refused(self, opcode: int, unique: int, error: OSError) -> None:
        """Take note that a reply was not taken; the request is answered in any case."""
        if error.errno in _GONE:
            return
        self._complaints.refused(opcode, error)
        # The kernel ends a request whose reply it finds wrong, but one it could not even parse
        # would leave the caller waiting: an error reply settles it, or finds nobody.
        try:
            os.writev(self.descriptor, [OUT_HEADER.pack(OUT_HEADER.size, -errno.EIO, unique)])
        except OSError:
            pass

    def wait(self, on_idle: Callable[[], None] | None = None) -> None:
        """Block until there is a request to read, the mount has ended, or somebody wakes it.

        Polls for a moment before it blocks, if that would have caught the last requests: to be
        woken on another core costs as much as ten requests.  The moment grows and shrinks as in
        the kernel's own halt polling, so a mount that is seldom asked does not poll at all.

        :param on_idle: called once when nothing has come for a while.
        """
        poll = self._events.poll
        start = perf_counter()
        end = start if self.crowded else start + self._poll_s
        while perf_counter() < end:
            if events := poll(0):
                self._take(events)
                return
        events = poll(_IDLE_AFTER_S)
        if self._poll_max_s:
            self._adapt(perf_counter() - start)
        if not events:
            if on_idle is not None:
                on_idle()
            events = poll()
        self._take(events)

    def _adapt(self, waited_s: float) -> None:
        """Blocking took so long, polling included: would a longer poll have been better?"""
        if waited_s < self._poll_max_s + _WAKE_S:
            self._poll_s = min(max(2 * self._poll_s, _POLL_START_S), self._poll_max_s)
        else:
            self._poll_s = self._poll_s / 2 if self._poll_s > _POLL_START_S else 0.0

    def _take(self, events: list[tuple[int, int]]) -> None:
        for descriptor, _ in events:
            if descriptor == self._awake:
                os.read(self._awake, 4096)

    def wake(self) -> None:
        """End the current :meth:`wait`, or the next one.  From any thread."""
        with self._lock:
            if not self._closed:
                try:
                    os.write(self.alarm, b"\0")
                except BlockingIOError:
                    pass  # full of earlier ones

    def close(self) -> None:
        """Close the device; what is still unanswered fails with ENOTCONN."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._events.close()
                for descriptor in (self.descriptor, self._awake, self.alarm):
                    os.close(descriptor)
