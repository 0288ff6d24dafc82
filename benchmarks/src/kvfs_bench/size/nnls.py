"""Linear least squares with coefficients that are not negative.

The active-set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23), on
the normal equations: for a handful of columns, each scaled to length 1, they are good enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_TOLERANCE = 1e-12
_ROUNDS_MAX = 1000


def nnls(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """The ``x`` of none below 0 with the smallest sum of ``(rows @ x - values) ** 2``.

    A column of zeros gets 0.
    """
    width = len(rows[0])
    scales = [math.sqrt(sum(row[n] ** 2 for row in rows)) or 1.0 for n in range(width)]
    scaled = [[row[n] / scales[n] for n in range(width)] for row in rows]
    gram = [[sum(row[i] * row[j] for row in scaled) for j in range(width)] for i in range(width)]
    goal = [sum(row[n] * y for row, y in zip(scaled, values, strict=True)) for n in range(width)]
    least = _TOLERANCE * max(map(abs, goal), default=0.0)
    found = [0.0] * width
    free: list[int] = []
    for _ in range(_ROUNDS_MAX):
        gains = {n: goal[n] - _dot(gram[n], found) for n in range(width) if n not in free}
        best = max(gains, key=gains.__getitem__, default=None)
        if best is None or gains[best] <= least:
            break
        free.append(best)
        while (wanted := _solve(gram, goal, free)) is not None:
            if all(value > 0 for value in wanted):
                found = [0.0] * width
                for n, value in zip(free, wanted, strict=True):
                    found[n] = value
                break
            # As far towards it as none gets negative; those that reach 0 are fixed there.
            share = min(
                found[n] / (found[n] - value)
                for n, value in zip(free, wanted, strict=True)
                if value <= 0
            )
            for n, value in zip(free, wanted, strict=True):
                found[n] += share * (value - found[n])
            free = [n for n in free if found[n] > _TOLERANCE]
            found = [value if n in free else 0.0 for n, value in enumerate(found)]
        else:
            free.remove(best)  # it says what others say already
            break
    return [value / scale for value, scale in zip(found, scales, strict=True)]


def _dot(row: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(row, other, strict=True))


def _solve(
    gram: Sequence[Sequence[float]], goal: Sequence[float], free: Sequence[int]
) -> list[float] | None:
    """The solution in the free columns, by elimination; ``None``: they depend on each other."""
    lines = [[*(gram[i][j] for j in free), goal[i]] for i in free]
    size = len(lines)
    for column in range(size):
        pivot = max(range(column, size), key=lambda n: abs(lines[n][column]))
        lines[column], lines[pivot] = lines[pivot], lines[column]
        head = lines[column]
        if abs(head[column]) < _TOLERANCE:
            return None
        for line in lines[column + 1 :]:
            factor = line[column] / head[column]
            for n in range(column, size + 1):
                line[n] -= factor * head[n]
    found = [0.0] * size
    for n in reversed(range(size)):
        known = sum(lines[n][m] * found[m] for m in range(n + 1, size))
        found[n] = (lines[n][size] - known) / lines[n][n]
    return found
