"""What KVFS does is what ext4 does: random histories of system calls, by several processes.

On a scratch volume, and inside tarballs that nobody has written to: all that the kernel was told of
those, it was told for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import site_in

from .grounds import GROUNDS
from .histories import load
from .soak import REPLAYS, histories
from .worlds import Pair, pair_in

STEPS = {"scratch": 150, "tarball": 60}
"""Of each history."""
PLACES = 200


@pytest.fixture(scope="module", params=GROUNDS)
def inside(request: pytest.FixtureRequest) -> str:
    """Where histories take place."""
    return str(request.param)


@pytest.fixture(scope="module")
def pair(inside: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """One pair for all histories; the binding is the one that can write."""
    directory = tmp_path_factory.mktemp("site")
    with site_in(directory, frontend="fuse") as site, pair_in(site, inside, places=PLACES) as made:
        yield made


def test_random_histories(pair: Pair, inside: str) -> None:
    """``make soak`` does a hundred thousand steps; here are a few, and the same ones each time."""
    for seed in (5, 6):
        histories(pair, seed=seed, steps=STEPS[inside])


@pytest.mark.parametrize("path", sorted(REPLAYS.glob("*.jsonl")), ids=lambda path: path.stem)
def test_what_once_differed(pair: Pair, path: Path) -> None:
    """The shortest histories that showed a difference, in places of both kinds."""
    for number in range(2):
        pair.run(iter(load(path)), number=number)
