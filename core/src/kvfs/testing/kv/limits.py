"""Limits, at the limit and one past it.

What is past a limit is refused by the portable type, before any I/O, so the driver may not have
seen it: its contents stay as they were.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import pytest

from kvfs.errors import Invalid, Unsupported
from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore
from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.kv.base import KVBase, everything, number_key
from kvfs.testing.plugin import PARTLY
from kvfs.testing.selection import lacks, needs
from kvfs.units import format_bytes

_KEYED: dict[str, Callable[[bytes], Batch]] = {
    "put": lambda key: Batch().put(key, b""),
    "delete": lambda key: Batch().delete(key),
    "guard": lambda key: Batch().guard(key, None),
}


@contextmanager
def _refused(store: KVStore, error: type[Exception] = Unsupported) -> Iterator[None]:
    before = everything(store.driver)
    with pytest.raises(error):
        yield
    assert everything(store.driver) == before


class Limits(KVBase):
    """What the capability record says about sizes."""

    value_bytes_tested: ClassVar[int] = 64 << 20
    """The largest value that is really stored; raise it to test a larger ``value_bytes_max``."""

    @needs("writable")
    def test_longest_key(self, store: KVStore) -> None:
        longest = store.capability.key_bytes_max
        keys = [b"\x00" * longest, b"k" * (longest - 1), b"k" * longest, b"\xff" * longest]
        store.commit(Batch(puts=dict.fromkeys(keys, b"value")))
        assert [key for key, _ in store.scan(b"", None)] == keys
        assert store.get(keys[-1]) == b"value"
        store.commit(Batch().guard(keys[0], b"value").delete(keys[0]).delete(keys[-1]))
        assert [*everything(store.driver)] == keys[1:-1]

    @needs("writable")
    @pytest.mark.parametrize("operation", _KEYED)
    def test_key_one_past_the_longest(self, store: KVStore, operation: str) -> None:
        with _refused(store):
            store.commit(_KEYED[operation](b"k" * (store.capability.key_bytes_max + 1)))

    @needs("writable")
    @pytest.mark.parametrize("operation", _KEYED)
    def test_empty_key(self, store: KVStore, operation: str) -> None:
        with _refused(store, Invalid):
            store.commit(_KEYED[operation](b""))

    @needs("writable")
    def test_largest_value(
        self, store: KVStore, record_property: Callable[[str, object], None]
    ) -> None:
        most = store.capability.value_bytes_max
        size = min(most, self.value_bytes_tested)
        if size < most:
            sizes = f"{format_bytes(size)} of {format_bytes(most)}"
            record_property(PARTLY, f"{self.driver} value_bytes_max: stored up to {sizes}")
        if store.capability.batch_bytes_max is not None:
            size = min(size, store.capability.batch_bytes_max - len(b"key"))
        block = bytes(range(256)) * 256 + b"?"  # of no round size: misplaced blocks would show
        value = (block * (size // len(block) + 1))[:size]
        store.put(b"key", value)
        assert_same_bytes(store.get(b"key"), value)
        store.put(b"key", b"small")
        assert everything(store.driver) == {b"key": b"small"}

    @needs("writable")
    def test_value_one_past_the_largest(self, store: KVStore) -> None:
        # Never touched, so it takes no memory.
        with (
            mmap.mmap(-1, store.capability.value_bytes_max + 1) as pages,
            memoryview(pages) as value,
            _refused(store),
        ):
            store.put(b"key", value)

    @needs("writable", "batch_ops_max")
    def test_largest_batch(self, store: KVStore) -> None:
        most = store.capability.batch_ops_max
        assert most is not None
        batch = Batch(puts={number_key(number): b"v" for number in range(most)})
        store.commit(batch)
        assert len(everything(store.driver)) == most
        with _refused(store):
            store.commit(batch.delete(b"one past"))

    @needs("writable", "batch_bytes_max")
    def test_heaviest_batch(self, store: KVStore) -> None:
        most = store.capability.batch_bytes_max
        assert most is not None
        each = min(store.capability.value_bytes_max, most // 4)
        batch = Batch()
        while batch.total_bytes + each + 8 < most:
            batch.put(number_key(len(batch.puts)), bytes(each))
        batch.put(number_key(len(batch.puts)), bytes(most - batch.total_bytes - 8))
        assert batch.total_bytes == most
        store.commit(batch)
        assert len(everything(store.driver)) == len(batch.puts)
        with _refused(store):
            store.commit(batch.delete(b"x"))

    @lacks("writable")
    def test_writes_are_refused(self, store: KVStore) -> None:
        for batch in (Batch().put(b"a", b"1"), Batch().delete(b"a"), Batch()):
            with _refused(store):
                store.commit(batch)
            with _refused(store):
                store.driver.commit(batch, store.capability.durability)
