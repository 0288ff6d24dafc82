"""A hundred thousand records: that they arrive, and that memory does not grow with them.

An engine that takes few operations at once gets fewer records, and larger ones: as many bytes.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable

import pytest

from kvfs.capability import KVCapability
from kvfs.kv.driver import Batch, Buffer
from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import KVBase, number_key, put_all
from kvfs.testing.plugin import PARTLY
from kvfs.testing.selection import needs

_COUNT = 100_000
_VALUES_BYTES = 10_000_000
_BATCHES_MAX = 100
_FLAT_BYTES = 4 << 20
"""Far less than the 11 to 20 MB that the records would take as Python objects."""


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


def _records(capability: KVCapability) -> dict[bytes, bytes]:
    """Every second key ascending, then those in between: appending, then inserting everywhere."""
    count = min(_COUNT, _BATCHES_MAX * (capability.batch_ops_max or _COUNT)) // 2 * 2
    value = b"v" * min(_VALUES_BYTES // count, capability.value_bytes_max)
    return {number_key(number): value for number in (*range(0, count, 2), *range(1, count, 2))}


class Size(KVBase):
    """Many records."""

    @pytest.fixture
    def many(self, record_property: Callable[[str, object], None]) -> dict[bytes, bytes]:
        """As many records as are reasonable."""
        records = _records(self.announced())
        if len(records) < _COUNT:
            line = f"{self.driver} batch_ops_max: {len(records):,} of {_COUNT:,} records"
            record_property(PARTLY, line)
        return records

    @needs("writable")
    def test_commits_of_many_records(self, store: KVStore, many: dict[bytes, bytes]) -> None:
        put_all(store, many)
        keys = [key for key, _ in store.scan(b"", None)]
        assert keys == [number_key(number) for number in range(len(many))]
        store.commit(Batch().delete_range(number_key(10), number_key(len(many) - 10)))
        assert len([*store.scan(b"", None)]) == 20

    def test_memory_of_a_scan_is_flat(self, harness: KVHarness, many: dict[bytes, bytes]) -> None:
        store = self.filled(harness, many)
        assert _count_flat(lambda: store.scan(b"", None)) == len(many)
        with store.snapshot() as view:
            assert _count_flat(lambda: view.scan(b"", None)) == len(many)

    @needs("scan_can_reverse")
    def test_memory_of_a_reverse_scan_is_flat(
        self, harness: KVHarness, many: dict[bytes, bytes]
    ) -> None:
        store = self.filled(harness, many)
        assert _count_flat(lambda: store.scan(b"", None, reverse=True)) == len(many)
