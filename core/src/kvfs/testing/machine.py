"""Any sequence of calls to a key-value engine, against a dictionary (hypothesis).

The dictionary is the whole specification: what a batch does, what a scan returns, what a view of
an earlier instant still shows.  Views stay open across commits, and stores are closed and opened
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Conflict, Unsupported
from kvfs.kv.driver import Batch, Readable, ReadView
from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness

VIEWS_MAX = 3

# Few keys, so that calls meet; bytes at both ends of the order, prefixes of each other.
KEYS = st.lists(st.sampled_from((0x00, 0x61, 0x62, 0xFF)), min_size=1, max_size=3).map(bytes)
BOUNDS = st.one_of(st.just(b""), KEYS, KEYS.map(lambda key: key + b"\0"))
VALUES = st.one_of(
    st.binary(max_size=5),
    st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 20_000)),
)
LIMITS = st.one_of(st.none(), st.integers(0, 5))


@attrs.frozen
class _Pinned:
    """A view, and what it must show."""

    view: ReadView
    records: dict[bytes, bytes]


@st.composite
def _batches(draw: st.DrawFn) -> Batch:
    batch = Batch()
    for _ in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(("put", "put", "delete", "range"))):
            case "put":
                batch.put(draw(KEYS), draw(VALUES))
            case "delete":
                batch.delete(draw(KEYS))
            case _:
                batch.delete_range(draw(BOUNDS), draw(BOUNDS))
    return batch


def holds(records: Mapping[bytes, bytes], batch: Batch) -> bool:
    """Do all guards of the batch hold?"""
    return all(records.get(key) == value for key, value in batch.guards.items())


def exceeds(batch: Batch, capability: KVCapability) -> bool:
    """Is the batch, or a value in it, larger than the engine takes?"""
    ops_max, bytes_max = capability.batch_ops_max, capability.batch_bytes_max
    return (
        (ops_max is not None and batch.ops > ops_max)
        or (bytes_max is not None and batch.total_bytes > bytes_max)
        or any(len(value) > capability.value_bytes_max for value in batch.puts.values())
    )


def applied(records: Mapping[bytes, bytes], batch: Batch) -> dict[bytes, bytes]:
    """The records after the batch."""
    after = {
        key: value
        for key, value in records.items()
        if key not in batch.deletes
        and not any(start <= key < stop for start, stop in batch.range_deletes)
    }
    return after | {key: bytes(value) for key, value in batch.puts.items()}


def scanned(
    records: Mapping[bytes, bytes],
    start: bytes,
    stop: bytes | None,
    *,
    reverse: bool = False,
    limit: int | None = None,
) -> list[tuple[bytes, bytes]]:
    """What a scan of the records returns."""
    chosen = [key for key in sorted(records) if start <= key and (stop is None or key < stop)]
    return [(key, records[key]) for key in (chosen[::-1] if reverse else chosen)[:limit]]


class KVStateMachine(RuleBasedStateMachine):
    """One store and the dictionary that it must agree with."""

    def __init__(self, harness: KVHarness, store: str) -> None:
        """:param store: the name of a store that is still empty."""
        super().__init__()
        self._harness = harness
        self._name = store
        self._store = self._open()
        self._records: dict[bytes, bytes] = {}
        self._views: list[_Pinned] = []

    def _open(self) -> KVStore:
        driver = self._harness.open(self._name, durability=Durability.MEMORY)
        return KVStore(driver, name=self._name)

    def _commit(self, batch: Batch) -> None:
        """A batch whose guards hold; one that is beyond a limit of the engine is refused whole."""
        try:
            self._store.commit(batch)
        except Unsupported:
            assert exceeds(batch, self._store.capability), batch
        else:
            self._records = applied(self._records, batch)

    @rule(batch=_batches())
    def commit(self, batch: Batch) -> None:
        """A batch without guards."""
        self._commit(batch)

    @rule(batch=_batches(), keys=st.lists(KEYS, min_size=1, max_size=3))
    def commit_with_guards_that_hold(self, batch: Batch, keys: list[bytes]) -> None:
        """Guards on what is there, or is not."""
        for key in keys:
            batch.guard(key, self._records.get(key))
        self._commit(batch)

    @rule(batch=_batches(), guards=st.dictionaries(KEYS, st.none() | VALUES, max_size=3))
    def commit_with_guards(self, batch: Batch, guards: dict[bytes, bytes | None]) -> None:
        """Guards that mostly do not hold."""
        batch.guards.update(guards)
        if holds(self._records, batch):
            self._commit(batch)
            return
        try:
            self._store.commit(batch)
        except Conflict:
            return
        except Unsupported:
            assert exceeds(batch, self._store.capability), batch
            return
        raise AssertionError(f"{guards} does not hold in {self._records}, but was accepted")

    @rule(keys=st.lists(KEYS, max_size=5))
    def read(self, keys: list[bytes]) -> None:
        """Point reads of the driver."""
        self._check_reads(self._store.driver, self._records, keys)

    @rule(start=BOUNDS, stop=st.none() | BOUNDS, reverse=st.booleans(), limit=LIMITS)
    def scan(self, start: bytes, stop: bytes | None, reverse: bool, limit: int | None) -> None:
        """A scan of the driver."""
        self._check_scan(
            self._store.driver, self._records, start, stop, reverse=reverse, limit=limit
        )

    @precondition(lambda self: self._can_pin() and len(self._views) < VIEWS_MAX)
    @rule()
    def pin(self) -> None:
        """A view of this instant."""
        self._views.append(_Pinned(self._store.snapshot(), dict(self._records)))

    @precondition(lambda self: self._views)
    @rule(data=st.data(), keys=st.lists(KEYS, max_size=5))
    def read_view(self, data: st.DataObject, keys: list[bytes]) -> None:
        """Point reads of an open view."""
        pinned = self._views[data.draw(self._indexes())]
        self._check_reads(pinned.view, pinned.records, keys)

    @precondition(lambda self: self._views)
    @rule(
        data=st.data(), start=BOUNDS, stop=st.none() | BOUNDS, reverse=st.booleans(), limit=LIMITS
    )
    def scan_view(
        self, data: Any, start: bytes, stop: bytes | None, reverse: bool, limit: int | None
    ) -> None:
        """A scan of an open view."""
        pinned = self._views[data.draw(self._indexes())]
        self._check_scan(pinned.view, pinned.records, start, stop, reverse=reverse, limit=limit)

    @precondition(lambda self: self._views)
    @rule(data=st.data())
    def refresh(self, data: Any) -> None:
        """An open view moves to this instant."""
        index = data.draw(self._indexes())
        self._views[index].view.refresh()
        self._views[index] = _Pinned(self._views[index].view, dict(self._records))

    @precondition(lambda self: self._views)
    @rule(data=st.data())
    def unpin(self, data: Any) -> None:
        """An open view is closed."""
        self._views.pop(data.draw(self._indexes())).view.close()

    @rule()
    def compact(self) -> None:
        """Compaction changes nothing."""
        self._store.compact()

    @precondition(lambda self: self._store.capability.persistent)
    @rule()
    def reopen(self) -> None:
        """The store is closed and opened again."""
        self._close()
        self._store = self._open()

    def teardown(self) -> None:
        """Look at everything once more, and close."""
        for pinned in self._views:
            self._check_scan(pinned.view, pinned.records, b"", None, reverse=False, limit=None)
        self._check_scan(self._store.driver, self._records, b"", None, reverse=False, limit=None)
        self._close()

    def _close(self) -> None:
        while self._views:
            self._views.pop().view.close()
        self._store.close()

    def _can_pin(self) -> bool:
        return self._store.capability.snapshot

    def _indexes(self) -> st.SearchStrategy[int]:
        return st.integers(0, len(self._views) - 1)

    def _check_reads(
        self, source: Readable, records: dict[bytes, bytes], keys: list[bytes]
    ) -> None:
        expected = [records.get(key) for key in keys]
        many = source.get_many(keys)
        assert [None if value is None else bytes(value) for value in many] == expected
        single = [source.get(key) for key in keys]
        assert [None if value is None else bytes(value) for value in single] == expected

    def _check_scan(
        self,
        source: Readable,
        records: dict[bytes, bytes],
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool,
        limit: int | None,
    ) -> None:
        reverse = reverse and self._store.capability.scan_can_reverse
        found = source.scan(start, stop, reverse=reverse, limit=limit)
        expected = scanned(records, start, stop, reverse=reverse, limit=limit)
        assert [(bytes(key), bytes(value)) for key, value in found] == expected


def machine_settings(examples: int, steps: int) -> settings:
    """Those of a state machine that runs for itself: nothing is timed, nothing is kept."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )


def run_kv_machine(harness: KVHarness, *, examples: int = 100, steps: int = 40) -> None:
    """Try sequences of calls, each on a store of its own; fails with the shortest that is wrong.

    :param examples: how many sequences.
    :param steps: the most calls in one.
    """
    numbers = count()
    # Any callable that makes a machine will do, though it is annotated as a type.
    make: Any = lambda: KVStateMachine(harness, f"machine-{next(numbers)}")  # noqa: E731
    run_state_machine_as_test(
        make,
        settings=machine_settings(examples, steps),
    )
