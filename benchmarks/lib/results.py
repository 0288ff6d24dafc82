"""What a suite found: measurements with everything that a number needs to be believed."""

from __future__ import annotations

import statistics
from typing import Any

import attrs

from kvfs.errors import Corrupt
from lib.processes import Memory

STATES = {
    "fresh": "mounted anew, so that nothing of it is in the kernel's caches; the engine's files, "
    "the image or the archive are in the page cache, the programs were run before",
    "again": "the same again on the same mount: what the kernel kept is used",
    "warm": "everything is in the kernel's caches: it was read once before",
    "disk": "kernel caches dropped: contents and metadata come from the disk",
    "archive warm": "the archive is in the page cache, the target is empty",
    "first": "the folder's directory and inodes are in the kernel's caches, KVFS has no cache yet",
    "second": "as first, with the cache that the first mount left",
    "first look": "the folder is mounted, nothing of the tarball has been fetched",
}
"""The cache states by the name that measurements give."""

NOT_WRITING = "-"
DURABILITIES = {
    NOT_WRITING: "nothing is written",
    "none": "nothing was synced when the clock stopped",
    "process": "commits of the engine survive a killed process; nothing was synced when the clock "
    "stopped",
    "power, at the end": "synced once, at the end, and the clock ran until that was done",
    "power": "each commit of the state store (catalogue, states of tarballs) is synced",
}
"""What had reached the disk when the clock stopped, by the name that measurements give."""


@attrs.define(kw_only=True)
class Measurement:
    """One kind of work by one contestant, once per round."""

    work: str
    contestant: str
    state: str
    """A key of :data:`STATES`."""
    durability: str = NOT_WRITING
    """A key of :data:`DURABILITIES`."""
    quantity: int = 0
    """How much was done: files, entries, members."""
    unit: str = "files"
    wall_s: list[float] = attrs.field(factory=list)
    cpu_s: list[float] = attrs.field(factory=list)
    """Of the reader, user and system."""
    server_cpu_s: list[float] = attrs.field(factory=list)
    """Of the process behind the mount."""
    peak_bytes: dict[str, int] = attrs.field(factory=dict)
    """Peaks of the resident memory of the process behind the mount: total, anonymous, file."""

    def keep_peak(self, memory: Memory) -> None:
        """Take over what is higher than before."""
        for name, value in attrs.asdict(memory).items():
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), value)

    @property
    def median_s(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.wall_s)

    @property
    def rate(self) -> float:
        """Quantity per second, of the median."""
        return self.quantity / self.median_s


@attrs.define(kw_only=True)
class SuiteResult:
    """Everything one suite measured."""

    suite: str
    title: str
    scale: float
    rounds: int
    reference: str
    """The contestant that speeds are compared with; empty: none."""
    datasets: dict[str, dict[str, int]] = attrs.field(factory=dict)
    measurements: list[Measurement] = attrs.field(factory=list)
    missing: dict[str, str] = attrs.field(factory=dict)
    """Contestants that are not installed, and how to install them."""
    checks: dict[str, int] = attrs.field(factory=dict)
    """How often each kind of answer was compared with the truth; a wrong one ends the run."""
    notes: list[str] = attrs.field(factory=list)

    def measure(
        self,
        work: str,
        contestant: str,
        *,
        state: str,
        durability: str = NOT_WRITING,
        quantity: int = 0,
        unit: str = "files",
    ) -> Measurement:
        """The measurement of that work by that contestant, made where it is not there."""
        assert state in STATES, state
        assert durability in DURABILITIES, durability
        for measurement in self.measurements:
            if (measurement.work, measurement.contestant) == (work, contestant):
                return measurement
        made = Measurement(
            work=work,
            contestant=contestant,
            state=state,
            durability=durability,
            quantity=quantity,
            unit=unit,
        )
        self.measurements.append(made)
        return made

    def check(self, what: str, found: object, expected: object) -> None:
        """Compare an answer with the truth.

        :raises Corrupt: they differ; a wrong answer has no speed.
        """
        if found != expected:
            raise Corrupt(f"{self.suite}: {what} is {found!r}, and it should be {expected!r}")
        kind = what.partition(":")[0]
        self.checks[kind] = self.checks.get(kind, 0) + 1

    def speed(self, measurement: Measurement) -> float | None:
        """How fast, where the reference's speed at the same work is 1.

        The median over the rounds of the quotient within a round, since the machine's own speed
        changes between rounds.
        """
        for other in self.measurements:
            if other.work == measurement.work and other.contestant == self.reference:
                pairs = zip(other.wall_s, measurement.wall_s, strict=False)
                return statistics.median([reference / own for reference, own in pairs])
        return None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        measurements = []
        for measurement in self.measurements:
            speed = self.speed(measurement)
            measurements.append(
                attrs.asdict(measurement)
                | {
                    "median_s": measurement.median_s,
                    "per_second": measurement.rate,
                    "speed": None if speed is None else round(speed, 4),
                }
            )
        return attrs.asdict(self, filter=lambda field, _: field.name != "measurements") | {
            "measurements": measurements,
            "states": self._used(STATES, "state"),
            "durabilities": self._used(DURABILITIES, "durability"),
        }

    def _used(self, legend: dict[str, str], field: str) -> dict[str, str]:
        used = {getattr(measurement, field) for measurement in self.measurements}
        return {name: text for name, text in legend.items() if name in used}
