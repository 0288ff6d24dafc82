"""Histories of what several threads or processes do to one store at the same time.

Each of them looks at a few keys and changes them in guarded batches, and writes down what it asked
for, when, and what it was told (:mod:`kvfs.testing.linearizability`).  Each batch also adds a key
of its own to a log, which tells afterwards which batches took place; a watch must tell of these.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from kvfs.errors import Conflict, Stale, Unavailable
from kvfs.kv.driver import Batch, ReadView
from kvfs.kv.store import KVStore, prefix_end
from kvfs.testing.harness import KVHarness
from kvfs.testing.linearizability import Operation, Outcome, Values, check

KEYS = (b"a", b"b", b"c", b"d")
LOG = b"log/"
_LOG_STOP = prefix_end(LOG)
END = LOG + b"end"
_LOOKS = 0.35
_DELETES = 0.2
_WAIT_S = 60


@attrs.frozen
class Entry:
    """An operation, and the key that it adds to the log; ``None``: it is a read."""

    operation: Operation
    logged: bytes | None = None

    def dump(self) -> list[Any]:
        """As JSON can hold it."""
        operation = self.operation
        returned_s = None if operation.returned_s == math.inf else operation.returned_s
        return [
            operation.process,
            operation.invoked_s,
            returned_s,
            operation.outcome.value,
            _dump(operation.guards),
            _dump(operation.writes),
            None if self.logged is None else self.logged.hex(),
        ]

    @classmethod
    def load(cls, dumped: Sequence[Any]) -> Entry:
        """Out of what :meth:`dump` made."""
        process, invoked_s, returned_s, outcome, guards, writes, logged = dumped
        operation = Operation(
            process=process,
            invoked_s=invoked_s,
            returned_s=math.inf if returned_s is None else returned_s,
            outcome=Outcome(outcome),
            guards=_load(guards),
            writes=_load(writes),
        )
        return cls(operation, None if logged is None else bytes.fromhex(logged))


def _dump(values: Values) -> dict[str, str | None]:
    return {key.hex(): None if value is None else value.hex() for key, value in values.items()}


def _load(values: dict[str, str | None]) -> Values:
    return {
        bytes.fromhex(key): None if value is None else bytes.fromhex(value)
        for key, value in values.items()
    }


class Worker:
    """Looks and writes, as a seed says, and keeps the history."""

    def __init__(self, store: KVStore, *, process: int, seed: int) -> None:
        self._store = store
        self._process = process
        self._random = random.Random(seed)
        self._seen: dict[bytes, bytes | None] = dict.fromkeys(KEYS)
        self.history: list[Entry] = []

    def work(self, count: int) -> list[Entry]:
        """Do so many things; the history."""
        if not self._store.capability.snapshot:
            for number in range(count):
                self._step(number, self._look_at_one)
            return self.history
        with self._store.snapshot() as view:
            for number in range(count):
                self._step(number, lambda: self._look(view))
        return self.history

    def _step(self, number: int, look: Callable[[], None]) -> None:
        try:
            if self._random.random() < _LOOKS or not self._write(number):
                look()
        except (Unavailable, Stale):
            pass  # a read that failed says nothing

    def _saw(self, invoked_s: float, returned_s: float, values: Values) -> None:
        self._seen.update(values)
        operation = Operation(
            process=self._process, invoked_s=invoked_s, returned_s=returned_s, guards=values
        )
        self.history.append(Entry(operation))

    def _look_at_one(self) -> None:
        key = self._random.choice(KEYS)
        invoked_s = time.monotonic()
        value = self._store.get(key)
        self._saw(invoked_s, time.monotonic(), {key: value})

    def _look(self, view: ReadView) -> None:
        """All keys of one instant, which lies in the refresh, however late they are read."""
        invoked_s = time.monotonic()
        view.refresh()
        returned_s = time.monotonic()
        found = [(key, view.get(key)) for key in self._random.sample(KEYS, len(KEYS))]
        values = {key: None if value is None else bytes(value) for key, value in found}
        scanned = {bytes(key): bytes(value) for key, value in view.scan(KEYS[0], LOG)}
        assert scanned == {key: value for key, value in values.items() if value is not None}
        self._saw(invoked_s, returned_s, values)

    def _write(self, number: int) -> bool:
        """A guarded batch; was it applied?"""
        source = self._random
        guards = {key: self._seen[key] for key in source.sample(KEYS, source.randint(0, 2))}
        writes: dict[bytes, bytes | None] = {
            key: None if source.random() < _DELETES else b"%d.%d" % (self._process, number)
            for key in source.sample(KEYS, source.randint(1, 3))
        }
        logged = LOG + b"%d/%06d" % (self._process, number)
        batch = Batch(guards=dict(guards)).put(logged, b"")
        for key, value in writes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        outcome, returned_s = Outcome.OK, math.inf
        invoked_s = time.monotonic()
        try:
            self._store.commit(batch)
        except Conflict:
            outcome = Outcome.CONFLICT
        except Unavailable as error:
            if error.unapplied:
                return False
            outcome = Outcome.UNKNOWN
        if outcome is not Outcome.UNKNOWN:
            returned_s = time.monotonic()
        operation = Operation(
            process=self._process,
            invoked_s=invoked_s,
            returned_s=returned_s,
            outcome=outcome,
            guards=guards,
            writes=writes,
        )
        self.history.append(Entry(operation, logged))
        if outcome is Outcome.OK:
            self._seen.update(writes)
        return outcome is Outcome.OK


def listen(store: KVStore, ready: Callable[[], None]) -> tuple[list[bytes], bool]:
    """The keys that are added to the log, as a watch tells of them, up to :data:`END`.

    :param ready: called when the watch has begun.
    :returns: the keys, and whether all were told in order: not if some may have been missed.
    """
    told: list[bytes] = []
    in_order = True
    with store.watch(LOG, _LOG_STOP) as watch:
        ready()
        while END not in told:
            try:
                more = watch.wait(_WAIT_S)
            except Unavailable:
                continue
            except Stale:
                in_order = False
                more = [key for key, _ in store.scan_prefix(LOG)]
            else:
                assert more, f"not told of the end; of {len(told)} keys until now"
                for key in more:
                    assert store.get(key) is not None, f"told of {key!r}, which is not there"
            told += map(bytes, more)
    return told, in_order


def settle(store: KVStore, entries: Sequence[Entry]) -> list[Operation]:
    """The history with a last look at everything, when nobody writes any more.

    Of what had an unknown outcome it is known now whether it took place.
    """
    log = {key for key, _ in store.scan_prefix(LOG)}
    seen_s = time.monotonic()
    operations = []
    for entry in entries:
        operation, logged = entry.operation, entry.logged
        if logged is not None:
            if operation.outcome is Outcome.UNKNOWN:
                if logged not in log:
                    continue
                operation = attrs.evolve(operation, outcome=Outcome.OK, returned_s=seen_s)
            applied = operation.outcome is Outcome.OK
            assert (logged in log) is applied, f"half of a batch: {operation}"
        operations.append(operation)
    now_s = time.monotonic()
    values = dict(zip(KEYS, store.get_many(KEYS), strict=True))
    last = Operation(process=-1, invoked_s=now_s, returned_s=now_s, guards=values)
    return [*operations, last]


def check_told(told: Sequence[bytes], in_order: bool, entries: Iterable[Entry]) -> None:
    """A watch told of every batch that took place, of no other one, and in their order."""
    applied = {
        entry.logged: entry.operation
        for entry in entries
        if entry.logged is not None and entry.operation.outcome is Outcome.OK
    }
    unknown = {entry.logged for entry in entries if entry.operation.outcome is Outcome.UNKNOWN}
    assert applied.keys() - set(told) == set(), "batches that the watch did not tell of"
    assert set(told) - applied.keys() - unknown == {END}, "told of batches that did not take place"
    if not in_order:
        return
    first = {key: operation for key in dict.fromkeys(told) if (operation := applied.get(key))}
    latest_s = -math.inf
    for operation in first.values():
        assert operation.returned_s > latest_s, f"told too late: {operation}"
        latest_s = max(latest_s, operation.invoked_s)


@attrs.frozen
class Recorded:
    """What a run of several processes left."""

    entries: list[Entry]
    operations: list[Operation]
    """Of all processes, with a last look."""

    def count(self, outcome: Outcome) -> int:
        """How many batches had this outcome."""
        batches = [entry for entry in self.entries if entry.logged is not None]
        return sum(entry.operation.outcome is outcome for entry in batches)


def record_processes(
    harness: KVHarness,
    *,
    processes: int = 3,
    count: int = 40,
    seed: int = 0,
    meanwhile: Callable[[], object] = lambda: None,
) -> Recorded:
    """Let processes work on one store, and check that what they saw can be explained.

    :param count: how many things each does.
    :param meanwhile: called when they have begun, to disturb them.
    :raises NotLinearizable: it cannot.
    """
    workers = [
        harness.child("transact", process=number, count=count, seed=seed * processes + number)
        for number in range(processes)
    ]
    store = KVStore(harness.open(), name=harness.driver)
    listener = harness.child("listen") if store.capability.watch else None
    everybody = [*workers, *([] if listener is None else [listener])]
    for child in everybody:
        child.wait_until_ready()
    for child in everybody:
        child.go()
    meanwhile()
    entries = [Entry.load(dumped) for child in workers for dumped in child.answer()]
    operations = settle(store, entries)
    store.put(END, b"")
    if listener is not None:
        told, in_order = listener.answer()
        check_told([bytes.fromhex(key) for key in told], in_order, entries)
    check(operations)
    return Recorded(entries, operations)


__all__ = ["Recorded", "Worker", "check_told", "listen", "record_processes", "settle"]
