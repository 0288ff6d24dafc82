"""What changed between two results beyond noise.

For each metric the rounds of both results are compared: Welch's t-test on logarithms, since times
and rates are positive and their noise is a factor.  Of the many metrics some would differ by chance
alone, so the p-values are adjusted together (Benjamini and Hochberg, 1995): of what is called a
change, about 5 % at most are none.  A rank test is not used because three rounds against three
cannot reach 5 % with it, however far apart they are.  A metric with fewer than two rounds on either
side has no noise to compare with, and nothing is said about it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from kvfs_bench.kv.result import FIGURES
from kvfs_bench.kv.result import KIND as ENGINES
from kvfs_bench.size.result import FIGURES as SIZE_FIGURES
from kvfs_bench.size.result import KIND as SIZES

FALSE_CHANGES = 0.05
"""Of all that is called a change, the part that may be none."""
_CONFIDENCE = 0.95
_TINY = 1e-12

Key = tuple[str, ...]
"""Suite, work, who, how, figure."""


@attrs.frozen
class Metric:
    """One figure in one result."""

    values: Sequence[float]
    more_is_better: bool


def metrics(report: Mapping[str, Any]) -> dict[Key, Metric]:
    """Every figure of a report in the present format, with its values by round."""
    found: dict[Key, Metric] = {}
    for suite in report["suites"]:
        of = _OF.get(suite["kind"], _of_times)
        for key, metric in of(suite):
            if all(value > 0 for value in metric.values):
                found[(suite["suite"], *key)] = metric
    return found


def _of_engines(suite: Mapping[str, Any]) -> Iterator[tuple[Key, Metric]]:
    for row in suite["rows"]:
        clients = "" if row["clients"] == "1" else f", {row['clients']}"
        loop = "" if row["loop"] in ("closed", "once") else f", {row['loop']}"
        work = f"{row['work']}{clients}{loop}"
        for name, values in row["figures"].items():
            # The very longest of all is noise by nature.
            if name != "max_us":
                figure = FIGURES[name]
                yield (work, row["engine"], figure.title), Metric(values, figure.more_is_better)


def _of_times(suite: Mapping[str, Any]) -> Iterator[tuple[Key, Metric]]:
    for item in suite["measurements"]:
        key = (item["work"], item["contestant"])
        for name, title in (
            ("wall_s", "time"),
            ("cpu_s", "client CPU"),
            ("server_cpu_s", "server CPU"),
            ("requests", "requests"),
        ):
            if item[name]:
                yield (*key, title), Metric(item[name], False)


def _of_sizes(suite: Mapping[str, Any]) -> Iterator[tuple[Key, Metric]]:
    """Each volume's sizes, by round; two rounds have volumes that differ in their contents only."""
    found: dict[Key, list[float]] = {}
    for point in suite["points"]:
        held = f", {point['amounts']['open']:g} open" if "open" in point["amounts"] else ""
        tarballs = f", {point['amounts']['tarballs']:g} tarballs" if held else ""
        work = f"{point['label']}{tarballs}{held}"
        for name, value in point["figures"].items():
            key: Key = (work, point["engine"], SIZE_FIGURES[name].title)
            found.setdefault(key, []).append(value)
    for key, values in found.items():
        yield key, Metric(values, False)


_OF: Mapping[str, Callable[[Mapping[str, Any]], Iterator[tuple[Key, Metric]]]] = {
    ENGINES: _of_engines,
    SIZES: _of_sizes,
}
"""By the kind of a suite; the others are of times."""


@attrs.frozen(kw_only=True)
class Change:
    """One metric in both."""

    key: Key
    before: float
    after: float
    """Medians."""
    ratio: float
    """After by before, of geometric means."""
    low: float | None
    high: float | None
    """Ends of its 95 % confidence interval; ``None``: too few rounds."""
    p: float | None
    """That chance alone makes as large a difference; adjusted for the number of metrics."""
    more_is_better: bool

    @property
    def is_real(self) -> bool:
        """Is it beyond noise?"""
        return self.p is not None and self.p <= FALSE_CHANGES

    @property
    def slowdown(self) -> float:
        """By which factor it got worse; below 1: better."""
        return 1 / self.ratio if self.more_is_better else self.ratio


def compare(before: Mapping[Key, Metric], after: Mapping[Key, Metric]) -> list[Change]:
    """Every metric that both have, the largest change first."""
    keys = [key for key in before if key in after]
    tests = [_welch(before[key].values, after[key].values) for key in keys]
    adjusted = iter(adjust([test.p for test in tests if test.p is not None]))
    found = []
    for key, test in zip(keys, tests, strict=True):
        found.append(
            Change(
                key=key,
                before=statistics.median(before[key].values),
                after=statistics.median(after[key].values),
                ratio=test.ratio,
                low=test.low,
                high=test.high,
                p=None if test.p is None else next(adjusted),
                more_is_better=after[key].more_is_better,
            )
        )
    return sorted(found, key=lambda change: -abs(math.log(change.ratio)))


@attrs.frozen
class _Test:
    ratio: float
    low: float | None = None
    high: float | None = None
    p: float | None = None


def _welch(before: Sequence[float], after: Sequence[float]) -> _Test:
    """Welch's t-test of the logarithms; degrees of freedom after Satterthwaite."""
    a, b = [[math.log(value) for value in values] for values in (before, after)]
    difference = statistics.fmean(b) - statistics.fmean(a)
    ratio = math.exp(difference)
    if min(len(a), len(b)) < 2:
        return _Test(ratio)
    parts = [statistics.variance(values) / len(values) for values in (a, b)]
    error = math.sqrt(sum(parts))
    if error < _TINY:
        # The same in each round, as sizes may be: any difference is real.
        return _Test(ratio, ratio, ratio, 1.0 if abs(difference) < _TINY else 0.0)
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (a, b), strict=True)
    )
    p = student_tails(difference / error, freedom)
    margin = error * student_quantile(_CONFIDENCE, freedom)
    return _Test(ratio, math.exp(difference - margin), math.exp(difference + margin), p)


def adjust(values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the part of false discoveries is bounded (Benjamini-Hochberg)."""
    order = sorted(range(len(values)), key=lambda number: values[number], reverse=True)
    found, lowest = [1.0] * len(values), 1.0
    for passed, number in enumerate(order):
        lowest = min(lowest, values[number] * len(values) / (len(values) - passed))
        found[number] = lowest
    return found


# -- Student's t -----------------------------------------------------------------------------------


def student_tails(t: float, freedom: float) -> float:
    """The probability that |T| is at least |t|: ``I(f / (f + t^2); f / 2, 1 / 2)``."""
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def student_quantile(inside: float, freedom: float) -> float:
    """The t within which |T| is with that probability; by bisection."""
    low, high = 0.0, 1.0
    while student_tails(high, freedom) > 1 - inside:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        if student_tails(middle, freedom) > 1 - inside:
            low = middle
        else:
            high = middle
    return high


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularized incomplete beta function; its continued fraction (DLMF 8.17.22) by Lentz."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    scale = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(1, 1000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _not_zero(1 + term * d)
        c = _not_zero(1 + term / c)
        fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return scale / (a * fraction)


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
