"""Formulas: what a size is made of, how sure that is, and what it predicts.

A formula is a sum of amounts times bytes, none of them negative.  Its fit minimizes the squares of
errors, each by how much larger the point is than the smallest: sizes differ by a factor of
thousands, and the growth of each counts as much.

Memory often grows until buffers are full, and then no more.  Such a term counts what is stored, but
no more than a cap, a power of two; the cap that predicts best is taken.

Terms that explain nothing are left out: as long as leaving one out raises the error of prediction
by less than :data:`WORTH`, it goes.  So a size that does not grow with the number of files comes
out without that number.

The error of a formula is that of prediction: each point is predicted by one fitted to the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from kvfs_bench.size.nnls import nnls

CONSTANT = "constant"
"""The amount that is 1 in every point."""
STORED = "stored"
"""An amount: keys and values, in bytes."""
BUFFERED = "buffered"
"""The term of what is stored, up to the cap of the formula."""
WORTH = 0.05
"""A term stays if the error of prediction would be larger by this part without it."""
_CAPS = tuple(1 << shift for shift in range(19, 29))
_EXACT = 0.001
"""Errors below are none: no term is kept for the sake of a tenth of a percent."""
_SURE = 0.05
"""No point is more certain than to this part of the smallest value."""

Amounts = Mapping[str, float]
"""How much there is of everything, by the name of the term."""


@attrs.frozen
class Point:
    """Something that was measured."""

    amounts: Amounts
    value: float
    """In bytes."""
    is_anchor: bool = False
    """Part of every fit, and no part of the errors: the empty volume, which gives the constant."""


@attrs.frozen(kw_only=True)
class Formula:
    """A size in bytes as a function of amounts."""

    coefficients: Mapping[str, float]
    """Bytes for one of each; terms without influence are not there."""
    cap: int | None = None
    """Of the term :data:`BUFFERED`, in bytes."""
    error: float = 0.0
    """Root of the mean square of relative errors, each point predicted from the others."""
    error_worst: float = 0.0
    """The largest of them."""
    low: Mapping[str, float] = attrs.field(factory=dict)
    """The smallest of each coefficient among the fits that leave one point out."""
    high: Mapping[str, float] = attrs.field(factory=dict)
    """The largest."""

    def predict(self, amounts: Amounts) -> float:
        """The size, in bytes."""
        known = _complete(amounts, self.cap)
        return sum(each * known[term] for term, each in self.coefficients.items())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return attrs.asdict(self)

    @classmethod
    def of_dict(cls, form: Mapping[str, Any]) -> Self:
        """Out of what :meth:`as_dict` gave, and whatever else is there."""
        return cls(**{field.name: form[field.name] for field in attrs.fields(cls)})


def fit(points: Sequence[Point], terms: Sequence[str]) -> Formula:
    """The formula in some of these terms and a constant that predicts best.

    :param points: at least two that are no anchors; values above 0.
    """
    cap = _best_cap(points) if BUFFERED in terms else None
    known = [attrs.evolve(point, amounts=_complete(point.amounts, cap)) for point in points]
    # A term that never changes cannot be told from the constant.
    left = [term for term in terms if len({point.amounts.get(term, 0.0) for point in known}) > 1]
    best = _Trial.of(known, left)
    while left:
        tries = {
            term: _Trial.of(known, [other for other in left if other != term]) for term in left
        }
        least = min(tries, key=lambda term: tries[term].loss)
        if tries[least].loss > best.loss * (1 + WORTH) and tries[least].error > _EXACT:
            break
        left.remove(least)
        best = tries[least]
    whole = {term: value for term, value in _coefficients(known, left).items() if value > 0}
    return Formula(
        coefficients=whole,
        cap=cap if BUFFERED in whole else None,
        error=best.error,
        error_worst=max(map(abs, best.errors)),
        low={term: min(one[term] for one in best.fits) for term in whole},
        high={term: max(one[term] for one in best.fits) for term in whole},
    )


def _complete(amounts: Amounts, cap: int | None) -> dict[str, float]:
    """With the constant, and what is buffered."""
    found = {CONSTANT: 1.0, **amounts}
    if cap is not None:
        found[BUFFERED] = min(amounts[STORED], cap)
    return found


def _best_cap(points: Sequence[Point]) -> int | None:
    """The cap with which that term alone predicts best; ``None``: no point is above any, so that
    nobody could tell whether there is one."""
    errors = {}
    most = max(point.amounts[STORED] for point in points)
    for cap in _CAPS:
        if cap < most:
            known = [attrs.evolve(point, amounts=_complete(point.amounts, cap)) for point in points]
            errors[cap] = _Trial.of(known, [BUFFERED]).error
    return min(errors, key=errors.__getitem__, default=None)


@attrs.frozen
class _Trial:
    """How well some terms predict."""

    loss: float
    """Root of the mean square of errors, each by what its point weighs."""
    errors: Sequence[float]
    """Relative errors, of each point but the anchors."""
    fits: Sequence[Mapping[str, float]]
    """Coefficients without each of these points."""

    @property
    def error(self) -> float:
        """Root of the mean square of relative errors."""
        return _root_mean_square(self.errors)

    @classmethod
    def of(cls, points: Sequence[Point], terms: Sequence[str]) -> Self:
        """Leave out one point after another, and predict it."""
        losses, errors, fits = [], [], []
        weights = _weights(points)
        for number, point in enumerate(points):
            if not point.is_anchor:
                found = _coefficients([*points[:number], *points[number + 1 :]], terms)
                fits.append(found)
                predicted = sum(each * point.amounts[term] for term, each in found.items())
                losses.append((predicted - point.value) * weights[number])
                errors.append(predicted / point.value - 1)
        return cls(_root_mean_square(losses), errors, fits)


def _weights(points: Sequence[Point]) -> list[float]:
    """What an error of a byte counts."""
    base = min(point.value for point in points)
    return [1 / (point.value - base + _SURE * base) for point in points]


def _coefficients(points: Sequence[Point], terms: Sequence[str]) -> dict[str, float]:
    names = [CONSTANT, *terms]
    weights = _weights(points)
    rows = [
        [point.amounts[name] * weight for name in names]
        for point, weight in zip(points, weights, strict=True)
    ]
    values = [point.value * weight for point, weight in zip(points, weights, strict=True)]
    return dict(zip(names, nnls(rows, values), strict=True))


def _root_mean_square(errors: Sequence[float]) -> float:
    return math.sqrt(sum(error * error for error in errors) / len(errors))
