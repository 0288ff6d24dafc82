"""What KVFS is to reach, and whether a run did: computed from its rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from kvfs_bench.mount.kvfs import name_of
from kvfs_bench.mount.local import FOOTING, WARM
from kvfs_bench.mount.peers import RATARMOUNT, SQUASHFUSE
from kvfs_bench.mount.works import work_of
from kvfs_bench.results import Ratio, SuiteResult

OURS = name_of("lmdb", "fuse")
PYFUSE3 = name_of("lmdb", "pyfuse3")
WORKERS = name_of("lmdb", "fuse, 2 workers")
NATIVE = "C server on lmdb, no push"
_MIB = 1 << 20


@attrs.frozen(kw_only=True)
class Finding:
    """One line of the table of goals."""

    work: str
    goal: str
    measured: str
    met: bool | None
    """``None``: this run cannot say, because somebody it takes did not take part."""


@attrs.frozen(kw_only=True)
class Faster:
    """One contestant is to be at least so many times as fast as another at one work."""

    row: str
    at_least: float
    than: str
    who: str = OURS

    def judge(self, result: SuiteResult) -> Finding:
        """Against what was measured."""
        goal = f">= {self.at_least:g}x {self.than}"
        goal = goal if self.who == OURS else f"{self.who}: {goal}"
        own, other = result.find(self.row, self.who), result.find(self.row, self.than)
        for name, measurement in ((self.who, own), (self.than, other)):
            if measurement is None or not measurement.wall_s:
                why = measurement.remark if measurement is not None else ""
                why = why or result.missing.get(name, "") or "not in this run"
                return Finding(work=self.row, goal=goal, measured=f"{name}: {why}", met=None)
        assert own is not None
        assert other is not None
        ratio = Ratio.between(own, other)
        if ratio is None:
            return Finding(work=self.row, goal=goal, measured="no round in common", met=None)
        text = f"{ratio.median:.2f}x ({ratio.worst:.2f} - {ratio.best:.2f})"
        return Finding(work=self.row, goal=goal, measured=text, met=ratio.median >= self.at_least)


@attrs.frozen(kw_only=True)
class FewRequests:
    """At most so many requests reach user space for each file."""

    row: str
    at_most: float

    def judge(self, result: SuiteResult) -> Finding:
        """Against what the server counted."""
        goal = f"<= {self.at_most:g} requests a file"
        own = result.find(self.row, OURS)
        each = None if own is None else own.per(own.requests)
        if own is None or each is None:
            return Finding(work=self.row, goal=goal, measured="not counted", met=None)
        return Finding(work=self.row, goal=goal, measured=f"{each:.3f}", met=each <= self.at_most)


@attrs.frozen(kw_only=True)
class FlatMemory:
    """Anonymous memory of each worker stays below a bound, and does not grow from work to work."""

    mib_max: int
    growth_max: float
    """Highest over lowest, of all works."""

    def judge(self, result: SuiteResult) -> Finding:
        """Against the peaks of all works over all inputs."""
        goal = f"<= {self.mib_max} MiB a worker, flat (highest <= {self.growth_max:g}x lowest)"
        peaks = [
            (item.peak_bytes["anonymous"] / _MIB, item.peak_bytes["total"] / _MIB)
            for item in result.measurements
            if item.contestant in (OURS, WORKERS) and item.peak_bytes
        ]
        if not peaks:
            return Finding(work="daemon memory", goal=goal, measured="not measured", met=None)
        low, high = min(peaks)[0], max(peaks)[0]
        mapped = max(total for _, total in peaks)
        return Finding(
            work="daemon memory",
            goal=goal,
            measured=f"anonymous {low:.0f} - {high:.0f} MiB (with mapped pages {mapped:.0f})",
            met=high <= self.mib_max and high <= self.growth_max * low,
        )


Goal = Faster | FewRequests | FlatMemory


def _both(id_: str, turn: int, *than: tuple[float, str]) -> Iterable[Faster]:
    """The same for the compiled reader and for Python's."""
    for reader in ("c", "py"):
        for at_least, other in than:
            yield Faster(row=work_of(f"{id_}-{reader}").row(turn), at_least=at_least, than=other)


GOALS: tuple[Goal, ...] = (
    *_both(
        "read", 0, (0.9, FOOTING), (1.5, NATIVE), (7, PYFUSE3), (5, RATARMOUNT), (2, SQUASHFUSE)
    ),
    *_both("random", 0, (5, PYFUSE3), (3, RATARMOUNT)),
    Faster(row=work_of("read-c").row(1), at_least=0.9, than=WARM),
    Faster(row=work_of("read-py").row(1), at_least=1.0, than=WARM),
    Faster(row=work_of("find-size").row(0), at_least=0.9, than=WARM),
    Faster(row=work_of("ls").row(0), at_least=0.9, than=WARM),
    Faster(row=work_of("tar").row(0), at_least=0.5, than=WARM),
    Faster(row=work_of("crowd-c").row(0), at_least=1.5, than=OURS, who=WORKERS),
    Faster(row=work_of("crowd-py").row(0), at_least=1.5, than=OURS, who=WORKERS),
    FlatMemory(mib_max=150, growth_max=1.5),
    FewRequests(row=work_of("read-c").row(0), at_most=0.2),
)
"""In the terms of the project's goals for the mount."""


def judge(result: SuiteResult) -> list[dict[str, Any]]:
    """Every goal, for the report."""
    return [attrs.asdict(goal.judge(result)) for goal in GOALS]
