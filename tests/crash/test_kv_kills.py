"""Every durable engine that is installed, at every durability that it declares, under ``kill -9``.

A few kills of each; ``make crash`` makes a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.testing.crash.places import Place, capability_of, durable_engines
from kvfs.testing.places import local_settings

SEED = 20_261_121
KILLS, KILLS_BELOW = 3, 2
"""Of each kind: at the best durability of an engine; at each of the others, and of servers."""


ENGINES = durable_engines()
MANY_WRITERS = [name for name in ENGINES if capability_of(name).multi_process_write]
SERVED = [name for name in ENGINES if local_settings(name, Path("/")) is None]


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A directory, or a server, of an engine."""
    with Place.of(request.param, tmp_path_factory.mktemp("place")) as made:
        yield made


def test_there_are_engines() -> None:
    assert {"lmdb", "template"} <= {*ENGINES}
    assert "lmdb" in MANY_WRITERS


@pytest.mark.parametrize("place", ENGINES, indirect=True, scope="module")
def test_writers_are_killed(place: Place) -> None:
    for number, level in enumerate(place.levels()):
        kills = KILLS_BELOW if number else KILLS
        report = place.crash_run(level, seed=SEED).run(kills)
        assert report.kills == kills
        assert report.promised > 0
        assert level is Durability.MEMORY or report.forgotten == 0


@pytest.mark.parametrize("place", MANY_WRITERS, indirect=True, scope="module")
def test_one_of_several_writers_is_killed(place: Place) -> None:
    report = place.crash_run(place.levels()[0], seed=SEED, writers=3).run(KILLS)
    assert report.kills >= KILLS
    assert report.promised > 0


@pytest.mark.parametrize("place", SERVED, indirect=True, scope="module")
def test_the_server_is_killed(place: Place) -> None:
    report = place.crash_run(place.levels()[0], seed=SEED, kill_server=True).run(KILLS_BELOW)
    assert report.kills == KILLS_BELOW
    assert report.promised > 0
