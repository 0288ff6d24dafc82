"""The checker of histories: on histories whose verdict is known, and against trying every order."""

from __future__ import annotations

import math
import random
from itertools import combinations, permutations

import pytest

from kvfs.testing.linearizability import NotLinearizable, Operation, Outcome, Values, check

A, B = b"a", b"b"


def _did(
    start_s: float,
    end_s: float,
    guards: Values | None = None,
    writes: Values | None = None,
    outcome: Outcome = Outcome.OK,
) -> Operation:
    return Operation(
        process=0,
        invoked_s=start_s,
        returned_s=end_s,
        guards=guards or {},
        writes=writes or {},
        outcome=outcome,
    )


def _lost(start_s: float, guards: Values, writes: Values) -> Operation:
    return _did(start_s, math.inf, guards, writes, Outcome.UNKNOWN)


LINEARIZABLE = {
    "nothing": [],
    "one after the other": [_did(0, 1, {}, {A: b"1"}), _did(2, 3, {A: b"1"})],
    "a read beside a write sees the old": [_did(0, 3, {}, {A: b"1"}), _did(1, 2, {A: None})],
    "a read beside a write sees the new": [_did(0, 3, {}, {A: b"1"}), _did(1, 2, {A: b"1"})],
    "a write in progress is seen by the second of two reads": [
        _did(0, 9, {}, {A: b"1"}),
        _did(1, 2, {A: None}),
        _did(3, 4, {A: b"1"}),
    ],
    "one of two rivals wins": [
        _did(0, 2, {A: None}, {A: b"1"}),
        _did(0, 2, {A: None}, {A: b"2"}, Outcome.CONFLICT),
        _did(3, 4, {A: b"1"}),
    ],
    "a conflict with what came and went": [
        _did(0, 3, {}, {A: b"1"}),
        _did(0, 3, {}, {A: None}),
        _did(1, 2, {A: None}, {B: b"1"}, Outcome.CONFLICT),
        _did(4, 5, {A: None, B: None}),
    ],
    "what was lost is applied much later": [
        _lost(0, {A: None}, {A: b"1"}),
        _did(1, 2, {A: None}),
        _did(3, 4, {A: b"1"}),
    ],
    "what was lost is never applied": [_lost(0, {}, {A: b"1"}), _did(1, 2, {A: None})],
    "equal times count as overlapping": [_did(0, 1, {}, {A: b"1"}), _did(1, 2, {A: None})],
}
NOT_LINEARIZABLE = {
    "a read of what was overwritten": [
        _did(0, 1, {}, {A: b"1"}),
        _did(2, 3, {}, {A: b"2"}),
        _did(4, 5, {A: b"1"}),
    ],
    "new, then old": [
        _did(0, 9, {}, {A: b"1"}),
        _did(1, 2, {A: b"1"}),
        _did(3, 4, {A: None}),
    ],
    "a lost update: both rivals win": [
        _did(0, 2, {A: None}, {A: b"1"}),
        _did(0, 2, {A: None}, {A: b"2"}),
    ],
    "write skew: each overwrites what the other looked at": [
        _did(0, 2, {A: None}, {B: b"1"}),
        _did(0, 2, {B: None}, {A: b"1"}),
    ],
    "half of a batch": [_did(0, 9, {}, {A: b"1", B: b"1"}), _did(1, 2, {A: b"1", B: None})],
    "two readers disagree about the order": [
        _did(0, 9, {}, {A: b"1"}),
        _did(0, 9, {}, {B: b"1"}),
        _did(1, 2, {A: b"1", B: None}),
        _did(1, 2, {A: None, B: b"1"}),
    ],
    "a conflict where the guard held": [_did(0, 1, {A: None}, {A: b"1"}, Outcome.CONFLICT)],
    "what was never written": [_did(0, 1, {A: b"1"})],
    "what was lost is applied twice": [
        _lost(0, {}, {A: b"1"}),
        _did(1, 2, {A: b"1"}),
        _did(3, 4, {}, {A: b"2"}),
        _did(5, 6, {A: b"1"}),
    ],
    "what was lost, before it was asked for": [
        _did(0, 1, {A: b"1"}),
        _lost(2, {}, {A: b"1"}),
    ],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_linearizable(name: str) -> None:
    check(LINEARIZABLE[name])
    check(LINEARIZABLE[name][::-1])  # the order in which they were written down says nothing


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_not_linearizable(name: str) -> None:
    with pytest.raises(NotLinearizable, match="no order explains"):
        check(NOT_LINEARIZABLE[name])


def test_what_was_there_before() -> None:
    check([_did(0, 1, {A: b"1"})], {A: b"1"})
    with pytest.raises(NotLinearizable):
        check([_did(0, 1, {A: b"1"})])


def test_message_says_what_does_not_fit() -> None:
    history = [_did(0, 1, {}, {A: b"1"}), _did(2, 3, {A: b"2"}, {B: b"1"})]
    with pytest.raises(NotLinearizable) as caught:
        check(history)
    assert "1 of them lead to {b'a'=b'1', b'b'=None}" in str(caught.value)
    assert "if {b'a'=b'2'} then {b'b'=b'1'}: ok" in str(caught.value)


def _explained(order: tuple[Operation, ...]) -> bool:
    """Is this an order that explains it all?"""
    state: dict[bytes, bytes | None] = {}
    for number, operation in enumerate(order):
        if any(later.returned_s < operation.invoked_s for later in order[number + 1 :]):
            return False
        holds = all(state.get(key) == value for key, value in operation.guards.items())
        if holds is (operation.outcome is Outcome.CONFLICT):
            return False
        if holds:
            state.update(operation.writes)
    return True


def _by_trying_all(history: list[Operation]) -> bool:
    sure = [operation for operation in history if operation.outcome is not Outcome.UNKNOWN]
    unknown = [operation for operation in history if operation.outcome is Outcome.UNKNOWN]
    return any(
        _explained(order)
        for size in range(len(unknown) + 1)
        for happened in combinations(unknown, size)
        for order in permutations((*sure, *happened))
    )


def _random_history(source: random.Random) -> list[Operation]:
    history = []
    for _ in range(source.randint(1, 5)):
        start_s = source.randint(0, 6)
        end_s: float = start_s + source.randint(0, 4)
        outcome = source.choice((Outcome.OK, Outcome.OK, Outcome.CONFLICT, Outcome.UNKNOWN))
        if outcome is Outcome.UNKNOWN:
            end_s = math.inf
        values = (None, b"1", b"2")
        guards = {key: source.choice(values) for key in (A, B) if source.random() < 0.5}
        writes = {key: source.choice(values) for key in (A, B) if source.random() < 0.5}
        history.append(_did(start_s, end_s, guards, writes, outcome))
    return history


def test_agrees_with_trying_every_order() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(3000):
        history = _random_history(random.Random(seed))
        expected = _by_trying_all(history)
        try:
            check(history)
            found = True
        except NotLinearizable:
            found = False
        assert found is expected, (seed, [*map(str, history)])
        verdicts[expected] += 1
    assert min(verdicts.values()) > 300, verdicts


def test_long_history_with_many_losses() -> None:
    """Memoisation: without it these would be more orders than can be tried."""
    history = []
    for number in range(300):
        value, before = b"%d" % number, b"%d" % (number - 1) if number else None
        history.append(_did(number, number + 2.5, {A: before}, {A: value}))
        if number % 20 == 0:
            history.append(_lost(number, {B: value}, {B: b"lost"}))
    check(history)
    history.append(_did(400, 401, {A: b"7"}))
    with pytest.raises(NotLinearizable):
        check(history)
