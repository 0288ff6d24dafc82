"""What all servers have in common: their processes, begun and ended, and killed on purpose."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import attrs

from kvfs.closing import Closing

READY_S = 60
"""A server that does not answer by then will not."""
STOP_S = 15
"""A server that has not ended by then, after SIGTERM, is killed."""
_POLL_S = 0.02


class ServerFailed(Exception):
    """A server did not start; the message has the end of its log."""


def free_port() -> int:
    """A TCP port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Does somebody listen on this port of loopback?"""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@attrs.define
class Daemon:
    """One process of a server.  It dies with the process that started it, whatever becomes of that.

    :param command: in the foreground, not one that goes into the background by itself.
    :param log: a file that output and errors are appended to.
    """

    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    """Besides that of this process."""
    user: str | None = attrs.field(default=None, kw_only=True)
    """Whose process it is, for servers that refuse to be root's; only root can choose."""
    _process: subprocess.Popen[bytes] | None = attrs.field(default=None, init=False)

    @property
    def pid(self) -> int:
        """Its process number."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def is_running(self) -> bool:
        """Was it started, and has it not ended?"""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and return at once."""
        wrapper = ["setpriv", "--pdeathsig", "KILL"]
        if self.user is not None and os.geteuid() == 0:
            wrapper += ["--reuid", self.user, "--regid", self.user, "--clear-groups"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Wait until the server is ready for use.

        :raises ServerFailed: it ended, or is not ready within :data:`READY_S`.
        """
        deadline = time.monotonic() + READY_S
        while not ready():
            if not self.is_running() or time.monotonic() > deadline:
                how = "is not ready" if self.is_running() else "ended"
                end = self.log.read_text(errors="replace")[-4000:]
                raise ServerFailed(f"{self.command[0]} {how}; its log ends:\n{end}")
            time.sleep(_POLL_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and all that it started."""
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass

    def stop(self) -> None:
        """End it: politely, then not.  Idempotent."""
        if self._process is None:
            return
        self.signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """SIGKILL, to it and all that it started, and wait for its end."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()


class Server(Closing, ABC):
    """A server with its data in a directory of its own.

    ``with`` starts and stops it.  :meth:`kill` and :meth:`start` again are a crash and a restart on
    the same data and the same ports.

    :param home: an empty directory, for its data and logs.
    """

    name: ClassVar[str]
    programs: ClassVar[Sequence[str]]
    """Commands that have to be installed."""
    packages: ClassVar[str]
    """What brings them, as a person would install it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.daemons: list[Daemon] = []
        """Its processes, in the order in which they are started."""

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot be started on this machine; ``None`` if it can."""
        for program in cls.programs:
            if shutil.which(program) is None:
                return f"{program} is not installed (Debian: {cls.packages})"
        return None

    @abstractmethod
    def start(self) -> None:
        """Start it on what is in ``home``, and return when it can be used.

        :raises ServerFailed: it does not start.
        """

    def stop(self) -> None:
        """End its processes, the last first.  Idempotent."""
        for daemon in reversed(self.daemons):
            daemon.stop()

    def kill(self) -> None:
        """End all its processes at once, as by a crash of the machine's user land."""
        for daemon in self.daemons:
            daemon.signal(signal.SIGKILL)
        for daemon in self.daemons:
            daemon.kill()

    def close(self) -> None:
        self.stop()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self


__all__ = ["Daemon", "Server", "ServerFailed", "accepts", "free_port"]
