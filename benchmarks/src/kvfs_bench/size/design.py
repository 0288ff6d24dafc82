"""Which volumes are made: the sweep that formulas are fitted to, and one that is predicted."""

from __future__ import annotations

from typing import Final

import attrs

FITTED, LARGER, REAL, EMPTY = "fitted", "larger", "real", "empty"
ROLES: Final = {
    EMPTY: "a volume of one empty file; gives the constant",
    FITTED: "the formulas are fitted to it",
    LARGER: "predicted: three times as many files as the largest that was fitted",
    REAL: "predicted: the modules of Python's standard library, whose contents compress",
}
"""What a point is there for."""

FILES: Final = 100_000
"""Of the largest that is fitted, at scale 1; the smallest has a hundredth."""
SHARES: Final = (1.0, 0.3, 0.1, 0.03)
"""An engine that is too slow for all of them gets this part of the files, everywhere."""
FILES_MIN: Final = 12


@attrs.frozen(kw_only=True)
class Shape:
    """What one tarball is like."""

    files: int
    mean_bytes: int
    """Of files; sizes are log-normal, most files smaller than the mean.  0: all are empty."""
    name_bytes: int
    """Of names in the mean; lengths differ by up to a quarter of that."""
    per_directory: int
    """Files in a directory."""
    seed: int


@attrs.frozen
class _Cell:
    share: float
    """Of the largest number of files."""
    mean_bytes: int
    name_bytes: int
    per_directory: int


_KIB = 1 << 10
PILOT: Final = _Cell(0.01, 4 * _KIB, 20, 100)
"""Measured first: it tells how many files an engine can be given.  It is fitted like the rest."""
_CELLS: Final = (
    PILOT,
    _Cell(0.01, _KIB // 2, 8, 100),
    _Cell(0.01, 64 * _KIB, 200, 30),
    _Cell(0.03, 16 * _KIB, 60, 1000),
    _Cell(0.03, _KIB, 200, 100),
    _Cell(0.03, 64 * _KIB, 20, 300),
    _Cell(0.1, 0, 8, 100),
    _Cell(0.1, 4 * _KIB, 100, 1000),
    _Cell(0.1, 2 * _KIB, 30, 10),
    _Cell(0.1, 16 * _KIB, 20, 100),
    _Cell(0.3, _KIB, 8, 10_000),
    _Cell(0.3, 0, 200, 300),
    _Cell(1.0, _KIB // 2, 40, 1000),
)
"""Factors that are far apart in every combination of two, and no large volume of large files: each
number of files, size, length of names and size of directories is there more than once."""
_LARGER = _Cell(3.0, _KIB, 25, 200)


def _shape(cell: _Cell, files: int, seed: int) -> Shape:
    return Shape(
        files=max(round(files * cell.share), FILES_MIN),
        mean_bytes=cell.mean_bytes,
        name_bytes=cell.name_bytes,
        per_directory=cell.per_directory,
        seed=seed,
    )


def pilot(files: int, seed: int) -> Shape:
    """The first point of :func:`fitted`."""
    return _shape(PILOT, files, seed)


def fitted(files: int, seed: int) -> list[Shape]:
    """The points that are fitted, the smallest first.

    :param files: how many the largest one has.
    """
    return [_shape(cell, files, seed) for cell in _CELLS]


def empty(seed: int) -> Shape:
    """The smallest volume in which everything has begun that an engine begins with its first
    record, as logs and reserves."""
    return Shape(files=1, mean_bytes=0, name_bytes=8, per_directory=1, seed=seed)


def larger(files: int, seed: int) -> Shape:
    """The point that is predicted."""
    return _shape(_LARGER, files, seed)
