"""Counters and histograms, cheap enough for hot paths; how far long work is.

Exporters are plugins.

A metric is written by plain attribute arithmetic under the interpreter lock: increments from
several threads at once may be lost rarely; statistics bear that better than hot paths bear locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import attrs


@attrs.define
class Counter:
    """A number that only grows."""

    value: int = 0

    def add(self, amount: int = 1) -> None:
        """Grow by ``amount``."""
        self.value += amount

    def merge(self, other: Counter) -> None:
        """Add what another one counted."""
        self.value += other.value

    def snapshot(self) -> dict[str, Any]:
        """The value, as JSON."""
        return {"value": self.value}


@attrs.define
class Histogram:
    """Durations in buckets of powers of two: bucket ``n`` counts those below ``2**n`` us."""

    count: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0
    buckets: list[int] = attrs.field(factory=lambda: [0] * 36)

    def record(self, seconds: float) -> None:
        """Count one duration."""
        self.count += 1
        self.sum_s += seconds
        self.max_s = max(self.max_s, seconds)
        self.buckets[min(int(seconds * 1e6).bit_length(), 35)] += 1

    @contextmanager
    def time(self) -> Iterator[None]:
        """Count how long the body takes, whether it raises or not."""
        start = perf_counter()
        try:
            yield
        finally:
            self.record(perf_counter() - start)

    def merge(self, other: Histogram) -> None:
        """Add what another one counted."""
        self.count += other.count
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)
        self.buckets = [sum(pair) for pair in zip(self.buckets, other.buckets, strict=True)]

    def quantile(self, fraction: float) -> float:
        """An upper bound in seconds for the given quantile, within a factor of two."""
        wanted = self.count * fraction
        seen = 0
        for exponent, number in enumerate(self.buckets):
            seen += number
            if seen >= wanted and seen:
                return min(2.0**exponent * 1e-6, self.max_s)
        return 0.0

    def snapshot(self) -> dict[str, Any]:
        """Count, mean, quantiles and maximum in seconds, as JSON."""
        return {
            "count": self.count,
            "mean_s": self.sum_s / self.count if self.count else 0.0,
            "p50_s": self.quantile(0.50),
            "p99_s": self.quantile(0.99),
            "max_s": self.max_s,
        }


Provider = Callable[[], dict[str, Any]]


@attrs.define
class Metrics:
    """The metrics of one volume, made on first use, by dotted name (``kv.sealed.get``).

    What is counted elsewhere joins in when a snapshot is taken: see :meth:`provide` and
    :meth:`include`.
    """

    _all: dict[str, Counter | Histogram] = attrs.field(factory=dict)
    _provided: dict[str, Provider] = attrs.field(factory=dict)
    _included: list[Callable[[], Iterable[Metrics]]] = attrs.field(factory=list)

    def counter(self, name: str) -> Counter:
        """The counter of that name."""
        metric = self._all.setdefault(name, Counter())
        assert isinstance(metric, Counter), f"{name} is a histogram"
        return metric

    def histogram(self, name: str) -> Histogram:
        """The histogram of that name."""
        metric = self._all.get(name)
        if metric is None:
            metric = self._all.setdefault(name, Histogram())
        assert isinstance(metric, Histogram), f"{name} is a counter"
        return metric

    def provide(self, name: str, value: Provider) -> Callable[[], None]:
        """Have snapshots contain under ``name`` what ``value`` returns: an object of JSON.

        :param value: called by whoever takes a snapshot, in any thread.
        :returns: ends that.
        """
        self._provided[name] = value
        return lambda: self._withdraw(name, value)

    def _withdraw(self, name: str, value: Provider) -> None:
        if self._provided.get(name) is value:
            del self._provided[name]

    def include(self, others: Callable[[], Iterable[Metrics]]) -> Callable[[], None]:
        """Have snapshots add what other processes counted for the same volume.

        :param others: called by whoever takes a snapshot, in any thread.
        :returns: ends that.
        """
        self._included.append(others)
        return lambda: self._included.remove(others)

    def detached(self) -> Metrics:
        """What was counted here, without what others provide; can be pickled."""
        return Metrics(dict(self._all))

    def merge(self, other: Metrics) -> None:
        """Add what another one counted."""
        for name, metric in [*other._all.items()]:
            if isinstance(metric, Counter):
                self.counter(name).merge(metric)
            else:
                self.histogram(name).merge(metric)

    def snapshot(self) -> dict[str, dict[str, Any]]:
        """Every metric that was used, by name, as JSON."""
        whole = self
        if self._included:
            whole = Metrics()
            whole.merge(self)
            for others in [*self._included]:
                for other in others():
                    whole.merge(other)
        found = {name: metric.snapshot() for name, metric in [*whole._all.items()]}
        found |= {name: value() for name, value in [*self._provided.items()]}
        return dict(sorted(found.items()))


@attrs.define
class Progress:
    """What is under way.  Written by one thread; others may read it at any time."""

    phase: str = ""
    """What is being done, and to what; empty before the beginning."""
    records: int = 0
    bytes: int = 0
    records_total: int | None = None
    """``None``: it is not known."""

    def begin(self, phase: str, records_total: int | None = None) -> None:
        """Another piece of work."""
        self.phase, self.records, self.bytes = phase, 0, 0
        self.records_total = records_total

    def saw(self, size: int) -> None:
        """One more record of so many bytes went by."""
        self.records += 1
        self.bytes += size
