"""What a history of several processes is checked for besides its order: watches, whole batches."""

from __future__ import annotations

import math

import pytest

from kvfs.capability import Durability
from kvfs.kv import KVStore
from kvfs.kv.memory import MemorySettings, open_store
from kvfs.testing.histories import END, LOG, Entry, Worker, check_told, settle
from kvfs.testing.linearizability import Operation, Outcome, check

_FIRST, _SECOND, _LOST, _REFUSED = (LOG + name for name in (b"1", b"2", b"3", b"4"))


def _entry(logged: bytes, start_s: float, end_s: float, outcome: Outcome = Outcome.OK) -> Entry:
    operation = Operation(process=0, invoked_s=start_s, returned_s=end_s, outcome=outcome)
    return Entry(operation, logged)


ENTRIES = [
    _entry(_FIRST, 0, 1),
    _entry(_SECOND, 2, 3),
    _entry(_LOST, 0, math.inf, Outcome.UNKNOWN),
    _entry(_REFUSED, 0, 1, Outcome.CONFLICT),
]


@pytest.fixture
def store() -> KVStore:
    """An empty one."""
    return KVStore(
        open_store(MemorySettings(), store="main", durability=Durability.MEMORY), name="memory"
    )


@pytest.mark.parametrize(
    "told",
    [
        [_FIRST, _SECOND, END],
        [_FIRST, _FIRST, _SECOND, _LOST, END],
        [_FIRST, _SECOND, _FIRST, END],  # again, after it was told first
    ],
)
def test_told_of_everything(told: list[bytes]) -> None:
    check_told(told, True, ENTRIES)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([_FIRST, END], "did not tell of"),
        ([_FIRST, _SECOND, _REFUSED, END], "did not take place"),
        ([_SECOND, _FIRST, END], "too late"),
    ],
)
def test_told_wrongly(told: list[bytes], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_told(told, True, ENTRIES)


def test_order_is_not_known_after_changes_were_missed() -> None:
    check_told([_SECOND, _FIRST, END], False, ENTRIES)


def test_entry_survives_its_journey() -> None:
    for entry in ENTRIES:
        assert Entry.load(entry.dump()) == entry


def test_lost_batches_are_settled_by_the_log(store: KVStore) -> None:
    store.put(_LOST, b"")
    there = Operation(
        process=0, invoked_s=0, outcome=Outcome.UNKNOWN, guards={b"a": None}, writes={b"b": b"1"}
    )
    settled = settle(store, [Entry(there, _LOST), Entry(there, _FIRST)])
    assert [operation.outcome for operation in settled] == [Outcome.OK, Outcome.OK]
    with pytest.raises(AssertionError, match="no order"):
        check(settled)  # the log says that it was applied, but what it wrote is not there


def test_half_of_a_batch(store: KVStore) -> None:
    with pytest.raises(AssertionError, match="half of a batch"):
        settle(store, ENTRIES[:1])


def test_work_is_repeatable(store: KVStore) -> None:
    """A seed says what is done, so that a failure can be had again."""
    again = KVStore(
        open_store(MemorySettings(), store="main", durability=Durability.MEMORY), name="memory"
    )
    first = Worker(store, process=0, seed=7).work(50)
    second = Worker(again, process=0, seed=7).work(50)
    assert [(one.operation.guards, one.operation.writes) for one in first] == [
        (one.operation.guards, one.operation.writes) for one in second
    ]
    assert {one.operation.outcome for one in first} == {Outcome.OK}
