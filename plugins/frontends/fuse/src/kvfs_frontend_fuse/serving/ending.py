"""How serving ends: by a signal, by an order, or because somebody unmounted."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Protocol

from kvfs.errors import Conflict, KVFSError
from kvfs.frontend import Frontend
from kvfs_frontend_fuse.mounting.mount import Mount, release
from kvfs_frontend_fuse.serving.complaints import log

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNMOUNT_S = 10.0
_SWITCH_INTERVAL_S = 0.0005


class Ending(Protocol):
    """Something that serves until it is told to stop."""

    def end(self) -> None:
        """Leave the loop, now.  From any other thread."""


class Service:
    """One mount being served, and the way to end it from elsewhere.

    The loop must go on while the mount is taken away, since that may ask the file system something:
    hence a thread.  It is there from the start, so that a signal handler has but to put something
    into a queue, which it may, whatever it interrupted.
    """

    def __init__(self, mount: Mount, session: Ending) -> None:
        self._mount = mount
        self._session = session
        self._orders: SimpleQueue[bool] = SimpleQueue()
        self._unmounter = threading.Thread(target=self._await, name="kvfs-unmount", daemon=True)
        self._unmounter.start()

    def stop(self) -> None:
        """Make the loop end.  From any thread, and from a signal handler."""
        self._orders.put(True)

    def close(self) -> None:
        """The loop has ended: nothing more will come."""
        self._orders.put(False)
        self._unmounter.join(_UNMOUNT_S)

    def _await(self) -> None:
        if self._orders.get():
            try:
                self._unmount()
            except KVFSError as error:
                log.error("%s could not be unmounted: %s", self._mount.mount_point, error)
            # Where it was in use, or somebody had detached it before, the loop still runs.
            self._session.end()

    def _unmount(self) -> None:
        try:
            self._mount.unmount()
        except Conflict:
            log.warning("%s is in use: detached while it was", self._mount.mount_point)
            self._mount.unmount(force=True)


class MountFrontend(Frontend):
    """What frontends that mount have in common: how what they serve is ended."""

    def __init__(self) -> None:
        self._service: Service | None = None
        self._stopped = False

    def stop(self) -> None:
        """End :meth:`serve`; from any thread or a signal handler, also before it began.

        The mount is gone when ``serve`` returns, at once: where it is in use, open files fail
        with ENOTCONN from then on.  To wait for users instead, unmount with :meth:`release`.
        """
        self._stopped = True
        if self._service is not None:
            self._service.stop()

    def release(self, target: str, *, force: bool = False) -> None:
        """Unmount ``target``, which another process serves or served, through whatever binding.

        :param force: detach it even while it is in use; its server ends when the last user does.
        :raises NotFound: no KVFS is mounted there.
        :raises Conflict: it is in use.
        :raises PermissionDenied: somebody else mounted it.
        """
        release(target, force=force)


@contextmanager
def signals(handler: Callable[[], None]) -> Iterator[None]:
    """Call ``handler`` on SIGINT, SIGTERM and SIGHUP, where this is the main thread.

    One that was ignored stays ignored, as nohup(1) wants of SIGHUP.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        handler()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {
        number: signal.signal(number, on_signal)
        for number in SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, was in previous.items():
            signal.signal(number, was)


@contextmanager
def prompt_interpreter() -> Iterator[None]:
    """Let no request wait long for the interpreter lock behind a thread that ingests.

    Python lets a thread compute for 5 ms before another gets its turn; beside a running ingest that
    is the 99th percentile of a read.  At 0.5 ms it is a third, and the ingest is no slower.
    """
    previous = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(previous)


@contextmanager
def woken_by_signals(alarm: int) -> Iterator[None]:
    """Let every signal write to ``alarm``, where this is the main thread.

    Without that, one that arrives just before the loop begins to wait would not be seen until the
    next request: Python runs handlers between bytecodes, and poll(2) waits on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
