"""What is in a file is what was put there, by whatever calls."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from .conftest import Sealed
from .fsx import Checker


class Run(NamedTuple):
    """How large the file and the changes are."""

    size_max: int
    piece_max: int
    calls: int


RUNS = {
    "small: in its record and out of it": Run(12_000, 4_000, 800),
    "some extents": Run(1 << 20, 1 << 16, 800),
    "large and sparse": Run(24 << 20, 1 << 18, 150),
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_changes(place: Path, name: str, seed: int) -> None:
    """The same calls each time."""
    sizes = RUNS[name]
    checker = Checker(place / "file", seed, size_max=sizes.size_max, piece_max=sizes.piece_max)
    try:
        checker.run(sizes.calls)
    finally:
        checker.close()


@pytest.mark.parametrize("name", RUNS)
def test_random_changes_over_what_was_fetched(sealed: Sealed, name: str) -> None:
    """Of a file in a tarball, of which the kernel has some pages."""
    sizes = RUNS[name]
    path, holds = sealed.file(sizes.size_max // 2)
    with path.open("rb") as file:
        file.read(sizes.size_max // 4)
    checker = Checker(path, 3, size_max=sizes.size_max, piece_max=sizes.piece_max, holds=holds)
    try:
        checker.run(sizes.calls)
    finally:
        checker.close()
