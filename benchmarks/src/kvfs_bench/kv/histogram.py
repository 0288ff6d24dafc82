"""Latencies in buckets of bounded relative width, as in Gil Tene's HdrHistogram.

Values up to 255 ns have a bucket each; above, each power of two is cut into 128.  A value is
reported as the middle of its bucket, so it is off by at most 1/256 (0.4 %); the largest is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import attrs

_PARTS = 128
_PARTS_BITS = 8
"""Bits that are kept of a value: one of them is the leading one."""
ERROR = 1 / (2 * _PARTS)
"""By how much a value that is reported may be off, as a part of it."""


def bucket_of(value_ns: int) -> int:
    """The number of the bucket of a value that is not negative."""
    shift = value_ns.bit_length() - _PARTS_BITS
    return value_ns if shift <= 0 else shift * _PARTS + (value_ns >> shift)


def middle_of(bucket: int) -> float:
    """The value in the middle of a bucket, in nanoseconds."""
    shift = max(bucket // _PARTS - 1, 0)
    return float(((bucket - shift * _PARTS) << shift) + ((1 << shift) - 1) / 2)


@attrs.define
class Histogram:
    """How many values fell into which bucket."""

    counts: Counter[int] = attrs.field(factory=Counter)
    max_ns: int = 0

    @classmethod
    def of(cls, values_ns: Sequence[int]) -> Self:
        """Of measured latencies."""
        return cls(Counter(map(bucket_of, values_ns)), max(values_ns, default=0))

    def add(self, other: Histogram) -> None:
        """Take over what another one counted."""
        self.counts.update(other.counts)
        self.max_ns = max(self.max_ns, other.max_ns)

    @property
    def total(self) -> int:
        """How many values there are."""
        return self.counts.total()

    def percentiles_ns(self, percents: Iterable[float]) -> list[float]:
        """For each percent, ascending, the value that so many percent of all do not exceed."""
        found: list[float] = []
        buckets = iter(sorted(self.counts.items()))
        passed, value = 0, 0.0
        for percent in percents:
            # Of 0 % that is the smallest value.
            while passed < min(max(self.total * percent / 100 - 1e-9, 1), self.total):
                bucket, count = next(buckets)
                passed += count
                value = min(middle_of(bucket), self.max_ns)
            found.append(value)
        return found

    def as_dict(self) -> dict[str, int]:
        """For JSON: bucket -> count, and ``max``."""
        return {"max": self.max_ns} | {str(key): self.counts[key] for key in sorted(self.counts)}

    @classmethod
    def from_dict(cls, form: Mapping[str, int]) -> Self:
        """Out of :meth:`as_dict`."""
        counts = {int(key): count for key, count in form.items() if key != "max"}
        return cls(Counter(counts), form["max"])
