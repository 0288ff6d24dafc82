"""How long is tried, and how long is waited."""

from __future__ import annotations

import os
from collections.abc import Callable

import attrs
import pytest

from kvfs.backing.remote.forking import PerProcess
from kvfs.backing.remote.retries import Throttled, repeated
from kvfs.errors import Invalid, NotFound, Unavailable
from kvfs.patience import Patience


class Clock:
    """Time that passes only by waiting."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds

    def patience(self, limits: Patience) -> Patience:
        """The same, by this clock and without chance."""
        return attrs.evolve(limits, sleep=self.sleep, clock=lambda: self.now_s, draw=lambda: 1.0)


def _failing(*errors: Exception) -> tuple[list[Exception], Callable[[], str]]:
    left = [*errors]

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return left, call


def test_waits_double_up_to_a_limit() -> None:
    clock = Clock()
    _, call = _failing(*[Unavailable("down")] * 5)
    patience = clock.patience(Patience(attempts=6, delay_first_s=1, delay_max_s=4, total_s=100))
    assert repeated(call, patience) == "done"
    assert clock.waits == [1, 2, 4, 4, 4]


def test_the_server_is_left_alone_as_long_as_it_asks() -> None:
    clock = Clock()
    _, call = _failing(Throttled("busy", after_s=7), Throttled("busy"))
    assert repeated(call, clock.patience(Patience(delay_first_s=1))) == "done"
    assert clock.waits == [8, 2]


@pytest.mark.parametrize(("attempts", "total_s", "made"), [(3, 1e6, 3), (99, 5, 3)])
def test_it_ends(attempts: int, total_s: float, made: int) -> None:
    clock = Clock()
    left, call = _failing(*[Unavailable("down")] * 50)
    limits = Patience(attempts=attempts, delay_first_s=1, delay_max_s=60, total_s=total_s)
    with pytest.raises(Unavailable):
        repeated(call, clock.patience(limits))
    assert 50 - len(left) == made


def test_longer_than_there_is_patience_is_not_waited() -> None:
    clock = Clock()
    _, call = _failing(Throttled("busy", after_s=3600))
    with pytest.raises(Throttled):
        repeated(call, clock.patience(Patience(total_s=30)))
    assert clock.waits == []


def test_what_does_not_help_is_not_repeated() -> None:
    clock = Clock()
    for error in (NotFound("gone"), Unavailable("TLS", retryable=False)):
        _, call = _failing(error)
        with pytest.raises(type(error)):
            repeated(call, clock.patience(Patience()))
    assert clock.waits == []


def test_limits_that_make_no_sense() -> None:
    with pytest.raises(Invalid):
        Patience(attempts=0)
    with pytest.raises(Invalid):
        Patience(total_s=-1)


def test_a_fork_has_its_own() -> None:
    made = PerProcess(os.getpid)
    assert made.made() is None
    assert made.get() == made.get() == made.made() == os.getpid()
    child = os.fork()
    if child == 0:
        os._exit(0 if made.made() is None and made.get() == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.get() == os.getpid()
