"""The runner: start writers, kill them, start them again over the same store."""

from __future__ import annotations

import random
import select
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Unsupported
from kvfs.registry import find
from kvfs.testing.crash.manifest import Manifest
from kvfs.testing.crash.orders import Orders
from kvfs.testing.crash.processes import Durations, Process
from kvfs.testing.crash.verify import Expected
from kvfs.testing.crash.workload import Workload

POINTS = {
    "starting": 1,
    "opening": 2,
    "verifying": 1,
    "committing": 6,
    "compacting": 2,
    "closing": 1,
}
"""What a writer is busy with when the kill is aimed at it, and how often, of 13."""
PROMISES_MAX = 25
"""At most so many batches are promised before a kill during a commit."""
PATIENCE_S = 120
"""A writer that says nothing for so long hangs."""
SERVER_GRACE_S = 3.0
"""So long a writer may go on over a server that was killed and has come back."""
ALL_TOGETHER = 4
"""Every so many kills of one of several writers, all of them are killed."""


class CrashFailed(AssertionError):
    """A store broke a promise.  It is left as it was found; the message says how to look again."""


class Killable(Protocol):
    """A server, as of :class:`kvfs.testing.servers.base.Server`."""

    def kill(self) -> None:
        """End it at once."""

    def start(self) -> None:
        """Start it on the same data."""


@attrs.define
class Report:
    """What a run did.  Everything but ``lost`` is a count."""

    driver: str
    durability: str
    seed: int
    writers: int
    killed: str
    """``writer`` or ``server``."""
    kills: int = 0
    busy_with: dict[str, int] = attrs.field(factory=dict)
    """What the killed were doing, by what they had said last."""
    promised: int = 0
    """Batches whose commit returned."""
    kept: int = 0
    """Kills after which a batch was found that was begun and not promised."""
    dropped: int = 0
    """Kills after which there was none."""
    late: int = 0
    """Batches of a killed client that a server made later."""
    forgotten: int = 0
    """Batches gone that were committed for less than this (level ``memory`` only)."""
    lost: list[str] = attrs.field(factory=list)
    """What stores said that were damaged and began anew (level ``memory`` only)."""
    opened: int = 0
    compacted: int = 0
    closed: int = 0
    seconds: float = 0.0


