"""What the key-value suite found at one level of durability: rows of figures, round by round."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any, Final

import attrs

from kvfs_bench.kv.histogram import Histogram

KIND: Final = "engines"
"""What suites of this form call themselves in the JSON."""

PERCENTS: Final = (50.0, 90.0, 99.0, 99.9)

STATES: Final = {
    "empty": "into a new store",
    "warm": "put or read shortly before: in the kernel's page cache, and in the engine's own as "
    "far as it has one; reads were warmed up by the same work",
    "cold": "store closed, kernel caches dropped, opened anew by a new process: contents come from "
    "the disk",
    "closed": "the store had been closed well; its files are in the page cache",
    "killed": "the process that had it open was killed just after a commit; files in the page "
    "cache",
}
"""The cache states by the name that rows give."""


@attrs.frozen(kw_only=True)
class Figure:
    """A kind of number."""

    title: str
    unit: str
    more_is_better: bool = False


FIGURES: Final[Mapping[str, Figure]] = {
    "per_second": Figure(title="throughput", unit="/s", more_is_better=True),
    "p50_us": Figure(title="median latency", unit="us"),
    "p90_us": Figure(title="p90 latency", unit="us"),
    "p99_us": Figure(title="p99 latency", unit="us"),
    "p99.9_us": Figure(title="p99.9 latency", unit="us"),
    "max_us": Figure(title="longest latency", unit="us"),
    "client_cpu_us": Figure(title="client CPU for each", unit="us"),
    "server_cpu_us": Figure(title="server CPU for each", unit="us"),
    "write_amplification": Figure(title="bytes written per byte put", unit="x"),
    "space_amplification": Figure(title="bytes on disk per byte put", unit="x"),
    "disk_mib": Figure(title="on disk", unit="MiB"),
    "open_ms": Figure(title="time to open", unit="ms"),
    "close_ms": Figure(title="time to close", unit="ms"),
    "client_anonymous_mib": Figure(title="client memory, anonymous", unit="MiB"),
    "client_total_mib": Figure(title="client memory, with mapped files", unit="MiB"),
    "server_anonymous_mib": Figure(title="server memory, anonymous", unit="MiB"),
    "server_total_mib": Figure(title="server memory, with mapped files", unit="MiB"),
}
"""Every figure that a row may have, by its name in the JSON."""


@attrs.define(kw_only=True)
class Row:
    """One kind of work by one engine, at most once per round."""

    work: str
    family: str
    engine: str
    clients: str
    """``1``, ``4 threads`` or ``4 processes``."""
    loop: str
    """``closed``, ``open, 50 %`` of what the closed loop reached in the round, or ``once``."""
    state: str
    """A key of :data:`STATES`."""
    unit: str
    rounds: list[int] = attrs.field(factory=list)
    figures: dict[str, list[float]] = attrs.field(factory=dict)
    """Name of a figure -> its values, one for each round where it could be had."""
    histogram: Histogram = attrs.field(factory=Histogram)
    """Latencies of all rounds together."""
    remark: str = ""
    """Why there are no figures, or fewer."""

    def add(self, name: str, value: float | None) -> None:
        """One more round of a figure."""
        assert name in FIGURES, name
        if value is not None:
            self.figures.setdefault(name, []).append(value)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        medians = {name: statistics.median(values) for name, values in self.figures.items()}
        form = attrs.asdict(self, filter=lambda field, _: field.name != "histogram")
        return form | {"medians": medians, "histogram": self.histogram.as_dict()}


@attrs.define(kw_only=True)
class KVResult:
    """All rows of one level of durability; rows of different levels never share a table."""

    durability: str
    scale: float
    rounds: int
    seconds: float
    seed: int
    readers: int
    sizes: dict[str, int]
    engines: dict[str, dict[str, Any]] = attrs.field(factory=dict)
    """Who took part: one line about it, versions, whether a server answers, what the user set."""
    not_run: dict[str, str] = attrs.field(factory=dict)
    works: dict[str, str] = attrs.field(factory=dict)
    """What each work is, in the order of the tables."""
    rows: list[Row] = attrs.field(factory=list)
    checks: dict[str, int] = attrs.field(factory=dict)
    """How often each kind of answer was compared with the truth; a wrong one ends the run."""
    notes: list[str] = attrs.field(factory=list)

    def row(self, row: Row) -> Row:
        """The row of the same work, or this one if there was none."""
        key = (row.work, row.engine, row.clients, row.loop)
        for other in self.rows:
            if (other.work, other.engine, other.clients, other.loop) == key:
                return other
        self.rows.append(row)
        return row

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the name and the title of the suite."""
        used = {row.state for row in self.rows}
        form = attrs.asdict(self, filter=lambda field, _: field.name != "rows", recurse=False)
        return form | {
            "kind": KIND,
            "suite": f"kv-{self.durability}",
            "title": f"Key-value engines, durability {self.durability}",
            "rows": [row.as_dict() for row in self.rows],
            "states": {name: text for name, text in STATES.items() if name in used},
        }
