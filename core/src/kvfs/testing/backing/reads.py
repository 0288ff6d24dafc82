"""``stat`` and ranges."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from kvfs.backing.store import BackingStore
from kvfs.errors import Invalid, NotFound
from kvfs.testing.backing.base import BackingBase, noise, whole
from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import needs

READS: dict[str, Callable[[BackingStore], object]] = {
    "stat": lambda store: store.stat("absent"),
    "read": lambda store: store.read("absent", 0, 1),
    "read_of_nothing": lambda store: store.read("absent", 0, 0),
    "open_reader": lambda store: store.open_reader("absent").read(1),
}
_DAY_S = 86_400


class Reads(BackingBase):
    """Reads of an object, whole and in parts."""

    @pytest.mark.parametrize("call", READS)
    @pytest.mark.parametrize("name", ["absent", "directory", "objec", "object2"])
    def test_absent(self, harness: BackingHarness, call: str, name: str) -> None:
        store = self.filled(harness, {"object": b"1", "directory/object": b"2"})
        with pytest.raises(NotFound):
            READS[call](store)
        with pytest.raises(NotFound):
            store.stat(name)
        with pytest.raises(NotFound):
            store.read(name, 0, 1)

    @pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1_000_003])
    def test_sizes(self, harness: BackingHarness, size: int) -> None:
        data = noise(size)
        store = self.filled(harness, {"object": data})
        assert store.stat("object").size == size
        assert_same_bytes(whole(store, "object"), data)

    def test_stat(self, harness: BackingHarness) -> None:
        store = self.filled(harness, {"directory/object": b"data"})
        info = store.stat("directory/object")
        assert (info.name, info.size) == ("directory/object", 4)
        assert info.version
        # Another machine's clock may have written it; it is a time, in the right unit.
        assert abs(info.mtime_ns / 1e9 - time.time()) < _DAY_S
        assert store.stat("directory/object") == info

    def test_ranges(self, harness: BackingHarness) -> None:
        data = noise(10_000)
        store = self.filled(harness, {"object": data})
        edges = (0, 1, 4095, 4096, 9_999, 10_000, 10_001, 1 << 40)
        for start in edges:
            for stop in (edge for edge in edges if edge >= start):
                found = store.read("object", start, stop)
                assert_same_bytes(found, data[start:stop], (start, stop))
                assert type(found) is bytes

    def test_ranges_of_an_empty_object(self, harness: BackingHarness) -> None:
        store = self.filled(harness, {"object": b""})
        assert store.read("object", 0, 0) == b""
        assert store.read("object", 0, 10) == b""
        assert store.read("object", 10, 20) == b""

    @pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (-2, -1)])
    def test_no_ranges(self, harness: BackingHarness, start: int, stop: int) -> None:
        store = self.filled(harness, {"object": b"data"})
        with pytest.raises(Invalid):
            store.read("object", start, stop)

    @needs("persistent")
    def test_what_was_written_is_read_elsewhere(self, harness: BackingHarness) -> None:
        data = noise(100_000)
        self.filled(harness, {"directory/object": data})
        assert_same_bytes(harness.read_elsewhere("directory/object"), data)

    @needs("persistent", "writable")
    def test_what_was_written_elsewhere_is_read(self, harness: BackingHarness) -> None:
        store = BackingStore(harness.open(), name=self.driver)
        assert [*store.list()] == []
        for data in (noise(100_000), noise(50_000, seed=1)):
            harness.write_elsewhere("object", data)
            assert_same_bytes(whole(store, "object"), data)
            assert [(info.name, info.size) for info in store.list()] == [("object", len(data))]
