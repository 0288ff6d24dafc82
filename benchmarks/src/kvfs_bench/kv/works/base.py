"""What a kind of work is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from random import Random
from typing import Any, NoReturn, TypeVar

import attrs

from kvfs.capability import Durability
from kvfs.errors import Corrupt
from kvfs.kv import KVStore
from kvfs_bench.kv.loops import Step
from kvfs_bench.kv.works.tree import Tree

T = TypeVar("T")

ONE, THREADS, PROCESSES = "1", "threads", "processes"


@attrs.frozen(kw_only=True)
class Sizes:
    """How much there is of everything."""

    files: int
    """Of the tree."""
    records: int
    """Of YCSB."""
    value_bytes: int
    """Values of one size in the sweep take so much together."""
    seed: int


@attrs.define(kw_only=True)
class Session:
    """An open store and what is known to be in it; lives as long as the store is open."""

    store: KVStore
    durability: Durability
    sizes: Sizes
    is_writer: bool = True
    """Is this the process that put everything that is there?"""
    checks: Counter[str] = attrs.field(factory=Counter)
    """How often each kind of answer was compared with the truth."""
    _kept: dict[str, Any] = attrs.field(factory=dict)

    @cached_property
    def tree(self) -> Tree:
        """What the tree is made of; the same in every process."""
        return Tree(self.sizes.files, self.sizes.seed)

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """What works leave for those that come after them, made by the first that asks."""
        if name not in self._kept:
            self._kept[name] = make()
        found: T = self._kept[name]
        return found

    def wrong(self, what: str) -> NoReturn:
        """An answer is not what was put."""
        raise Corrupt(f"{self.store.name}: {what}: a wrong answer has no speed")


class Task(ABC):
    """One run of a kind of work.  Making it is not timed."""

    def __init__(self, session: Session, rng: Random) -> None:
        self.session = session
        self.store = session.store
        self.durability = session.durability
        self.rng = rng
        self.items = 0
        """How much was done, where a step does not do one."""
        self.bytes_put = 0
        """Bytes of keys and values that were put."""

    @abstractmethod
    def step(self) -> Step:
        """A function that does one operation and checks its answer; one for each thread."""

    def supply(self) -> None:
        """Make ready for the next step while the clock stands still; for works that are not timed.

        Raises ``StopIteration`` when all is done.
        """
        raise NotImplementedError

    @abstractmethod
    def finish(self, steps: int) -> None:
        """After the clock: close what is open, check what can only be checked now."""

    def checked(self, kind: str, times: int) -> None:
        """So many answers were compared with the truth."""
        self.session.checks[kind] += times


@attrs.frozen(kw_only=True)
class Work:
    """A row of the tables."""

    id: str
    family: str
    """What ``--workload`` selects it by."""
    title: str
    summary: str
    unit: str
    dataset: str
    """``tree``, ``values`` or ``ycsb``: the store that it works on."""
    make: Callable[[Session, Random], Task]
    crews: tuple[str, ...] = (ONE,)
    open_loop: bool = False
    """Is its latency measured at fixed rates, too?"""
    is_timed: bool = True
    """Ends when the time is over; or else when all is done."""
    is_cold: bool = False
    has_writes: bool = True