@attrs.define(kw_only=True)
class CrashRun:
    """One store, and its writers.

    :param driver: in the registry.
    :param settings: as a table ``[kv]``, without ``driver``.
    :param durability: of every commit.  ``MEMORY`` promises nothing, but what is there after a kill
        has to be what was there at some instant.
    :param work: an empty directory outside of the store: manifest, and what writers complain of.
    :param seed: of what is written and when it is killed.  Timing is the machine's: a run with the
        same seed writes the same, and is killed at about the same points.
    :param writers: several only for an engine that declares ``multi_process_write``.
    :param server: kill this, and not a writer.
    """

    driver: str
    settings: Mapping[str, Any]
    durability: Durability
    work: Path
    seed: int
    writers: int = 1
    server: Killable | None = None
    layers: Sequence[Mapping[str, Any]] = ()
    report: Report = attrs.field(init=False)
    _manifest: Manifest = attrs.field(init=False)
    _promised: list[int] = attrs.field(init=False)
    _closed: list[int] = attrs.field(init=False)
    """The last batch of each writer that a closed store had: safe at every durability."""
    _workload: Workload = attrs.field(init=False)
    _rng: random.Random = attrs.field(init=False)
    _running: dict[int, Process] = attrs.field(factory=dict, init=False)
    _killed: set[int] = attrs.field(factory=set, init=False)
    """Writers that were killed, and nobody has looked since."""
    _points: list[str] = attrs.field(factory=list, init=False)
    _durations: Durations = attrs.field(factory=Durations, init=False)

    def __attrs_post_init__(self) -> None:
        capability = find("kv", self.driver).capability
        assert isinstance(capability, KVCapability)
        level = self.durability.name.lower()
        if not capability.persistent or capability.durability < self.durability:
            raise Unsupported(f"{self.driver} promises nothing that is durable to {level}")
        if self.writers > 1 and not capability.multi_process_write:
            raise Unsupported(f"{self.driver} takes one writing process at a time")
        self._workload = Workload.fitting(self.seed, capability)
        self._promised, self._closed = [0] * self.writers, [0] * self.writers
        self._rng = random.Random(self.seed)
        killed = "writer" if self.server is None else "server"
        self.report = Report(self.driver, level, self.seed, self.writers, killed)
        self._manifest = Manifest(self.work / "manifest", self._orders(0, "all"))

    def run(self, kills: int, *, progress: Callable[[Report], None] = lambda _: None) -> Report:
        """Kill so many times, and look at the store a last time.

        :param progress: called after each kill.
        :raises CrashFailed: a promise was broken; the store is left as it was found.
        """
        began = time.monotonic()
        try:
            while self.report.kills < kills:
                self._start_missing()
                victim = self._rng.randrange(self.writers)
                self._reach(victim)
                if self.server is not None:
                    self._kill_server(self.server)
                elif (self.report.kills + 1) % ALL_TOGETHER:
                    self._kill(victim)
                else:
                    self._kill(*self._running)
                self.report.seconds = round(time.monotonic() - began, 1)
                progress(self.report)
            self._kill(*self._running)
            self._look()
        finally:
            for process in self._running.values():
                process.signal()
                process.drained()
            self._manifest.close()
        return self.report

    def _orders(self, writer: int, verify: Literal["all", "own"]) -> Orders:
        lossy = self.durability is Durability.MEMORY
        return Orders(
            driver=self.driver,
            settings=dict(self.settings),
            layers=[dict(layer) for layer in self.layers],
            durability=self.durability.name.lower(),
            workload=self._workload,
            expected=[
                Expected(closed if lossy else promised, promised + 1)
                for promised, closed in zip(self._promised, self._closed, strict=True)
            ],
            writer=writer,
            verify=verify,
            may_be_lost=lossy,
            server_dies=self.server is not None,
        )

    def _start(self, orders: Orders) -> Process:
        process = Process(orders, self.work / "errors", self._durations)
        self._running[orders.writer] = process
        return process

    def _start_missing(self) -> None:
        """Have all writers run; a store that nobody writes to is looked at as a whole first."""
        if self.writers == 1:
            if not self._running:
                self._start(self._orders(0, "all"))
            return
        if not self._running:
            self._look()
        for writer in range(self.writers):
            if writer not in self._running:
                self._start(self._orders(writer, "own"))

    def _look(self) -> None:
        """Look at the whole store, undisturbed.  One that is lost is looked at once more."""
        while True:
            process = self._start(attrs.evolve(self._orders(0, "all"), steps=0))
            self._listen(lambda: not self._running, PATIENCE_S)
            if process.found is not None:
                return

    def _next_point(self) -> str:
        """As :data:`POINTS` has them, shuffled; the first time there is something to lose."""
        if not self._points:
            self._points = [point for point, often in POINTS.items() for _ in range(often)]
            self._rng.shuffle(self._points)
            if not self.report.kills:
                self._points.append("committing")
        return self._points.pop()

    def _reach(self, victim: int) -> None:
        """Wait until a writer is where it is to be killed."""
        process = self._running[victim]
        point = self._next_point()
        if process.found is not None and point in ("starting", "verifying"):
            point = "committing"  # it has those behind it
        entered, promises = process.entered.get(point, 0) + 1, process.promises
        if point == "starting":
            entered = 1
        elif point == "committing":
            entered = min(entered, 1)
            promises += self._rng.randint(not self.report.kills, PROMISES_MAX)
        self._listen(
            lambda: (
                victim not in self._running
                or (process.entered.get(point, 0) >= entered and process.promises >= promises)
            ),
            PATIENCE_S,
        )
        delay = self._rng.random() * 1.5 * self._durations.usual[point]
        self._listen(lambda: victim not in self._running, delay, hangs=False)

    def _kill(self, *victims: int) -> None:
        processes = [self._running.pop(victim) for victim in victims if victim in self._running]
        for process in processes:
            process.signal()
        for process in processes:
            for line in process.drained():
                self._heard(process, line)
            self._check(process)
            self._killed.add(process.orders.writer)
            if self.server is None:
                self._count(process)

    def _kill_server(self, server: Killable) -> None:
        """The writers of every other kill see it go and come back."""
        for process in self._running.values():
            self._count(process)
            break
        if self._rng.random() < 0.5:
            server.kill()
            self._kill(*self._running)
            server.start()
        else:
            server.kill()
            server.start()
            self._listen(lambda: not self._running, SERVER_GRACE_S, hangs=False)
            self._kill(*self._running)

    def _count(self, process: Process) -> None:
        report = self.report
        report.kills += 1
        report.busy_with[process.phase] = report.busy_with.get(process.phase, 0) + 1

    def _listen(self, until: Callable[[], bool], seconds: float, *, hangs: bool = True) -> None:
        """Hear what writers say until something is so, or the time is over.

        :param hangs: that it is not so by then is a failure.
        """
        deadline = time.monotonic() + seconds
        while not until():
            left = deadline - time.monotonic()
            if left <= 0:
                if hangs:
                    doing = ", ".join(process.phase for process in self._running.values())
                    self._fail(f"after {seconds:.0f} s the writers are still {doing}")
                return
            processes = {process.stdout: process for process in self._running.values()}
            for stdout in select.select([*processes], (), (), left)[0]:
                process = processes[stdout]
                for line in process.read():
                    self._heard(process, line)
                if process.status is not None:
                    del self._running[process.orders.writer]
                    for line in process.drained():
                        self._heard(process, line)
                    self._killed.add(process.orders.writer)
                    self._check(process)

    def _heard(self, process: Process, line: str) -> None:
        word, report, own = line.partition(" ")[0], self.report, process.orders.writer
        if word in ("promised", "late"):
            self._set(own, process.promised)
            report.promised += word == "promised"
            report.late += word == "late"
        elif word == "verified" and process.found is not None:
            everything = process.orders.verify == "all"
            for writer in range(self.writers) if everything else (own,):
                step, promised = process.found[writer], self._promised[writer]
                if writer in self._killed:
                    report.kept += step > promised
                    report.dropped += step == promised
                    report.forgotten += max(promised - step, 0)
                self._killed.discard(writer)
                self._set(writer, step)
        elif word == "lost":
            report.lost.append(line.partition(" ")[2])
            for writer, step in enumerate(self._promised):
                report.forgotten += step
                self._set(writer, 0)
                self._closed[writer] = 0
        elif word in ("opened", "compacted", "closed"):
            setattr(report, word, getattr(report, word) + 1)
            if word == "closed" and self.server is None:
                self._closed[own] = self._promised[own]

    def _set(self, writer: int, step: int) -> None:
        self._promised[writer] = step
        self._manifest.add(writer, step)

    def _check(self, process: Process) -> None:
        failure = process.failure()
        if failure is not None:
            self._fail(failure)

    def _fail(self, what: str) -> NoReturn:
        words = ["--kv", self.driver, "--durability", self.report.durability]
        words += ["--seed", str(self.seed), "--kills", str(self.report.kills + 1)]
        words += ["--writers", str(self.writers)] if self.writers > 1 else []
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        python = "python -m kvfs.testing.crash"
        raise CrashFailed(
            f"{self.driver} at durability {self.report.durability}, seed {self.seed}, after "
            f"{self.report.kills} kills of the {self.report.killed}, {self._promised} batches "
            f"promised: {what}\n"
            f"look again at the store: {python} --verify {shlex.quote(str(self._manifest.path))}\n"
            f"replay on an empty store: {python} {shlex.join(words)}"
        )


__all__ = ["CrashFailed", "CrashRun", "Killable", "Report"]
