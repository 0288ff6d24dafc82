"""Requests that have to wait for contents, in threads, and callers that do not want to any more.

libfuse keeps the kernel's INTERRUPT to itself: pyfuse3 never learns that the caller of a request
got a signal.  So this module looks into ``/proc``, a few times a second and only while something
waits, whether the caller of the request has a signal that it cannot take since it waits for us.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

import trio
from pyfuse3 import FUSEError

from kvfs_frontend_fuse.binding import FilesAPI

LOOK_S = 0.1
"""How often a caller that waits is looked at."""

Call = Callable[[FilesAPI], object]


class Waiters:
    """Waits for contents on behalf of requests; belongs to the thread of the event loop.

    :param files: makes the blocking form of the file system, for one thread.
    :param threads: so many wait at a time; more requests queue.  A thread whose request was given
        up goes on until its contents arrive or the volume is closed.
    """

    def __init__(self, files: Callable[[], FilesAPI], *, threads: int) -> None:
        self._files = files
        self._limiter = trio.CapacityLimiter(threads)
        self._waiting: set[trio.CancelScope] = set()
        self._ended = False

    async def until(self, call: Call, *, caller: int) -> None:
        """Return when ``call`` would have what it needs.

        :param call: made in a thread, on the blocking form; its result is dropped.
        :param caller: the thread that asks; 0 where it is not known.
        :raises FUSEError: EINTR, since the caller got a signal; ENOTCONN after :meth:`end`.
        :raises Exception: what ``call`` raises.
        """
        if self._ended:
            raise FUSEError(errno.ENOTCONN)
        outcome: list[Exception | None] = []
        async with trio.open_nursery() as nursery:
            scope = nursery.cancel_scope
            self._waiting.add(scope)
            try:
                nursery.start_soon(_cancel_if_interrupted, caller, scope)
                outcome.append(
                    await trio.to_thread.run_sync(
                        self._make, call, abandon_on_cancel=True, limiter=self._limiter
                    )
                )
                scope.cancel()
            finally:
                self._waiting.discard(scope)
        if not outcome:
            raise FUSEError(errno.ENOTCONN if self._ended else errno.EINTR)
        if outcome[0] is not None:
            raise outcome[0]

    def end(self) -> None:
        """Let nobody wait any more: those who do, and those who would, get ENOTCONN."""
        self._ended = True
        for scope in self._waiting:
            scope.cancel()

    def _make(self, call: Call) -> Exception | None:
        files = self._files()
        try:
            call(files)
        except Exception as error:
            return error
        finally:
            files.close()  # an idle thread pins no view of the stores
        return None


async def _cancel_if_interrupted(caller: int, scope: trio.CancelScope) -> None:
    while caller:
        await trio.sleep(LOOK_S)
        if is_interrupted(caller):
            scope.cancel()
            return


def is_interrupted(thread: int) -> bool:
    """Has a thread a signal that it does not block and has not taken?  No, where it is not seen.

    Source of the format: proc_pid_status(5).  One that waits for a reply cannot take any, so it
    shows here until it is answered; so does one that kills, as SIGKILL.
    """
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return False
    masks = {
        name: int(mask, 16)
        for name, _, mask in (line.partition(b":") for line in lines)
        if name in (b"SigPnd", b"ShdPnd", b"SigBlk")
    }
    pending = masks.get(b"SigPnd", 0) | masks.get(b"ShdPnd", 0)
    return bool(pending & ~masks.get(b"SigBlk", 0))
