"""The supervisor: keeps a number of worker processes answering one mount.

Each worker has a clone of the mount's device (FUSE_DEV_IOC_CLONE): a reader of the same requests
with a list of its own of those it has not answered yet.  The supervisor answers nothing.  It keeps
every clone open as well, so that the kernel does not give up what a killed worker has left: at its
death all unanswered requests are put back to be read again (FUSE_NOTIFY_RESEND, Linux 6.9), and a
new worker goes on with the clone.  A request may so be answered twice; the kernel takes one answer
and all of them are the same.  On older kernels what a killed worker had read fails (ECONNABORTED).

Nothing here reads or polls the device: the kernel would wake this process for every request.  The
workers tell when the mount has ended.

Concurrency: :meth:`Supervisor.run` and :meth:`Supervisor.close` belong to one thread; ``end`` and
``report`` to any.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pickle
import select
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from threading import Lock
from time import monotonic
from typing import Any

import attrs

from kvfs.errors import Unavailable, Unsupported
from kvfs.metrics import Metrics
from kvfs.volume import Volume, name_mount
from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse.mounting.mount import DEVICE
from kvfs_frontend_fuse.protocol.negotiate import Negotiated
from kvfs_frontend_fuse.protocol.wire import OUT_HEADER, InitFlag, Notify
from kvfs_frontend_fuse.serving.complaints import log
from kvfs_frontend_fuse.workers.channel import (
    Answer,
    Ask,
    Duty,
    End,
    Failed,
    Interrupt,
    Logged,
    Over,
    Serving,
    levels,
    log_here,
)
from kvfs_frontend_fuse.workers.counters import Counters
from kvfs_frontend_fuse.workers.recruit import Recruit, say_end

DEATHS_MAX = 5
"""So many workers may die young, one after another in one place, before the mount is given up."""
YOUNG_S = 10.0
"""How long one must have served not to die young; one that never served does."""
YOUNG_KILLED_S = 0.5
"""The same for one that got SIGKILL: that is somebody's doing, or for lack of memory."""
LEAVE_S = 10.0
"""How long a worker may take to stop answering."""
CLOSE_S = 60.0
"""How long it may then take to bring what it wrote to the disk."""
ANSWER_S = 1.0
CONFIG_BYTES_MAX = 64 << 10
_CODE_S = 0.2
_CLONE = 0x8004E500
"""``FUSE_DEV_IOC_CLONE``: ``_IOR(229, 0, uint32_t)``."""


def obstacle(volume: object) -> str | None:
    """Why a volume cannot be served by workers; ``None``: it can."""
    if not isinstance(volume, Volume):
        return "it is not made from a configuration that another process could open"
    kv, store = volume.state.capability, volume.backing.capability
    name = volume.config.kv.info.name
    if not (kv.persistent and kv.multi_process_read and kv.multi_process_write):
        return f"its engine, {name}, cannot be opened by several processes"
    if not store.persistent:
        return f"its store, {volume.config.backing.info.name}, is there for one process alone"
    if not sys.executable:
        return "this Python does not know the program that it is"
    return None


def clone(descriptor: int) -> int:
    """Another reader for the mount of an open device.

    :raises Unsupported: the device cannot be opened once more, or not cloned.
    """
    try:
        copy = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise Unsupported(f"{DEVICE} cannot be opened for workers: {error.strerror}") from error
    try:
        fcntl.ioctl(copy, _CLONE, struct.pack("=I", descriptor))
    except OSError as error:
        os.close(copy)
        raise Unsupported(f"{DEVICE} cannot be cloned for workers: {error.strerror}") from error
    return copy


def _packed(volume: Volume) -> bytes:
    """The configuration, for another process; not larger than a message may be."""
    try:
        packed = pickle.dumps(volume.config)
    except Exception as error:
        raise Unsupported(f"its configuration cannot be handed to workers: {error}") from error
    if len(packed) > CONFIG_BYTES_MAX:
        raise Unsupported(
            f"its configuration is too large for workers: {len(packed)} bytes packed, "
            f"{CONFIG_BYTES_MAX} at most"
        )
    return packed


@attrs.define
class _Place:
    """Where one worker after another does the same work."""

    index: int
    device: int
    """The clone; -1: the worker has it alone."""
    recruit: Recruit
    deaths: int = 0
    """How many died young, without one in between that did not."""


