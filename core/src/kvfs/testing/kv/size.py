"""A hundred thousand records: that they arrive, and that memory does not grow with them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable

from kvfs.kv.driver import Batch, Buffer
from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import KVBase, number_key
from kvfs.testing.selection import needs

_COUNT = 100_000
_VALUE = b"v" * 100
_FLAT_BYTES = 4 << 20
"""Far less than the 20 MB that the records would take as Python objects."""


def _count_flat(scan: Callable[[], Iterable[tuple[Buffer, Buffer]]]) -> int:
    """How many records there are; fails if going through them takes memory."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        count = sum(1 for _ in scan())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < _FLAT_BYTES, f"{peak - before} bytes for a scan of {count} records"
    return count


class Size(KVBase):
    """Many records."""

    @needs("writable")
    def test_commits_of_many_records(self, store: KVStore) -> None:
        capability = store.capability
        step = min(_COUNT, capability.batch_ops_max or _COUNT)
        if capability.batch_bytes_max is not None:
            step = min(step, capability.batch_bytes_max // (len(_VALUE) + 8))
        # Every second key ascending, then those in between: appending, then inserting everywhere.
        order = [*range(0, _COUNT, 2), *range(1, _COUNT, 2)]
        for start in range(0, _COUNT, step):
            numbers = order[start : start + step]
            store.commit(Batch(puts={number_key(number): _VALUE for number in numbers}))
        keys = [key for key, _ in store.scan(b"", None)]
        assert keys == [number_key(number) for number in range(_COUNT)]
        store.commit(Batch().delete_range(number_key(10), number_key(_COUNT - 10)))
        assert len([*store.scan(b"", None)]) == 20

    def test_memory_of_a_scan_is_flat(self, harness: KVHarness) -> None:
        store = self.filled(harness, {number_key(number): _VALUE for number in range(_COUNT)})
        assert _count_flat(lambda: store.scan(b"", None)) == _COUNT
        with store.snapshot() as view:
            assert _count_flat(lambda: view.scan(b"", None)) == _COUNT

    @needs("scan_can_reverse")
    def test_memory_of_a_reverse_scan_is_flat(self, harness: KVHarness) -> None:
        store = self.filled(harness, {number_key(number): _VALUE for number in range(_COUNT)})
        assert _count_flat(lambda: store.scan(b"", None, reverse=True)) == _COUNT
