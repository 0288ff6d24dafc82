"""A worker: a process that answers requests of a mount that another process made and supervises.

Started by the supervisor (:mod:`.supervisor`) as a program of its own, since neither LMDB nor
threads survive a fork.  Standard input is its end of the channel: on it come its duty, a clone of
the mount's device and the table of counters.  It opens the volume by itself, answers until the
mount has ended or it is told to end, closes the volume and exits.  It never refreshes the volume.

If the supervisor dies, so does the worker, as one process would have: what it was doing is left to
be rolled back by the next mount, which may be there in a moment.  But it dies between two answers,
and when nothing is being pushed: a process that waits in the kernel for itself cannot die.

The signals with which a terminal or a service manager ends a group of processes are blocked from
the start: the supervisor gets them too, and knows what has to be done.
"""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from kvfs.errors import KVFSError, Unavailable
from kvfs.volume import Volume, VolumeConfig
from kvfs_frontend_fuse.protocol.wire import OPCODES
from kvfs_frontend_fuse.serving.complaints import log
from kvfs_frontend_fuse.serving.ending import prompt_interpreter
from kvfs_frontend_fuse.serving.invalidation import Invalidator, Quiet, invalidating
from kvfs_frontend_fuse.serving.session import Session
from kvfs_frontend_fuse.workers.channel import (
    Answer,
    Ask,
    Channel,
    Duty,
    End,
    Failed,
    Forwarder,
    Interrupt,
    Message,
    Over,
    Serving,
    TooLarge,
)
from kvfs_frontend_fuse.workers.counters import Counters, PusherRow

LINGER_S = 0.5
"""How long it may go on answering after its supervisor has died."""
REOPEN_S = 0.5
"""How long after the engine did not answer it is tried again."""
_AGAIN_S = 0.05
_REASON_MAX = 4096


class Worker:
    """A volume, a session over a clone of the device, and an ear for the supervisor.

    :param device: the clone; the session owns it.
    """

    def __init__(
        self, channel: Channel, duty: Duty, volume: Volume, *, device: int, counters: Counters
    ) -> None:
        self._channel = channel
        self._volume = volume
        self._counters = counters
        self._is_orphan = False
        row = counters.row(duty.row)
        self._pushed = PusherRow(row)
        self._invalidator = Invalidator(device)
        self._session = Session(
            device,
            volume,
            duty.settings,
            counts=row[:OPCODES],
            stats=self._stats,
            pushes=duty.pushes,
            mount=duty.mount,
            locking=volume.locking(duty.mount, alone=duty.rows == 1),
            on_foreign_interrupt=self._pass_on if duty.rows > 1 else None,
        )

    def run(self) -> None:
        """Answer requests until the mount ends, or the channel.

        :raises KVFSError: the device fails.
        """
        with invalidating(self._volume, self._invalidator):
            Thread(target=self._attend, name="kvfs-desk", daemon=True).start()
            self._channel.send(Serving())
            try:
                self._session.run()
            finally:
                self._count_pushes()
        if self._is_orphan:
            os._exit(1)
        self._channel.send(Over())
        self._session.close()

    def _stats(self) -> bytes:
        self._count_pushes()
        return self._counters.as_json()

    def _count_pushes(self) -> None:
        if (pusher := self._session.pusher) is not None:
            self._pushed.take(pusher.counts())

    # -- what the supervisor says, in a thread -----------------------------------------------------

    def _pass_on(self, unique: int) -> None:
        self._channel.send(Interrupt(unique))

    def _attend(self) -> None:
        is_awaited = False
        try:
            is_awaited = self._listen()
        except Exception:
            log.exception("a worker does not understand its supervisor, and ends")
        if not is_awaited:
            self._is_orphan = True
            Thread(target=_exit_soon, name="kvfs-linger", daemon=True).start()
        Quiet(self._session, self._invalidator).end()

    def _listen(self) -> bool:
        """Do what the supervisor says until it ends; ``True``: it waits for the end of this."""
        # A request may be interrupted when it was read and does not wait yet: looked for twice.
        early: list[int] = []
        while True:
            message: Message | None = None
            try:
                received = self._channel.receive(timeout_s=_AGAIN_S if early else None)
                if received is None:
                    return False
                message, _ = received
            except TimeoutError:
                pass
            for unique in early:
                self._session.interrupt(unique)
            early.clear()
            if isinstance(message, Interrupt) and not self._session.interrupt(message.unique):
                early.append(message.unique)
            elif isinstance(message, End):
                return True
            elif isinstance(message, Ask):
                self._answer(message.token)

    def _answer(self, token: int) -> None:
        self._count_pushes()
        metrics = self._volume.metrics.detached()
        try:
            self._channel.send(
                Answer(token=token, metrics=metrics, activity=self._volume.activity())
            )
        except TooLarge as error:
            log.warning("a worker cannot say what it is doing: %s", error)


def _exit_soon() -> None:
    time.sleep(LINGER_S)
    os._exit(1)


@contextmanager
def _logging(channel: Channel, levels: dict[str, int]) -> Iterator[None]:
    """Have the supervisor log what is logged here."""
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)
    forwarder = Forwarder(channel)
    logging.getLogger().addHandler(forwarder)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(forwarder)


def _open(channel: Channel, config: VolumeConfig) -> Volume | None:
    """The volume, as soon as its engine and its store answer; ``None``: it is not wanted any more.

    Requests wait meanwhile, as they would for a worker that has it open and finds no server.
    """
    told = False
    while True:
        try:
            return Volume(config)
        except Unavailable as error:
            if not error.retryable:
                raise
            if not told:
                log.warning("a worker waits until the volume can be opened: %s", error)
                told = True
        if _is_dismissed(channel):
            return None


def _is_dismissed(channel: Channel) -> bool:
    """Does the supervisor say within :data:`REOPEN_S` that this is over, or is it gone?"""
    deadline = time.monotonic() + REOPEN_S
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            received = channel.receive(timeout_s=left_s)
        except TimeoutError:
            break
        if received is None or isinstance(received[0], End):
            return True
    return False


def _serve(channel: Channel, duty: Duty, *, device: int, counters: Counters) -> int:
    """Open the volume and serve it; the exit code.  A failure leaves ``device`` to the exit."""
    try:
        sys.path[:] = duty.path
        volume = _open(channel, pickle.loads(duty.config))
        if volume is None:
            return 0
        with volume:
            Worker(channel, duty, volume, device=device, counters=counters).run()
    except KVFSError as error:
        channel.send(Failed(str(error)[:_REASON_MAX]))
        return 1
    except Exception as error:
        log.exception("a worker has failed")
        channel.send(Failed(repr(error)[:_REASON_MAX]))
        return 1
    return 0


def main() -> int:
    """Do what the supervisor at the other end of standard input says."""
    channel = Channel(socket.socket(fileno=os.dup(0)))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    received = channel.receive()
    if received is None:
        return 0
    duty, descriptors = received
    assert isinstance(duty, Duty)
    device, table = descriptors
    counters = Counters(duty.rows, descriptor=table)
    os.close(table)
    with _logging(channel, duty.levels), prompt_interpreter():
        return _serve(channel, duty, device=device, counters=counters)


if __name__ == "__main__":
    sys.exit(main())
