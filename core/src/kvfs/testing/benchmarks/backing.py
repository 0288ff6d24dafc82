"""Micro benchmarks of a store of objects: what an ingest and an export ask of it, call by call."""

from __future__ import annotations

import random
from itertools import count
from typing import TYPE_CHECKING

import pytest

from kvfs.backing.store import BackingStore
from kvfs.testing.backing.base import BackingBase, noise, whole
from kvfs.testing.benchmarks.base import Benchmarks, prepared
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import needs

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_OBJECTS = 100
_RANGE_BYTES = 4096
_LARGE_BYTES = 8 << 20


class BackingBenchmarks(Benchmarks, BackingBase):
    """Beside :class:`~kvfs.testing.BackingConformance` in the same class."""

    def _large(self, harness: BackingHarness) -> tuple[BackingStore, bytes]:
        data = noise(_LARGE_BYTES)
        return self.filled(harness, {"large": data}), data

    @pytest.mark.benchmark(group="stat")
    def test_bench_stat(self, benchmark: BenchmarkFixture, harness: BackingHarness) -> None:
        store = self.filled(harness, {"a/object": b"1234"})
        assert benchmark(store.stat, "a/object").size == 4

    @pytest.mark.benchmark(group=f"list of {_OBJECTS} objects")
    def test_bench_list(self, benchmark: BenchmarkFixture, harness: BackingHarness) -> None:
        names = [f"folder/{number:04d}.tar" for number in range(_OBJECTS)]
        store = self.filled(harness, dict.fromkeys(names, b"1"))

        def listed() -> list[str]:
            return [entry.name for entry in store.list("folder/")]

        assert sorted(benchmark(listed)) == names

    @pytest.mark.benchmark(group="read of 4 KiB")
    def test_bench_read_range(self, benchmark: BenchmarkFixture, harness: BackingHarness) -> None:
        store, data = self._large(harness)
        rng = random.Random(0)

        def read() -> tuple[int, bytes]:
            start = rng.randrange(_LARGE_BYTES - _RANGE_BYTES)
            return start, store.read("large", start, start + _RANGE_BYTES)

        start, found = benchmark(read)
        assert found == data[start : start + _RANGE_BYTES]

    @pytest.mark.benchmark(group="read of 8 MiB")
    def test_bench_read_whole(self, benchmark: BenchmarkFixture, harness: BackingHarness) -> None:
        store, data = self._large(harness)
        assert benchmark(whole, store, "large") == data

    @needs("writable")
    @pytest.mark.parametrize(("size", "text"), [(_RANGE_BYTES, "4 KiB"), (_LARGE_BYTES, "8 MiB")])
    def test_bench_write(
        self, benchmark: BenchmarkFixture, store: BackingStore, size: int, text: str
    ) -> None:
        benchmark.group = f"write of an object of {text}"
        data = noise(size)
        numbers = count()

        def write(number: int) -> str:
            name = f"object-{number}"
            with store.open_writer(name) as stream:
                stream.write(data)
            return name

        name = prepared(benchmark, write, lambda: next(numbers))
        assert whole(store, name) == data
        assert len([*store.list("")]) == next(numbers)
