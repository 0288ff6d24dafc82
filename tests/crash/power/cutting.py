"""One engine on a recorded disk, and what is left of its store after each of many power cuts."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Event as Signal
from threading import Thread

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.registry import find
from kvfs.testing.crash import Expected, Orders, Workload
from kvfs.testing.crash.places import durable_engines
from kvfs.testing.harness import KVHarness
from kvfs.testing.places import local_settings

from .disk import Disk, mounted_image, recorded_disk
from .recorder import Kind
from .trace import Cut, Event, choose_cuts, images

PREFIX = {"rocksdb", "sqlite"}
"""Commits that are less than durable to POWER: a cut takes the last of them, and those only."""
CLOSED = {"lmdb", "mdbx", "template"}
"""A cut may damage the whole store, unless it was closed and not written since."""
NOTHING = {"slatedb"}
"""In a directory: a cut may damage the store, closed or not, and POWER is refused."""

STORE = "store"
TIMEOUT_S = 120
AFTERWARDS = 2
"""So many batches are made on what is left, to see that it can be written."""


class PowerLost(AssertionError):
    """A power cut took what was promised to survive it; the message says how to replay it."""


@attrs.define
class Outcome:
    """What was left of a store after one cut."""

    cut: Cut
    promised: int
    """Batches whose commit had returned."""
    closed: bool
    """Nothing was committed since the store was closed."""
    flushed: int
    """Batches that a closed store held last."""
    step: int | None
    """Batches found; ``None`` if the store is damaged."""
    complaint: str = ""
    """What the engine, or the verifier, says of a damaged one."""


@attrs.frozen(kw_only=True)
class PowerRun:
    """A store that is written on a recorded disk.

    :param durability: of every commit.
    :param batches: how many are written.
    :param seed: of what is written, and of the cuts.
    """

    driver: str
    durability: Durability
    seed: int
    batches: int = 120
    settings: dict[str, object] = attrs.field(factory=dict)

    def run(self, place: Path, cuts: int) -> list[Outcome]:
        """Record, then cut so many times.

        :param place: an empty directory.
        """
        with recorded_disk(place) as disk:
            self._write(disk)
        events = disk.events()
        first = next(at for at, event in enumerate(events) if event.kind is Kind.MARK)
        chosen = choose_cuts(events, first, cuts, self.seed)
        image = place / "cut"
        return [
            self._outcome(events, cut, image, place / "mounted")
            for cut in images(disk.base, events, chosen, image)
        ]

    def _settings(self, disk: Path) -> dict[str, object]:
        local = local_settings(self.driver, disk / STORE)
        assert local is not None, f"{self.driver} keeps its data elsewhere"
        return {**local, **self.settings}

    def _orders(self, path: Path, expected: Expected, *, steps: int) -> Orders:
        capability = find("kv", self.driver).capability
        assert isinstance(capability, KVCapability)
        return Orders(
            driver=self.driver,
            settings=self._settings(path),
            durability=self.durability.name.lower(),
            workload=Workload.fitting(self.seed, capability),
            expected=[expected],
            steps=steps,
        )

    def _write(self, disk: Disk) -> None:
        orders = self._orders(disk.path, Expected(0, 0), steps=self.batches)
        orders = attrs.evolve(orders, mark=str(disk.mark))
        done = Signal()
        kernel = Thread(target=self._write_back, args=(disk, done))
        kernel.start()
        try:
            written = orders.run(timeout_s=TIMEOUT_S)
        finally:
            done.set()
            kernel.join()
        assert written.returncode == 0, written.stdout[-500:] + written.stderr[-4000:]

    def _write_back(self, disk: Disk, done: Signal) -> None:
        """What the kernel does every some seconds, at a pace that fits a short run."""
        rng = random.Random(self.seed)
        while not done.wait(rng.uniform(0.02, 0.3)):
            if self.durability < Durability.POWER:
                disk.sync()

    def _outcome(self, events: Sequence[Event], cut: Cut, image: Path, mounted: Path) -> Outcome:
        outcome = _promises(events[: cut.at], cut)
        low = outcome.promised if self.durability is Durability.POWER else 0
        expected = Expected(low, outcome.promised + 1)
        with mounted_image(image, mounted):
            self._look(outcome, mounted, expected)
            if outcome.step is None and self.durability < Durability.POWER:
                # What a volume does with a store that a power cut may have damaged.
                KVHarness(self.driver, self._settings(mounted)).remove()
                again = attrs.evolve(outcome)
                self._look(again, mounted, Expected(0, 0))
                assert again.step == 0, f"{self}, {cut}: is not empty after remove: {again}"
        return outcome

    def _look(self, outcome: Outcome, mounted: Path, expected: Expected) -> None:
        seen = self._orders(mounted, expected, steps=AFTERWARDS).run(timeout_s=TIMEOUT_S)
        lines = seen.stdout.splitlines()
        found = [int(line.split()[1]) for line in lines if line.startswith("verified ")]
        if seen.returncode == 0:
            outcome.step, outcome.complaint = found[0], ""
        else:
            last = lines[-1] if lines else ""
            outcome.step = None
            outcome.complaint = f"status {seen.returncode}, {last} {seen.stderr[-2000:]}".strip()


def _promises(events: Sequence[Event], cut: Cut) -> Outcome:
    promised = flushed = 0
    last = ""
    for event in events:
        if event.kind is Kind.MARK:
            word, _, rest = event.data.decode().partition(" ")
            if word == "promised":
                promised = int(rest)
            elif word == "closed":
                flushed = promised
            last = word
    return Outcome(cut, promised, last in ("closed", "opening", ""), flushed, None)


def check_power(run: PowerRun, outcomes: Sequence[Outcome]) -> None:
    """Everything promised is there; of the batch that was being made, all or nothing."""
    for outcome in outcomes:
        if outcome.step is None:
            raise PowerLost(f"{run.driver}: {outcome.complaint}\n{run}\n{outcome.cut}")


def check_prefix(run: PowerRun, outcomes: Sequence[Outcome]) -> None:
    """What is there is what was there at some instant, no earlier than the last close."""
    check_power(run, outcomes)
    for outcome in outcomes:
        if outcome.step is not None and outcome.step < outcome.flushed:
            raise PowerLost(f"{run.driver}: a closed store lost batches: {outcome}\n{run}")


def check_closed(run: PowerRun, outcomes: Sequence[Outcome]) -> None:
    """A store that was closed, and not written since, is whole."""
    for outcome in outcomes:
        if outcome.closed and outcome.step != outcome.promised:
            raise PowerLost(f"{run.driver}: a closed store is not what it was: {outcome}\n{run}")


def check(run: PowerRun, outcomes: Sequence[Outcome]) -> None:
    """What the engine promises of commits of that durability, and of closing, holds.

    :raises PowerLost: it does not.
    """
    if run.durability is Durability.POWER:
        check_power(run, outcomes)
        return
    if run.driver in PREFIX:
        check_prefix(run, outcomes)
    if run.driver not in NOTHING:
        check_closed(run, outcomes)


def engines_here() -> list[str]:
    """Every installed engine that keeps its data on a disk of this machine."""
    return [name for name in durable_engines() if local_settings(name, Path("/")) is not None]


def summary(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many cuts left what."""
    counts = Counter(
        "damaged"
        if outcome.step is None
        else ("whole", "one more")[outcome.step - outcome.promised]
        if outcome.step >= outcome.promised
        else "earlier"
        for outcome in outcomes
    )
    return dict(counts)
