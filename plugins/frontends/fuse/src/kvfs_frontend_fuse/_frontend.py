"""The frontend: a mount, a session over it, and how both end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from kvfs.capability import FrontendCapability
from kvfs.errors import Conflict, KVFSError
from kvfs.frontend import Frontend
from kvfs_frontend_fuse._complaints import log
from kvfs_frontend_fuse._mount import Mount, mount_at, release
from kvfs_frontend_fuse._session import Session, VolumeAPI
from kvfs_frontend_fuse._settings import FuseSettings

CAPABILITY = FrontendCapability(needs_target=True, writable=False, platforms=("linux",))
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNMOUNT_S = 10.0
_SWITCH_INTERVAL_S = 0.0005


class _Service:
    """One mount being served, and the way to end it from elsewhere.

    The loop must go on while the mount is taken away, since that may ask the file system something:
    hence a thread.  It is there from the start, so that a signal handler has but to put something
    into a queue, which it may, whatever it interrupted.
    """

    def __init__(self, mount: Mount, session: Session) -> None:
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


@contextmanager
def _signals(handler: Callable[[], None]) -> Iterator[None]:
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
def _prompt_interpreter() -> Iterator[None]:
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
def _woken_by_signals(alarm: int) -> Iterator[None]:
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


class FuseFrontend(Frontend):
    """Serves a volume as a mounted file system: one mount at a time, and none after a stop."""

    capability = CAPABILITY

    def __init__(self, settings: FuseSettings) -> None:
        self._settings = settings
        self._service: _Service | None = None
        self._stopped = False

    def serve(self, volume: VolumeAPI, target: str, *, ready: Callable[[], None]) -> None:
        """Mount ``volume`` at the directory ``target`` and serve it; blocks.

        Returns after somebody unmounted it, after :meth:`stop`, and, in the main thread, after
        SIGINT, SIGTERM or SIGHUP; nothing is mounted then.  What a killed server left at
        ``target`` is detached first.

        :param ready: called once, when the mount answers.
        :raises NotFound: ``target`` does not exist.
        :raises Invalid: it is not a directory, or not empty.
        :raises AlreadyExists: a KVFS that is alive is mounted there.
        :raises PermissionDenied: this user may not mount there.
        :raises Unsupported: the kernel has no FUSE or one that is too old, or fusermount3 misses.
        """
        with _signals(self.stop), _prompt_interpreter():
            mount = mount_at(
                target, self._settings, volume_name=volume.name, read_only=volume.read_only
            )
            try:
                session = Session(mount.descriptor, volume, self._settings)
            except BaseException:
                os.close(mount.descriptor)
                mount.unmount(force=True)
                raise
            service = self._service = _Service(mount, session)
            try:
                with _woken_by_signals(session.alarm):
                    if self._stopped:
                        service.stop()
                    if session.negotiate() is not None:
                        ready()
                        session.run()
            finally:
                session.close()
                service.close()
                mount.unmount(force=True)  # where the loop ended for another reason
                self._service = None

    def stop(self) -> None:
        """End :meth:`serve`; from any thread or a signal handler, also before it began.

        The mount is gone when ``serve`` returns, at once: where it is in use, open files fail
        with ENOTCONN from then on.  To wait for users instead, unmount with :meth:`release`.
        """
        self._stopped = True
        if self._service is not None:
            self._service.stop()

    def release(self, target: str, *, force: bool = False) -> None:
        """Unmount ``target``, which another process serves or served.

        :param force: detach it even while it is in use; its server ends when the last user does.
        :raises NotFound: no KVFS is mounted there.
        :raises Conflict: it is in use.
        :raises PermissionDenied: somebody else mounted it.
        """
        release(target, force=force)


def open_frontend(settings: FuseSettings) -> FuseFrontend:
    """The factory that :data:`kvfs_frontend_fuse.DRIVER` names."""
    return FuseFrontend(settings)
