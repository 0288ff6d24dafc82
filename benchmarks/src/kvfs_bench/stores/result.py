"""What was found out about stores, in the form that is written as JSON."""

from __future__ import annotations

import statistics
from typing import Any, Final

import attrs

from kvfs_bench.stores.checks import Check
from kvfs_bench.stores.works import Plan, Work

KIND: Final = "stores"
PERCENTS: Final = (50.0, 90.0, 99.0, 99.9)


@attrs.define(kw_only=True)
class StoreResult:
    """One driver at the place."""

    driver: str
    version: str
    """Of its distribution."""
    checks: list[Check] = attrs.field(factory=list)
    works: dict[str, Work] = attrs.field(factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "driver": self.driver,
            "version": self.version,
            "checks": [attrs.asdict(check) | {"text": check.text} for check in self.checks],
            "works": [_work(work) for work in self.works.values()],
        }


def _work(work: Work) -> dict[str, Any]:
    median_s = statistics.median(work.wall_s)
    found = work.latencies.percentiles_ns(PERCENTS)
    return {
        "work": work.work,
        "threads": work.threads,
        "operations": work.operations,
        "bytes_each": work.bytes_each,
        "wall_s": work.wall_s,
        "per_second": work.operations / median_s,
        "mib_per_second": work.operations * work.bytes_each / median_s / (1 << 20),
        "latency_ms": {f"{p:g}": ns / 1e6 for p, ns in zip(PERCENTS, found, strict=True)}
        | {"max": work.latencies.max_ns / 1e6},
        "histogram_ns": work.latencies.as_dict(),
    }


def as_dict(
    place: str, plan: Plan, stores: list[StoreResult], *, rounds: int, problems: dict[str, str]
) -> dict[str, Any]:
    """The whole suite.

    :param place: what is measured, as a person would call it.
    """
    return {
        "suite": "store",
        "kind": KIND,
        "title": f"Object store: {place}",
        "rounds": rounds,
        "plan": attrs.asdict(plan),
        "stores": [store.as_dict() for store in stores],
        "problems": problems,
    }
