"""One worker process as its supervisor sees it: started, spoken to, watched, and gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from kvfs.errors import Unavailable
from kvfs_frontend_fuse.workers.channel import Channel, Message, pair

BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What a terminal or a service manager sends to all of a group."""
_PIDFD_THREAD = os.O_EXCL  # Linux 6.9
_PROGRAM = "kvfs_frontend_fuse.workers.worker"


class Recruit:
    """A worker process, from its start to its end.

    It begins to load its program at once and does nothing until it is told its duty.

    :raises Unavailable: no process can be started.
    """

    def __init__(self) -> None:
        mine, its = pair()
        self.channel = Channel(mine)
        try:
            self._process = _start(its.fileno())
        except OSError as error:
            self.channel.close()
            raise Unavailable(f"no worker process can be started: {error}") from error
        finally:
            its.close()
        self.pid = self._process.pid
        self.pidfd = _watch(self.pid)
        self.serving_since = 0.0
        """When it said that it reads requests (monotonic); 0: it did not yet."""
        self.is_over = False
        """It answers no more requests."""
        self.has_hung_up = False
        """Nothing more will be heard from it."""
        self.reason = ""
        """Why it ends, as far as it said so."""

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> bool:
        """See :meth:`~kvfs_frontend_fuse.workers.channel.Channel.send`."""
        return self.channel.send(message, descriptors)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end; the exit code (negative: the signal), or ``None``: it still is there.

        A process all of whose threads but one have ended still is.
        """
        try:
            return self._process.wait(max(seconds, 0))
        except subprocess.TimeoutExpired:
            return None

    def let_go(self) -> None:
        """Close what is held of it.  The process itself is :meth:`wait`'s."""
        self.channel.close()
        os.close(self.pidfd)


def _start(stdin: int) -> subprocess.Popen[bytes]:
    # Blocked in the new process from its first instruction on, and here for a moment.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED)
    try:
        # -P: nothing is imported from the directory that happens to be the current one.
        return subprocess.Popen([sys.executable, "-P", "-m", _PROGRAM], stdin=stdin)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _watch(pid: int) -> int:
    """A descriptor that becomes readable when the main thread of a process has ended.

    A process that was killed is not dead while a thread of it waits in the kernel, and one that
    pushes contents may wait for the very request that the process had read and not answered.  On
    a kernel that cannot tell: when all threads have ended.
    """
    try:
        return os.pidfd_open(pid, _PIDFD_THREAD)
    except OSError:
        return os.pidfd_open(pid)


def say_end(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "it was killed"
    if code >= 0:
        return f"it exited with {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"
