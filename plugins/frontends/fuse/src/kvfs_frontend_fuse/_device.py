"""The open device: waiting for requests, and replies from any thread, until it is closed."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable
from threading import Lock

from kvfs_frontend_fuse._complaints import Complaints
from kvfs_frontend_fuse._operations import Reply
from kvfs_frontend_fuse._wire import OUT_HEADER

_IDLE_AFTER_MS = 100
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

    :ivar alarm: a byte written here ends the wait, as :func:`signal.set_wakeup_fd` wants it.
    """

    def __init__(self, descriptor: int, complaints: Complaints) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._awake, self.alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        events = select.poll()
        events.register(descriptor, select.POLLIN)
        events.register(self._awake, select.POLLIN)
        self._poll = events.poll
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

        :param on_idle: called once when nothing has come for a while.
        """
        events = self._poll(_IDLE_AFTER_MS)
        if not events:
            if on_idle is not None:
                on_idle()
            events = self._poll()
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
                for descriptor in (self.descriptor, self._awake, self.alarm):
                    os.close(descriptor)
