"""What the supervisor and a worker say to each other: pickled messages over a pair of sockets.

One packet per message, and descriptors along with it.  Both ends belong to one user and one
program; nobody else can reach the sockets, which have no name.  The end of the supervisor's side
is what tells a worker to end, whether its process died or it said :class:`End` before.

Concurrency: any thread may send; one thread at each end receives.
"""

from __future__ import annotations

import logging
import pickle
import select
import socket
from array import array
from typing import Any

import attrs

from kvfs.metrics import Metrics
from kvfs_frontend_fuse._settings import FuseSettings

PACKET_BYTES_MAX = 128 << 10
"""A larger message is not sent; below what the kernel takes in one packet by default."""
_TEXT_MAX = 16 << 10
_RIGHTS_BYTES = socket.CMSG_SPACE(2 * array("i").itemsize)


class TooLarge(Exception):
    """A message that does not fit into a packet."""


@attrs.frozen(kw_only=True)
class Duty:
    """To a worker, once: what it is to serve.  With it: the device, and the table of counters."""

    path: list[str]
    """Where modules are found."""
    config: bytes
    """A pickled :class:`~kvfs.volume.settings.VolumeConfig`; needs the path."""
    settings: FuseSettings
    row: int
    """Its row of the counters."""
    rows: int
    pushes: bool
    """May it push contents?"""
    mount: str
    """Tells this mount from every other."""
    levels: dict[str, int]
    """Levels of loggers, by name; the root's is ``""``."""


@attrs.frozen
class Interrupt:
    """The caller of a request got a signal.

    From a worker: it is not one of mine.  To a worker: is it one of yours?
    """

    unique: int


@attrs.frozen
class Ask:
    """To a worker: what are you doing?"""

    token: int


@attrs.frozen
class End:
    """To a worker, last: the supervisor waits until it has closed the volume."""


@attrs.frozen(kw_only=True)
class Answer:
    """From a worker."""

    token: int
    metrics: Metrics
    activity: dict[str, Any]
    """``resident_bytes_max`` and ``ingesting``, as JSON."""


@attrs.frozen
class Serving:
    """From a worker: it is about to read its first request."""


@attrs.frozen
class Over:
    """From a worker: the mount has ended, or it was told to end; it answers no more."""


@attrs.frozen
class Failed:
    """From a worker: it cannot serve, and ends."""

    reason: str


@attrs.frozen
class Logged:
    """From a worker: a log record, as a dictionary of plain values."""

    record: dict[str, Any]


Message = Duty | Interrupt | Ask | End | Answer | Serving | Over | Failed | Logged


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; neither is inherited by programs that are started."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Channel:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def fileno(self) -> int:
        """For poll(2)."""
        return self._socket.fileno()

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> bool:
        """Send, without waiting.

        :returns: ``False``: the other end is gone, or does not listen.
        :raises TooLarge: more than :data:`PACKET_BYTES_MAX`.
        """
        packet = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        if len(packet) > PACKET_BYTES_MAX:
            raise TooLarge(f"a {type(message).__name__} of {len(packet)} bytes")
        # Not socket.send_fds and recv_fds: up to Python 3.11 they drop the flags.
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
        try:
            self._socket.sendmsg([packet], rights if descriptors else [], socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def receive(self, *, timeout_s: float | None = None) -> tuple[Message, list[int]] | None:
        """The next message and its descriptors; ``None``: the other end has ended.

        :raises TimeoutError: nothing has come.
        """
        if timeout_s is not None and not self._poll.poll(timeout_s * 1000):
            raise TimeoutError
        try:
            packet, ancillary, _, _ = self._socket.recvmsg(
                PACKET_BYTES_MAX, _RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            return None
        if not packet:
            return None
        descriptors = array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data)
        return pickle.loads(packet), descriptors.tolist()

    def end(self) -> None:
        """Say that nothing more will come from here; what the other end says still arrives."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other end is gone

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


class Forwarder(logging.Handler):
    """Has what a worker logs logged by the supervisor, in whose log it belongs.

    A record is dropped when the supervisor does not listen: a log is no reason to keep a mount
    waiting.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record."""
        try:
            text = record.getMessage()
            if record.exc_info:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
            plain = {
                "name": record.name,
                "levelno": record.levelno,
                "levelname": record.levelname,
                "msg": text[:_TEXT_MAX],
                "created": record.created,
                "process": record.process,
                "threadName": record.threadName,
                "module": record.module,
                "lineno": record.lineno,
            }
            self._channel.send(Logged(plain))
        except Exception:
            self.handleError(record)


def log_here(logged: Logged) -> None:
    """Log what a worker logged, by the loggers of this process."""
    record = logging.makeLogRecord(logged.record)
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


def levels() -> dict[str, int]:
    """The levels that were set in this process."""
    found = {"": logging.getLogger().level}
    for name, logger in logging.getLogger().manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and logger.level:
            found[name] = logger.level
    return found
