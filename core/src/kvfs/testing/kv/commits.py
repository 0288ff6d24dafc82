"""Batches: what they do, in which order, and that they do it whole."""

from __future__ import annotations

import pytest

from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore
from kvfs.testing.kv.base import EDGE_KEYS, KVBase, everything, number_key, numbered, put_all
from kvfs.testing.selection import needs


class Commits(KVBase):
    """``commit`` without guards."""

    @needs("writable")
    def test_empty_batch(self, store: KVStore) -> None:
        store.put(b"a", b"1")
        store.commit(Batch())
        assert everything(store.driver) == {b"a": b"1"}

    @needs("writable")
    def test_put_replaces(self, store: KVStore) -> None:
        for value in (b"short", b"a longer value" * 100, b"", b"again"):
            store.put(b"key", value)
            assert store.get(b"key") == value
        assert everything(store.driver) == {b"key": b"again"}

    @needs("writable")
    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_put_copies_any_buffer(self, store: KVStore, kind: type) -> None:
        original = bytearray(b"0123456789")
        value = memoryview(original)[2:8] if kind is memoryview else kind(original[2:8])
        store.put(b"key", value)
        original[:] = b"overwriten"
        if isinstance(value, bytearray):
            value[:] = b"gone!!"
        assert store.get(b"key") == b"234567"

    @needs("writable")
    def test_delete(self, store: KVStore) -> None:
        put_all(store, numbered(5))
        store.commit(Batch().delete(number_key(2)).delete(number_key(4)).delete(b"absent"))
        assert [*everything(store.driver)] == [number_key(n) for n in (0, 1, 3)]

    @needs("writable")
    def test_what_was_said_last_of_a_key_counts(self, store: KVStore) -> None:
        store.commit(Batch().put(b"a", b"old").put(b"b", b"old"))
        store.commit(Batch().put(b"a", b"1").delete(b"a").delete(b"b").put(b"b", b"2"))
        assert everything(store.driver) == {b"b": b"2"}
        store.commit(Batch().put(b"c", b"1").put(b"c", b"2"))
        assert store.get(b"c") == b"2"

    @needs("writable")
    def test_range_delete_is_half_open(self, store: KVStore) -> None:
        records = dict.fromkeys(EDGE_KEYS, b"x")
        for start, stop in ((b"a", b"b"), (b"\x00", b"\x01"), (b"", b"a"), (b"\x80", b"\xff")):
            put_all(store, records)
            store.commit(Batch().delete_range(start, stop))
            expected = [key for key in EDGE_KEYS if not start <= key < stop]
            assert [*everything(store.driver)] == expected, (start, stop)

    @needs("writable")
    def test_range_delete_of_nothing(self, store: KVStore) -> None:
        records = dict.fromkeys(EDGE_KEYS, b"x")
        put_all(store, records)
        for start, stop in ((b"b", b"a"), (b"a", b"a"), (b"c", b"d"), (b"", b"")):
            store.commit(Batch().delete_range(start, stop))
            assert everything(store.driver) == records, (start, stop)

    @needs("writable")
    def test_range_deletes_may_overlap(self, store: KVStore) -> None:
        put_all(store, numbered(10))
        batch = Batch().delete_range(number_key(1), number_key(5))
        store.commit(batch.delete_range(number_key(3), number_key(8)).delete(number_key(4)))
        assert [*everything(store.driver)] == [number_key(n) for n in (0, 8, 9)]

    @needs("writable")
    def test_range_delete_up_to_the_next_key(self, store: KVStore) -> None:
        longest = b"k" * store.capability.key_bytes_max
        store.commit(Batch().put(longest, b"1").put(b"l", b"2"))
        store.commit(Batch().delete_range(b"", longest + b"\0"))
        assert everything(store.driver) == {b"l": b"2"}

    @needs("writable")
    def test_range_deletes_come_before_puts_of_the_same_batch(self, store: KVStore) -> None:
        put_all(store, numbered(10))
        batch = Batch().put(number_key(5), b"new").put(number_key(7) + b"x", b"new")
        store.commit(batch.delete_range(number_key(3), number_key(9)))
        expected = numbered(3) | {number_key(5): b"new", number_key(7) + b"x": b"new"}
        assert everything(store.driver) == expected | {number_key(9): b"value 9"}

    @needs("writable")
    def test_batch_is_not_changed_and_can_be_used_again(self, store: KVStore) -> None:
        batch = Batch().put(b"a", b"1").delete(b"b").delete_range(b"c", b"d")
        store.commit(batch)
        assert batch == Batch().put(b"a", b"1").delete(b"b").delete_range(b"c", b"d")
        store.put(b"a", b"2")
        store.commit(batch)
        assert everything(store.driver) == {b"a": b"1"}

    @needs("writable")
    def test_clear_range(self, store: KVStore) -> None:
        put_all(store, numbered(50))
        store.clear_range(number_key(10), number_key(45), step=10)
        assert len(everything(store.driver)) == 15
