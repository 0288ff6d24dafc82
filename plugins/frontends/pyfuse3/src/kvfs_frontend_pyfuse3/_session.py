"""One mount's conversation with the kernel: libfuse speaks the protocol, trio runs the handlers.

pyfuse3 keeps its session in variables of its module, so a process has one at a time.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import pyfuse3
import trio

from kvfs.errors import Conflict, Unavailable
from kvfs_frontend_fuse.binding import VolumeAPI
from kvfs_frontend_pyfuse3._invalidation import Invalidations
from kvfs_frontend_pyfuse3._operations import Operations
from kvfs_frontend_pyfuse3._settings import Pyfuse3Settings
from kvfs_frontend_pyfuse3._waiting import Waiters

TASKS_MAX = 10_000
"""So many requests are answered or wait at once; a task takes some kilobytes."""
JOIN_S = 2.0

_open: list[Session] = []


class Session:
    """One mount, from INIT to the end.

    :meth:`run` and :meth:`close` belong to one thread, :meth:`end` to any.

    :param descriptor: the open device of a mount that was made; the session owns it.
    :raises Conflict: this process has another session open.
    :raises Unavailable: libfuse does not take the device.
    """

    def __init__(self, descriptor: int, volume: VolumeAPI, settings: Pyfuse3Settings) -> None:
        if _open:
            raise Conflict("pyfuse3 serves one mount at a time in a process", retryable=True)
        self._descriptor = descriptor
        self._told = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._ending = False
        self._files = volume.files(wait=False)
        self._waiters = Waiters(lambda: volume.files(wait=True), threads=settings.waiters)
        self._operations = Operations(self._files, self._waiters, xattrs=settings.xattrs)
        try:
            # libfuse takes a device that is mounted already by the name of its descriptor.
            pyfuse3.init(self._operations, f"/dev/fd/{descriptor}", set())
        except RuntimeError as error:
            raise Unavailable(f"libfuse refuses the device: {error}") from error
        _open.append(self)
        self._invalidations = Invalidations()
        self._unsubscribe = volume.subscribe(self._invalidations)

    def run(self, ready: Callable[[], None]) -> None:
        """Answer requests until the mount ends or :meth:`end` was called.

        :param ready: called when the kernel has had its answer to INIT.
        :raises Unavailable: the device fails for a reason unknown.
        :raises Exception: what ``ready`` raises.
        """
        try:
            trio.run(self._run, ready)
        except BaseExceptionGroup as group:
            error = _first(group)
            if isinstance(error, OSError):
                raise Unavailable(f"/dev/fuse cannot be read: {error}") from group
            raise error from group

    def end(self) -> None:
        """Leave the loop, now; who waits for contents gets ENOTCONN.  From any other thread."""
        self._ending = True
        if self._token is not None:
            try:
                self._token.run_sync_soon(self._told.set)
            except trio.RunFinishedError:
                pass

    def close(self) -> None:
        """Close the device."""
        self._unsubscribe()
        self._files.close()
        # While that thread is in libfuse, nothing of the session may go.
        if self._invalidations.close(JOIN_S):
            pyfuse3.close(unmount=False)
            _open.remove(self)

    async def _run(self, ready: Callable[[], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        if self._ending:
            self._told.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce, ready)
            nursery.start_soon(self._end_when_told)
            nursery.start_soon(self._give_up_with_the_connection)
            nursery.start_soon(self._operations.let_go_when_idle)
            await pyfuse3.main(min_tasks=1, max_tasks=TASKS_MAX)
            nursery.cancel_scope.cancel()

    async def _announce(self, ready: Callable[[], None]) -> None:
        await self._operations.began.wait()
        ready()

    async def _end_when_told(self) -> None:
        """In this order: requests are answered until nobody can wait for one of them."""
        await self._told.wait()
        self._waiters.end()
        await trio.to_thread.run_sync(self._invalidations.close, abandon_on_cancel=True)
        pyfuse3.terminate()

    async def _give_up_with_the_connection(self) -> None:
        """Let nobody wait for contents when the kernel has dropped the connection.

        The loop ends by itself then, but not before the last request was answered.
        """
        with select.epoll() as events:
            events.register(self._descriptor, 0)  # errors are told in any case
            await trio.lowlevel.wait_readable(events.fileno())
        self._waiters.end()


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
