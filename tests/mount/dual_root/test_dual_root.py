"""What KVFS does is what ext4 does: random histories of system calls, by several processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import Site

from .histories import load
from .soak import REPLAYS, histories
from .worlds import Pair, pair_in

STEPS = 300


@pytest.fixture(scope="module")
def frontend() -> str:
    """The binding that can change things."""
    return "fuse"


@pytest.fixture(scope="module")
def pair(shared_site: Site) -> Iterator[Pair]:
    """One pair for all histories: each has directories of its own."""
    with pair_in(shared_site) as made:
        yield made


def test_random_histories(pair: Pair) -> None:
    """``make soak`` does a hundred thousand steps; here are a few, and the same ones each time."""
    histories(pair, seed=5, steps=STEPS)


@pytest.mark.parametrize("path", sorted(REPLAYS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_what_once_differed(pair: Pair, path: Path) -> None:
    """The shortest histories that showed a difference."""
    pair.run(iter(load(path)))
