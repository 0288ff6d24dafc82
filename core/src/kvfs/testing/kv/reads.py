"""Point reads: ``get`` and ``get_many``."""

from __future__ import annotations

import pytest

from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import EDGE_KEYS, EDGE_VALUES, KVBase, numbered


class Reads(KVBase):
    """``get`` and ``get_many`` of the driver."""

    def test_new_store_is_empty(self, harness: KVHarness) -> None:
        store = self.filled(harness, {})
        assert store.get(b"a") is None
        assert store.get_many([b"a", b"b"]) == [None, None]
        assert [*store.scan(b"", None)] == []

    @pytest.mark.parametrize("key", EDGE_KEYS, ids=bytes.hex)
    def test_keys_are_any_bytes(self, harness: KVHarness, key: bytes) -> None:
        store = self.filled(harness, {key: b"found"})
        assert store.get(key) == b"found"
        assert store.get(key + b"\x00") is None
        if len(key) > 1:
            assert store.get(key[:-1]) is None
        assert [*store.scan(b"", None)] == [(key, b"found")]

    @pytest.mark.parametrize("value", EDGE_VALUES, ids=lambda value: f"{len(value)}-bytes")
    def test_values_are_any_bytes(self, harness: KVHarness, value: bytes) -> None:
        store = self.filled(harness, {b"key": value})
        assert store.get(b"key") == value
        assert store.get_many([b"key"]) == [value]
        assert [*store.scan(b"", None)] == [(b"key", value)]

    def test_empty_value_is_not_absence(self, harness: KVHarness) -> None:
        store = self.filled(harness, {b"empty": b""})
        assert store.get(b"empty") == b""
        assert store.get(b"absent") is None
        assert store.get_many([b"empty", b"absent"]) == [b"", None]

    def test_values_belong_to_the_caller(self, harness: KVHarness) -> None:
        store = self.filled(harness, {b"key": b"value"})
        assert type(store.get(b"key")) is bytes
        assert all(type(value) is bytes for value in store.get_many([b"key"]))
        assert all(type(part) is bytes for record in store.scan(b"", None) for part in record)

    def test_get_many_keeps_the_order_of_the_keys(self, harness: KVHarness) -> None:
        records = numbered(100)
        store = self.filled(harness, records)
        keys = [*records][::-3]
        assert [*store.get_many(keys)] == [records[key] for key in keys]

    def test_get_many_takes_repeated_and_absent_keys(self, harness: KVHarness) -> None:
        store = self.filled(harness, {b"a": b"1", b"c": b"3"})
        keys = [b"c", b"b", b"a", b"c", b"\xff", b"c"]
        assert [*store.get_many(keys)] == [b"3", None, b"1", b"3", None, b"3"]

    def test_get_many_of_nothing(self, harness: KVHarness) -> None:
        assert [*self.filled(harness, {b"a": b"1"}).get_many([])] == []

    def test_get_many_of_a_thousand(self, harness: KVHarness) -> None:
        records = numbered(1000)
        assert [*self.filled(harness, records).get_many([*records])] == [*records.values()]
