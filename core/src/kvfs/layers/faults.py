"""The layer ``faults``: makes a store misbehave, according to a plan.

A :class:`FaultPlan` is a seed and a list of :class:`Fault`.  Whether a fault strikes the n-th call
of an operation depends on the seed, the fault, the operation and n, and on nothing else: two runs
of one plan over the same calls are the same, whatever other threads do.  Every fault that strikes
names the plan's seed and the call.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from enum import Enum, auto
from threading import Lock
from typing import Any, NoReturn, Self, TypeVar, cast

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.config import Seconds, setting, structure
from kvfs.errors import Exhausted, Invalid, Unavailable
from kvfs.kv.driver import KVDriver
from kvfs.layers.around import Around, BackingAround, KVAround, Measure, nothing

T = TypeVar("T")

ANY = "*"
EXIT_CODE = 86
"""The exit status of a process that ended by :attr:`Action.EXIT_BEFORE` or ``EXIT_AFTER``."""


class SimulatedCrash(BaseException):
    """The process is gone, as far as the store is concerned; it answers nothing any more.

    Not an ``Exception``: nobody can handle the end of their own process.
    """


class Action(Enum):
    """What goes wrong."""

    UNAVAILABLE = auto()
    """The call does not reach the store."""
    ANSWER_LOST = auto()
    """The call is done, but its answer is lost: the caller sees ``Unavailable`` as well."""
    EXHAUSTED = auto()
    """There is no room; the call is not done."""
    CRASH_BEFORE = auto()
    """:class:`SimulatedCrash`; the call is not done."""
    CRASH_AFTER = auto()
    """:class:`SimulatedCrash`; the call is done."""
    EXIT_BEFORE = auto()
    """The process really ends, without any cleaning up; the call is not done."""
    EXIT_AFTER = auto()
    """The process really ends, without any cleaning up; the call is done."""
    TRUNCATE = auto()
    """Only half of the bytes are read; a stream ends."""
    DELAY = auto()
    """The call takes ``delay`` longer."""


@attrs.frozen
class Fault:
    """One thing that goes wrong, at the n-th call of an operation or by chance."""

    operation: str = setting(help="as in kvfs.layers.around, as 'commit'; '*' for any")
    action: Action = setting(help="what goes wrong")
    nth: int | None = setting(None, help="at this call, counted from 1")
    probability: float = setting(0.0, help="with this probability at every call")
    delay: Seconds = setting(Seconds(0.01), help="how much longer the action delay takes")

    def __attrs_post_init__(self) -> None:
        if self.nth is not None and self.nth < 1:
            raise Invalid(f"calls are counted from 1, not {self.nth}")
        if not 0 <= self.probability <= 1:
            raise Invalid(f"{self.probability} is not a probability")


@attrs.define
class FaultPlan:
    """What goes wrong, and when.  Thread-safe.

    :param seed: decides all that is left to chance.
    :param sleep: injected by tests of delays.
    """

    seed: int
    faults: list[Fault] = attrs.field(factory=list)
    sleep: Callable[[float], None] = attrs.field(default=time.sleep, kw_only=True)
    injected: list[str] = attrs.field(factory=list, init=False)
    """What struck so far, as ``commit 3: crash_after``."""
    crashed: bool = attrs.field(default=False, init=False)
    wreckage: list[object] = attrs.field(factory=list, init=False)
    """What a simulated crash left unfinished; kept, so that nothing cleans it up."""
    _calls: Counter[str] = attrs.field(factory=Counter, init=False)
    _lock: Lock = attrs.field(factory=Lock, init=False, eq=False, repr=False)

    def add(
        self,
        operation: str,
        action: Action,
        *,
        nth: int | None = None,
        probability: float = 0.0,
        delay_s: float = 0.01,
    ) -> Self:
        """One more thing that goes wrong; see :class:`Fault`."""
        self.faults.append(Fault(operation, action, nth, probability, Seconds(delay_s)))
        return self

    def begin(self, operation: str) -> tuple[str, list[Fault]]:
        """Count a call: its name for messages, and the faults that strike it.

        :raises SimulatedCrash: there was one before.
        """
        with self._lock:
            if self.crashed:
                raise SimulatedCrash(f"fault plan of seed {self.seed}: crashed before")
            self._calls[operation] += 1
            self._calls[ANY] += 1
            due = [fault for at, fault in enumerate(self.faults) if self._due(at, fault, operation)]
            if not due:
                return operation, due
            call = f"{operation} {self._calls[operation]}"
            self.injected += [f"{call}: {fault.action.name.lower()}" for fault in due]
        return call, due

    def _due(self, at: int, fault: Fault, operation: str) -> bool:
        if fault.operation not in (operation, ANY):
            return False
        number = self._calls[fault.operation]
        if fault.nth == number:
            return True
        if not fault.probability:
            return False
        # A fresh generator per call: what other threads drew in between does not matter.
        drawn = random.Random(f"{self.seed} {at} {operation} {number}").random()
        return drawn < fault.probability

    def before(self, call: str, fault: Fault) -> None:
        """Do what the fault does before the call is done."""
        where = f"{call} (fault plan of seed {self.seed})"
        match fault.action:
            case Action.UNAVAILABLE:
                raise Unavailable(f"injected: not reached: {where}", unapplied=True)
            case Action.EXHAUSTED:
                raise Exhausted(f"injected: no room: {where}")
            case Action.DELAY:
                self.sleep(fault.delay)
            case Action.CRASH_BEFORE:
                self._crash(f"before {where}")
            case Action.EXIT_BEFORE:
                os._exit(EXIT_CODE)

    def after(self, call: str, fault: Fault) -> None:
        """Do what the fault does after the call is done."""
        where = f"{call} (fault plan of seed {self.seed})"
        match fault.action:
            case Action.ANSWER_LOST:
                raise Unavailable(f"injected: answer lost: {where}")
            case Action.CRASH_AFTER:
                self._crash(f"after {where}")
            case Action.EXIT_AFTER:
                os._exit(EXIT_CODE)

    def _crash(self, where: str) -> NoReturn:
        self.crashed = True
        raise SimulatedCrash(where)


@attrs.frozen
class FaultsSettings:
    """A plan in a configuration file; ``[[kv.layer.faults]]`` are its faults."""

    seed: int = setting(0, help="decides all that is left to chance")
    faults: tuple[dict[str, Any], ...] = setting((), help="tables with the settings of a fault")

    def plan(self) -> FaultPlan:
        """The plan.

        :raises Invalid: a table is not that of a fault.
        """
        return FaultPlan(self.seed, [_fault(table) for table in self.faults])


def _fault(table: Mapping[str, Any]) -> Fault:
    return structure(table, Fault, where="[[layer.faults]]")


@attrs.define
class Faults(Around):
    """Follows a plan."""

    plan: FaultPlan

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        call, due = self.plan.begin(operation)
        for fault in due:
            self.plan.before(call, fault)
        result = function()
        for fault in due:
            self.plan.after(call, fault)
            if fault.action is Action.TRUNCATE:
                result = _truncated(operation, result)
        return result

    def leaves_behind(self, writing: object, error: BaseException) -> bool:
        if isinstance(error, SimulatedCrash):
            self.plan.wreckage.append(writing)
            return True
        return False


def _truncated(operation: str, result: T) -> T:
    if isinstance(result, bytes | bytearray | memoryview):
        return cast(T, result[: len(result) // 2])
    if operation == "stream.read":
        return cast(T, 0)  # what readinto answers at the end of a stream
    return result


def inject_kv(driver: KVDriver, plan: FaultPlan) -> KVDriver:
    """An engine that follows a plan made in code."""
    return KVAround(driver, Faults(plan))


def inject_backing(driver: BackingDriver, plan: FaultPlan) -> BackingDriver:
    """A store of objects that follows a plan made in code."""
    return BackingAround(driver, Faults(plan))
