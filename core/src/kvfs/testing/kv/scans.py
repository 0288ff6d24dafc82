"""Ordered scans of the driver."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice, pairwise

import pytest

from kvfs.errors import Unsupported
from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore, prefix_end
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import EDGE_KEYS, KVBase, number_key, numbered, put_all
from kvfs.testing.selection import lacks, needs

_RECORDS = {key: b"value of " + key for key in EDGE_KEYS}
_BOUNDS = (b"", b"\x00", b"\x00\x01", b"a", b"a\x00", b"ab\x00", b"c", b"\xff", b"\xff\xff\xff\x00")


def _expected(start: bytes, stop: bytes | None) -> list[tuple[bytes, bytes]]:
    low = bisect_left(EDGE_KEYS, start)
    high = len(EDGE_KEYS) if stop is None else bisect_left(EDGE_KEYS, stop)
    return [(key, _RECORDS[key]) for key in EDGE_KEYS[low:high]]


class Scans(KVBase):
    """``scan`` of the driver."""

    def test_order_is_that_of_unsigned_bytes(self, harness: KVHarness) -> None:
        shuffled = dict(sorted(_RECORDS.items(), key=lambda record: record[0][::-1]))
        keys = [key for key, _ in self.filled(harness, shuffled).scan(b"", None)]
        assert keys == [*EDGE_KEYS]
        assert all(low < high for low, high in pairwise(keys))

    def test_every_pair_of_bounds(self, harness: KVHarness) -> None:
        store = self.filled(harness, _RECORDS)
        for start in _BOUNDS:
            for stop in (*_BOUNDS, None):
                assert [*store.scan(start, stop)] == _expected(start, stop), (start, stop)

    @needs("scan_can_reverse")
    def test_every_pair_of_bounds_in_reverse(self, harness: KVHarness) -> None:
        store = self.filled(harness, _RECORDS)
        for start in _BOUNDS:
            for stop in (*_BOUNDS, None):
                found = [*store.scan(start, stop, reverse=True)]
                assert found == _expected(start, stop)[::-1], (start, stop)

    @lacks("scan_can_reverse")
    def test_reverse_is_refused(self, harness: KVHarness) -> None:
        store = self.filled(harness, _RECORDS)
        with pytest.raises(Unsupported):
            list(store.scan(b"", None, reverse=True))

    def test_bounds_may_be_longer_than_any_key(self, harness: KVHarness) -> None:
        longest = harness.open(store="longest").capability.key_bytes_max
        low, high = b"k" * longest, b"k" * (longest - 1) + b"l"
        store = self.filled(harness, {low: b"low", high: b"high"})
        assert [*store.scan(low + b"\0", None)] == [(high, b"high")]
        assert [*store.scan(b"", low + b"\0")] == [(low, b"low")]

    @pytest.mark.parametrize("limit", [0, 1, 2, 9, 10, 11])
    def test_limit(self, harness: KVHarness, limit: int) -> None:
        records = numbered(10)
        store = self.filled(harness, records)
        found = [*store.scan(b"", None, limit=limit)]
        assert found == [*records.items()][:limit]

    @needs("scan_can_reverse")
    @pytest.mark.parametrize("limit", [0, 1, 2, 9, 10, 11])
    def test_limit_in_reverse(self, harness: KVHarness, limit: int) -> None:
        records = numbered(10)
        store = self.filled(harness, records)
        found = [*store.scan(b"", None, reverse=True, limit=limit)]
        assert found == [*records.items()][::-1][:limit]

    def test_prefix(self, harness: KVHarness) -> None:
        store = self.filled(harness, _RECORDS)
        for prefix in (b"", b"a", b"a\x00", b"\xff", b"\xff\xff", b"zz"):
            expected = [item for item in _RECORDS.items() if item[0].startswith(prefix)]
            assert [*store.scan_prefix(prefix)] == expected, prefix
        assert prefix_end(b"a\xff\xff") == b"b"

    def test_scans_run_beside_each_other(self, harness: KVHarness) -> None:
        records = numbered(50)
        store = self.filled(harness, records)
        first, second = store.scan(b"", None), store.scan(number_key(10), None)
        head = [*islice(first, 20)]
        assert [*second] == [*records.items()][10:]
        assert [*head, *first] == [*records.items()]

    def test_reads_run_beside_a_scan(self, harness: KVHarness) -> None:
        records = numbered(50)
        store = self.filled(harness, records)
        for key, value in store.scan(b"", None):
            assert store.get(key) == value
            assert store.get(key + b"\0") is None

    @needs("writable")
    def test_abandoned_scan_holds_up_nothing(self, store: KVStore) -> None:
        put_all(store, numbered(100))
        abandoned = store.scan(b"", None)
        next(abandoned)
        del abandoned
        kept = store.scan(b"", None)
        next(kept)
        store.put(b"after", b"written")
        assert store.get(b"after") == b"written"

    @needs("writable", "snapshot")
    def test_scan_shows_the_instant_at_which_it_began(self, store: KVStore) -> None:
        records = numbered(1000)
        put_all(store, records)
        found = []
        for number, (key, value) in enumerate(store.scan(b"", None)):
            found.append((key, value))
            if number == 10:
                batch = Batch().delete_range(number_key(20), number_key(400))
                batch.put(number_key(500), b"changed").put(number_key(500) + b"new", b"new")
                store.commit(batch.put(number_key(2000), b"new").delete(number_key(999)))
        assert found == [*records.items()]
        assert len([*store.scan(b"", None)]) == 1000 - 380 + 2 - 1

    @needs("writable")
    def test_scan_that_deletes_behind_itself_ends(self, store: KVStore) -> None:
        records = numbered(200)
        put_all(store, records)
        seen = []
        for key, _ in store.scan(b"", None):
            seen.append(key)
            store.delete(key)
        assert seen == [*records]
        assert [*store.scan(b"", None)] == []
