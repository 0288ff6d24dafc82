"""Is there an order of transactions that explains what everybody saw?

A history of concurrent transactions is *linearizable* if each can be given an instant between its
invocation and its return, so that done one after another at these instants they have the results
that were seen (Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects",
TOPLAS 1990).  As a transaction here spans keys, this is strict serializability of the store.

The search is that of Wing and Gong ("Testing and verifying concurrent objects", JPDC 1993): take
any transaction that no other one wholly precedes, do it if the state allows, go on with the rest,
or back up.  Configurations, which are the transactions done with the state they led to, are tried
once (Lowe, "Testing for linearizability", CCPE 2017); this is what makes it fast enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

import attrs

Values = Mapping[bytes, bytes | None]
"""What keys hold; ``None``: nothing."""
State = tuple[bytes | None, ...]


class Outcome(Enum):
    """What whoever asked for a transaction was told."""

    OK = "ok"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"
    """Nothing: it took place after its invocation, at whatever time, or not at all."""


@attrs.frozen(kw_only=True)
class Operation:
    """One transaction: if the guards hold, the writes are made.

    A read is a transaction whose guards, the values that it saw, held, and which writes nothing.
    """

    process: int
    invoked_s: float
    """On a clock that all processes share."""
    returned_s: float = math.inf
    outcome: Outcome = Outcome.OK
    guards: Values = attrs.field(factory=dict)
    writes: Values = attrs.field(factory=dict)

    def __str__(self) -> str:
        """One line: who, when, what."""
        when = f"{self.invoked_s:.6f}-{self.returned_s:.6f}"
        what = f"if {_shown(self.guards)} then {_shown(self.writes)}"
        return f"{when} process {self.process}: {what}: {self.outcome.value}"


def _shown(values: Values) -> str:
    shown = (f"{key!r}={value!r}" for key, value in sorted(values.items()))
    return "{" + ", ".join(shown) + "}"


class NotLinearizable(AssertionError):
    """No order explains the history; the message says how far the best one got."""


@attrs.frozen
class _Step:
    """An operation, with its keys as places in the state."""

    operation: Operation
    guards: tuple[tuple[int, bytes | None], ...]
    writes: tuple[tuple[int, bytes | None], ...]

    @property
    def must_happen(self) -> bool:
        return self.operation.outcome is not Outcome.UNKNOWN

    def after(self, state: State) -> State | None:
        """The state after it; ``None``: it cannot have had its outcome in this one."""
        holds = all(state[place] == value for place, value in self.guards)
        if self.operation.outcome is Outcome.CONFLICT:
            return None if holds else state
        if not holds:
            return None
        changed = list(state)
        for place, value in self.writes:
            changed[place] = value
        return tuple(changed)


def _steps(history: Sequence[Operation]) -> tuple[list[_Step], list[bytes]]:
    keys = sorted(
        {key for operation in history for key in {**operation.guards, **operation.writes}}
    )
    place = {key: number for number, key in enumerate(keys)}

    def placed(values: Values) -> tuple[tuple[int, bytes | None], ...]:
        return tuple((place[key], value) for key, value in values.items())

    ordered = sorted(history, key=lambda operation: operation.invoked_s)
    return [_Step(one, placed(one.guards), placed(one.writes)) for one in ordered], keys


def _next(steps: Sequence[_Step], done: int) -> list[int]:
    """The steps that may come next: those that were invoked before any other one returned."""
    chosen = []
    first_return_s = math.inf
    # From the lowest one that is not done, which are the zero bits of ``done``.
    for number in range((~done & (done + 1)).bit_length() - 1, len(steps)):
        if done >> number & 1:
            continue
        operation = steps[number].operation
        if operation.invoked_s > first_return_s:
            break
        first_return_s = min(first_return_s, operation.returned_s)
        chosen.append(number)
    # What returned first is most likely to have happened first.
    return sorted(chosen, key=lambda number: steps[number].operation.returned_s)


def check(history: Sequence[Operation], initial: Values | None = None) -> None:
    """Pass if the history is linearizable.

    :param initial: what keys held before; by default all are absent.
    :raises NotLinearizable: it is not.
    """
    steps, keys = _steps(history)
    wanted = sum(1 << number for number, step in enumerate(steps) if step.must_happen)
    state: State = tuple((initial or {}).get(key) for key in keys)
    tried = {(0, state)}
    best, best_state = 0, state
    # Depth first: each level holds a configuration and the steps left to try from it.
    path: list[tuple[int, State, Iterator[int]]] = [(0, state, iter(_next(steps, 0)))]
    while path:
        done, state, left = path[-1]
        if done & wanted == wanted:
            return
        for number in left:
            after = steps[number].after(state)
            configuration = (done | 1 << number, after)
            if after is not None and configuration not in tried:
                tried.add((configuration[0], after))
                if configuration[0].bit_count() > best.bit_count():
                    best, best_state = configuration[0], after
                path.append((configuration[0], after, iter(_next(steps, configuration[0]))))
                break
        else:
            path.pop()
    reached = _shown(dict(zip(keys, best_state, strict=True)))
    stuck = "\n".join(f"  {steps[number].operation}" for number in _next(steps, best))
    raise NotLinearizable(
        f"no order explains the history of {len(steps)} transactions; "
        f"{best.bit_count()} of them lead to {reached}, and none of these can follow:\n{stuck}"
    )


__all__ = ["NotLinearizable", "Operation", "Outcome", "check"]