class Supervisor:
    """Workers for one mount.

    The workers load their program from here on; :meth:`attach` tells them what to serve.

    :param counters: a row for each.
    :raises Unavailable: no process can be started.
    :raises Unsupported: its configuration cannot be handed on.
    """

    def __init__(self, volume: Volume, settings: FuseSettings, *, counters: Counters) -> None:
        self._settings = settings
        self._config = _packed(volume)
        self._counters = counters
        self.mount = name_mount()
        """Tells the mount from every other."""
        self._awake, self.alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._ending = False
        self._closed = False
        self._device = -1
        self._resends = False
        self._places: list[_Place] = []
        self._former: list[Recruit] = []
        self._lock = Lock()
        self._answers: dict[int, SimpleQueue[tuple[int, Answer]]] = {}
        self._tokens = 0
        self._withdraw: list[Callable[[], None]] = []
        try:
            for index in range(counters.rows):
                self._places.append(_Place(index, -1, Recruit()))
        except BaseException:
            self.close()
            raise
        self._withdraw = [
            volume.metrics.provide("processes", self._activities),
            volume.metrics.include(self._metrics),
        ]

    def attach(self, device: int, agreed: Negotiated) -> None:
        """Have the workers serve a mount.

        :param device: the open device on which INIT was answered; not owned.
        :raises Unsupported: it cannot be cloned; nothing was told to any worker.
        """
        self._device = device
        self._resends = bool(agreed.flags & InitFlag.HAS_RESEND)
        for place in self._places:
            place.device = clone(device)
        for place in self._places:
            self._instruct(place)

    def _instruct(self, place: _Place) -> None:
        duty = Duty(
            path=sys.path,
            config=self._config,
            settings=self._settings,
            row=place.index,
            rows=self._counters.rows,
            # A killed process that waits in the kernel for a request it had read itself would
            # never be dead, were that not asked again.
            pushes=self._resends,
            mount=self.mount,
            levels=levels(),
        )
        # A worker that is gone already is found dead by run().
        place.recruit.send(duty, (place.device, self._counters.fileno()))
        if not self._resends:
            os.close(place.device)
            place.device = -1

    # -- serving -----------------------------------------------------------------------------------

    def end(self) -> None:
        """Leave :meth:`run`, now.  From any thread."""
        self._ending = True
        with self._lock:
            if not self._closed:
                try:
                    os.write(self.alarm, b"\0")
                except BlockingIOError:
                    pass  # full of earlier ones

    def run(self) -> None:
        """Keep the workers at work until the mount ends or :meth:`end` is called.

        :raises Unavailable: workers die as soon as they are started.
        """
        while not self._ending:
            ready = self._wait()
            # Whoever is replaced frees descriptors, and their numbers come again.
            heard = [p.recruit for p in self._places if p.recruit.channel.fileno() in ready]
            dead = [place for place in self._places if place.recruit.pidfd in ready]
            for recruit in heard:
                self._hear(recruit)
            for place in dead:
                if not self._ending:
                    self._replace(place)
            if self._awake in ready:
                os.read(self._awake, 4096)

    def _wait(self) -> set[int]:
        """The descriptors that have something to say; blocks."""
        events = select.poll()
        events.register(self._awake, select.POLLIN)
        for place in self._places:
            if not place.recruit.has_hung_up:
                events.register(place.recruit.channel, select.POLLIN)
            events.register(place.recruit.pidfd, select.POLLIN)
        return {descriptor for descriptor, _ in events.poll()}

    def _hear(self, recruit: Recruit) -> bool:
        """Take one message of a worker; ``False``: there is none."""
        try:
            received = recruit.channel.receive(timeout_s=0)
        except TimeoutError:
            return False
        if received is None:
            recruit.is_over = recruit.has_hung_up = True
            return False
        match received[0]:
            case Logged() as logged:
                log_here(logged)
            case Interrupt() as interrupt:
                self._pass_on(interrupt, recruit)
            case Serving():
                recruit.serving_since = monotonic()
            case Failed(reason):
                recruit.reason = reason
            case Over():
                recruit.is_over = True
                # Nobody told it to end, so the mount has.
                self._ending = True
            case Answer() as answer:
                if (answers := self._answers.get(answer.token)) is not None:
                    answers.put((recruit.pid, answer))
        return True

    def _pass_on(self, interrupt: Interrupt, sender: Recruit) -> None:
        for place in self._places:
            if place.recruit is not sender:
                place.recruit.send(interrupt)

    # -- death -------------------------------------------------------------------------------------

    def _replace(self, place: _Place) -> None:
        """A worker has died: have what it left unanswered asked again, and another take over."""
        self._resend()
        dead = place.recruit
        while self._hear(dead):
            pass
        if self._ending:
            return
        why = self._judge(place)
        log.error("worker %d has died and is replaced: %s", dead.pid, why)
        if not self._resends:
            place.device = clone(self._device)
        place.recruit = Recruit()
        dead.let_go()
        self._former.append(dead)
        self._former = [former for former in self._former if former.wait(0) is None]
        self._instruct(place)

    def _judge(self, place: _Place) -> str:
        """Take note of a death; returns the reason.

        :raises Unavailable: it is one too many.
        """
        dead = place.recruit
        code = dead.wait(_CODE_S)
        served_s = monotonic() - dead.serving_since if dead.serving_since else 0.0
        enough_s = YOUNG_KILLED_S if code in (None, -signal.SIGKILL) else YOUNG_S
        place.deaths = place.deaths + 1 if served_s < enough_s else 0
        why = dead.reason or say_end(code)
        if place.deaths >= DEATHS_MAX:
            raise Unavailable(
                f"the mount is given up: {place.deaths} workers in a row died as soon as they "
                f"were started; the last one: {why}"
            )
        return why

    def _resend(self) -> None:
        """Put all requests that were read and not answered back in the queue."""
        if not self._resends:
            return
        try:
            os.write(self._device, OUT_HEADER.pack(OUT_HEADER.size, Notify.RESEND, 0))
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.ENOTCONN, errno.EPERM):
                log.error("the kernel does not ask again what was left: %s", error)

    # -- what they are doing -----------------------------------------------------------------------

    def report(self) -> dict[int, Answer]:
        """What each worker says that it is doing, by process id; the silent ones are left out."""
        with self._lock:
            self._tokens += 1
            token = self._tokens
            answers: SimpleQueue[tuple[int, Answer]] = SimpleQueue()
            self._answers[token] = answers
        try:
            asked = [
                bool(place.recruit.serving_since) and place.recruit.send(Ask(token))
                for place in self._places
            ]
            found: dict[int, Answer] = {}
            deadline = monotonic() + ANSWER_S
            while len(found) < sum(asked):
                pid, answer = answers.get(timeout=max(deadline - monotonic(), 0))
                found[pid] = answer
        except Empty:
            pass
        finally:
            del self._answers[token]
        return found

    def _metrics(self) -> Iterable[Metrics]:
        return [answer.metrics for answer in self.report().values()]

    def _activities(self) -> dict[str, Any]:
        return {str(pid): answer.activity for pid, answer in self.report().items()}

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """End all workers and wait for that.  Idempotent.

        The mount should have ended, or be detached: requests are answered no more.
        """
        if self._closed:
            return
        self._ending = True
        for withdraw in self._withdraw:
            withdraw()
        recruits = [place.recruit for place in self._places]
        for recruit in recruits:
            recruit.send(End())
            recruit.channel.end()
            if self._device < 0:
                recruit.kill()  # it was not told anything yet, so there is nothing to lose
        self._await_over(recruits, monotonic() + LEAVE_S)
        for place in self._places:
            if place.device >= 0:
                os.close(place.device)
                place.device = -1
        deadline = monotonic() + CLOSE_S
        for recruit in recruits:
            self._await_end(recruit, deadline)
            recruit.let_go()
        for recruit in self._former:
            recruit.wait(LEAVE_S)
        with self._lock:
            self._closed = True
            os.close(self._awake)
            os.close(self.alarm)

    def _await_over(self, recruits: list[Recruit], deadline: float) -> None:
        """Wait until none answers requests any more; who still does then is killed."""
        while waiting := [recruit for recruit in recruits if not recruit.is_over]:
            events = select.poll()
            for recruit in waiting:
                events.register(recruit.channel, select.POLLIN)
            if not events.poll(max(deadline - monotonic(), 0) * 1000):
                break
            for recruit in waiting:
                self._hear(recruit)
        for recruit in waiting:
            log.warning("worker %d does not end, and is killed", recruit.pid)
            recruit.kill()

    def _await_end(self, recruit: Recruit, deadline: float) -> None:
        """Wait until its process is gone; what it logs until then is still logged."""
        events = select.poll()
        events.register(recruit.channel, select.POLLIN)
        while not recruit.has_hung_up and events.poll(max(deadline - monotonic(), 0) * 1000):
            self._hear(recruit)
        if recruit.wait(deadline - monotonic()) is None:
            log.warning("worker %d does not close its volume, and is killed", recruit.pid)
            recruit.kill()
            recruit.wait(LEAVE_S)
