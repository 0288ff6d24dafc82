"""What a suite found: measurements with everything that a number needs to be believed."""

from __future__ import annotations

import statistics
from typing import Any

import attrs

from kvfs.errors import Corrupt, Unsupported
from kvfs_bench.processes import Memory

FORMAT = 3
"""Version of the JSON form.  2: ``speeds`` to several references, ``requests``, ``remark``.
3: ``kind`` of each suite: ``times`` as here, ``engines`` (kvfs_bench.kv.result) or
``sizes`` (kvfs_bench.size.result)."""

KIND = "times"

STATES = {
    "fresh": "mounted anew, so that no inodes, names or file pages of it are in the kernel's "
    "caches; the engine's files, the image or the archive are in the page cache, the programs were "
    "run before",
    "again": "the same again on the same mount: what the kernel kept is used",
    "warm": "everything is in the kernel's caches: it was read once before",
    "cold": "kernel caches dropped, engine files and images included, then mounted anew: contents "
    "and metadata come from the disk",
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
    """One kind of work by one contestant, at most once per round."""

    work: str
    contestant: str
    state: str
    """A key of :data:`STATES`."""
    durability: str = NOT_WRITING
    """A key of :data:`DURABILITIES`."""
    quantity: int = 0
    """How much was done: files, entries, members."""
    unit: str = "files"
    rounds: list[int] = attrs.field(factory=list)
    """The round of each time below; empty: they are those of rounds 0, 1, 2..."""
    wall_s: list[float] = attrs.field(factory=list)
    cpu_s: list[float] = attrs.field(factory=list)
    """Of the reader, user and system."""
    server_cpu_s: list[float] = attrs.field(factory=list)
    """Of the process behind the mount and its workers."""
    requests: list[int] = attrs.field(factory=list)
    """Requests that reached user space."""
    requests_are: str = ""
    """``counted`` by the server, or ``replies``: writes of the server's process, about one each."""
    peak_bytes: dict[str, int] = attrs.field(factory=dict)
    """Peaks of the resident memory of the process behind the mount: total, anonymous, file."""
    remark: str = ""
    """Why there are fewer rounds, or none."""

    def keep_peak(self, memory: Memory) -> None:
        """Take over what is higher than before."""
        for name, value in attrs.asdict(memory).items():
            self.peak_bytes[name] = max(self.peak_bytes.get(name, 0), value)

    @property
    def median_s(self) -> float | None:
        """Median of the rounds; ``None``: there was none."""
        return statistics.median(self.wall_s) if self.wall_s else None

    @property
    def rate(self) -> float | None:
        """Quantity per second, of the median."""
        return self.quantity / median if (median := self.median_s) else None

    def by_round(self) -> dict[int, float]:
        """The wall-clock time of each round."""
        return dict(zip(self.rounds or range(len(self.wall_s)), self.wall_s, strict=True))

    def per(self, values: list[float] | list[int]) -> float | None:
        """The median of ``values`` for each unit of the quantity."""
        return statistics.median(values) / self.quantity if values and self.quantity else None


@attrs.frozen(kw_only=True)
class Ratio:
    """How fast, where the reference's speed is 1: over the rounds that both took part in.

    The quotient is made within a round, since the machine's own speed changes between rounds.
    """

    median: float
    worst: float
    best: float

    @classmethod
    def between(cls, own: Measurement, reference: Measurement) -> Ratio | None:
        """Of one measurement to another; ``None``: they have no round in common."""
        own_s, reference_s = own.by_round(), reference.by_round()
        common = own_s.keys() & reference_s.keys()
        if not common:
            return None
        found = [reference_s[number] / own_s[number] for number in common]
        return cls(median=statistics.median(found), worst=min(found), best=max(found))


@attrs.define(kw_only=True)
class SuiteResult:
    """Everything one suite measured."""

    suite: str
    title: str
    scale: float
    rounds: int
    references: tuple[str, ...] = ()
    """The contestants that speeds are compared with."""
    datasets: dict[str, dict[str, int]] = attrs.field(factory=dict)
    measurements: list[Measurement] = attrs.field(factory=list)
    missing: dict[str, str] = attrs.field(factory=dict)
    """Contestants that are not installed, and how to install them."""
    checks: dict[str, int] = attrs.field(factory=dict)
    """How often each kind of answer was compared with the truth; a wrong one ends the run."""
    notes: list[str] = attrs.field(factory=list)
    goals: list[dict[str, Any]] = attrs.field(factory=list)
    """What was to be reached, and whether it was."""

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
        found = self.find(work, contestant)
        if found is None:
            found = Measurement(
                work=work,
                contestant=contestant,
                state=state,
                durability=durability,
                quantity=quantity,
                unit=unit,
            )
            self.measurements.append(found)
        return found

    def find(self, work: str, contestant: str) -> Measurement | None:
        """The measurement of that work by that contestant."""
        for measurement in self.measurements:
            if (measurement.work, measurement.contestant) == (work, contestant):
                return measurement
        return None

    def check(self, what: str, found: object, expected: object) -> None:
        """Compare an answer with the truth.

        :raises Corrupt: they differ; a wrong answer has no speed.
        """
        if found != expected:
            raise Corrupt(f"{self.suite}: {what} is {found!r}, and it should be {expected!r}")
        kind = what.partition(":")[0]
        self.checks[kind] = self.checks.get(kind, 0) + 1

    def speeds(self, measurement: Measurement) -> dict[str, Ratio]:
        """How fast beside each of the references."""
        found = {}
        for name in self.references:
            reference = self.find(measurement.work, name)
            if reference is not None and (ratio := Ratio.between(measurement, reference)):
                found[name] = ratio
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        measurements = []
        for measurement in self.measurements:
            speeds = self.speeds(measurement)
            measurements.append(
                attrs.asdict(measurement)
                | {
                    "median_s": measurement.median_s,
                    "per_second": measurement.rate,
                    "speeds": {name: attrs.asdict(ratio) for name, ratio in speeds.items()},
                    "requests_each": measurement.per(measurement.requests),
                    "server_cpu_s_each": measurement.per(measurement.server_cpu_s),
                }
            )
        return attrs.asdict(self, filter=lambda field, _: field.name != "measurements") | {
            "kind": KIND,
            "measurements": measurements,
            "states": self._used(STATES, "state"),
            "durabilities": self._used(DURABILITIES, "durability"),
        }

    def _used(self, legend: dict[str, str], field: str) -> dict[str, str]:
        used = {getattr(measurement, field) for measurement in self.measurements}
        return {name: text for name, text in legend.items() if name in used}


def upgrade(report: dict[str, Any]) -> dict[str, Any]:
    """A report of an earlier format in the present one; one of the present format as it is."""
    if report["format"] == FORMAT:
        return report
    if report["format"] not in (1, 2):
        raise Unsupported(
            f"results of format {report['format']}: this knows up to {FORMAT}; update kvfs-bench"
        )
    suites = [suite | {"kind": KIND} for suite in report["suites"]]
    if report["format"] == 1:
        suites = [_upgrade_first(suite) for suite in suites]
    return report | {"format": FORMAT, "suites": suites}


def _upgrade_first(suite: dict[str, Any]) -> dict[str, Any]:
    """A suite of the first format, which had one reference."""
    reference = suite.get("reference", "")
    measurements = []
    for item in suite["measurements"]:
        speed = item.get("speed")
        ratio = {"median": speed, "worst": speed, "best": speed}
        old: dict[str, Any] = {"rounds": [], "requests": [], "requests_are": "", "remark": ""}
        old |= {"requests_each": None, "server_cpu_s_each": None}
        speeds = {} if speed is None else {reference: ratio}
        measurements.append(old | item | {"speeds": speeds})
    references = [reference] if reference else []
    return suite | {"references": references, "goals": [], "measurements": measurements}
