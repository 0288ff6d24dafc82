"""Readers: an object as a stream, from anywhere."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from typing import BinaryIO, cast

import pytest

from kvfs.backing.store import BackingStore
from kvfs.errors import Invalid, Stale
from kvfs.testing.backing.base import BackingBase, drain, noise
from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import needs

_BIG_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20
_FLAT_BYTES = 24 << 20
"""Room for a driver that sends and fetches in parts of some megabytes."""


def _read_into(stream: BinaryIO, step: int) -> bytes:
    """What is left of a stream, through ``readinto``."""
    buffer = bytearray(step)
    parts = []
    while count := cast(io.RawIOBase, stream).readinto(buffer):
        parts.append(bytes(buffer[:count]))
    return b"".join(parts)


class Streams(BackingBase):
    """``open_reader``; and that memory does not grow with the object."""

    @pytest.mark.parametrize("start", [0, 1, 4096, 99_999, 100_000, 100_001, 1 << 40])
    def test_reader_from_anywhere(self, harness: BackingHarness, start: int) -> None:
        data = noise(100_000)
        store = self.filled(harness, {"object": data})
        with store.open_reader("object", start) as stream:
            assert_same_bytes(drain(stream), data[start:])
            assert stream.read(1) == b""
        with store.open_reader("object", start) as stream:
            assert_same_bytes(_read_into(stream, 777), data[start:])

    @pytest.mark.parametrize("step", [1, 7, 512, 100_000, 1 << 30])
    def test_reads_of_any_size(self, harness: BackingHarness, step: int) -> None:
        data = noise(3_000)
        store = self.filled(harness, {"object": data})
        with store.open_reader("object") as stream:
            found = drain(stream, step)
        assert_same_bytes(found, data)

    def test_reader_of_an_empty_object(self, harness: BackingHarness) -> None:
        store = self.filled(harness, {"object": b""})
        with store.open_reader("object") as stream:
            assert stream.read(10) == b""
            assert stream.read(10) == b""

    def test_negative_start(self, harness: BackingHarness) -> None:
        store = self.filled(harness, {"object": b"data"})
        with pytest.raises(Invalid):
            store.open_reader("object", -1)

    def test_readers_run_beside_each_other(self, harness: BackingHarness) -> None:
        data = noise(200_000)
        store = self.filled(harness, {"object": data})
        with store.open_reader("object") as first, store.open_reader("object", 50_000) as second:
            head = first.read(1000)
            assert_same_bytes(drain(second), data[50_000:])
            assert store.read("object", 5, 10) == data[5:10]
            assert_same_bytes(head + drain(first), data)

    @needs("writable")
    @pytest.mark.parametrize("change", ["replace", "delete"])
    def test_reader_stays_at_its_version(self, store: BackingStore, change: str) -> None:
        """A server may not have the old version any more, and then the reader says so."""
        old, new = noise(300_000, seed=1), noise(400_000, seed=2)
        store.write("object", old)
        with store.open_reader("object") as stream:
            head = stream.read(1000)
            if change == "replace":
                store.write("object", new)
            else:
                store.delete("object")
            try:
                rest = drain(stream)
            except Stale:
                assert store.capability.is_network
            else:
                assert_same_bytes(head + rest, old)
        if change == "replace":
            assert_same_bytes(store.read("object", 0, 400_000), new)

    @needs("writable", "persistent")
    def test_memory_does_not_grow_with_the_object(self, store: BackingStore) -> None:
        block = noise(_BLOCK_BYTES)
        numbers = range(_BIG_BYTES // _BLOCK_BYTES)
        expected = hashlib.sha256()
        found = hashlib.sha256()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            with store.open_writer("big") as writer:
                for number in numbers:
                    part = number.to_bytes(4, "big") + block[4:]
                    writer.write(part)
                    expected.update(part)
            with store.open_reader("big") as reader:
                while part := reader.read(_BLOCK_BYTES):
                    found.update(part)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert store.stat("big").size == _BIG_BYTES
        assert found.digest() == expected.digest()
        assert peak - before < _FLAT_BYTES, f"{peak - before} bytes for {_BIG_BYTES}"
