"""Locks of programs on several hosts, over each engine: no two have the same, the dead none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvfs.testing.places import Place

from .locking import Pair, begin_to_wait

COUNTS = 25


@pytest.fixture(scope="module")
def pair(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two hosts with a volume of their own."""
    with Pair.over(place, tmp_path_factory.mktemp("locks")) as pair:
        yield pair


def test_flock(pair: Pair) -> None:
    one, other = pair.lockers("read-only")
    assert one.ask("flock exclusive now") == "done"
    assert other.ask("flock shared now") == "EAGAIN"
    assert one.ask("flock shared now") == "done"
    assert other.ask("flock shared now") == "done"
    assert one.ask("flock exclusive now") == "EAGAIN"
    assert other.ask("flock none now") == "done"
    assert one.ask("flock exclusive now") == "done"


def test_who_waits_gets_it(pair: Pair) -> None:
    one, other = pair.lockers()
    assert one.ask("posix exclusive now 0 0") == "done"
    begin_to_wait(pair.other, other, "posix exclusive wait 0 0")
    assert one.ask("posix none now 0 0") == "done"
    assert other.answer() == "done"


def test_many_count(pair: Pair) -> None:
    name = pair.file()
    programs = [pair.locker(host, name) for host in (pair.one, pair.other) * 2]
    for program in programs:
        program.begin(f"count {COUNTS}")
    assert [program.answer() for program in programs] == ["done"] * len(programs)
    for host in (pair.one, pair.other):
        assert (host.mnt / name).read_text() == str(COUNTS * len(programs))


def test_a_host_dies(pair: Pair) -> None:
    name, third = pair.file(), pair.third()
    dying = pair.locker(third, name)
    assert dying.ask("flock exclusive now") == "done"
    assert pair.flock(pair.one, name, "--nonblock", "true") == 1
    third.kill()
    assert pair.flock(pair.one, name, "true") == 0
    assert pair.flock(pair.other, name, "--nonblock", "true") == 0
