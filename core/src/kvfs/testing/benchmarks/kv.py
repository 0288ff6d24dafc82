"""Micro benchmarks of a key-value engine: what a mounted volume asks of it, call by call."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from itertools import count, cycle
from typing import TYPE_CHECKING

import pytest

from kvfs.capability import Durability
from kvfs.errors import Conflict
from kvfs.kv.driver import Batch, Buffer
from kvfs.kv.store import KVStore
from kvfs.testing.benchmarks.base import Benchmarks, prepared
from kvfs.testing.benchmarks.directory import Directory, directory
from kvfs.testing.harness import KVHarness, batches_of
from kvfs.testing.kv.base import KVBase, number_key, owned
from kvfs.testing.selection import needs

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_FILES = 1000
_MANY = 100
_VALUE_BYTES = 200


def _shuffled(keys: Iterable[bytes]) -> Iterator[bytes]:
    """The keys for ever, in an order that has nothing to do with theirs."""
    chosen = [*keys]
    random.Random(0).shuffle(chosen)
    return cycle(chosen)


def _check(found: tuple[bytes, Buffer | None], records: Mapping[bytes, bytes]) -> None:
    """A key and what was read; nothing keeps the buffer once this returned."""
    key, value = found
    assert (None if value is None else bytes(value)) == records.get(key)


class KVBenchmarks(Benchmarks, KVBase):
    """Reads through a view, as a mount does them, and commits at every level of durability.

    Beside :class:`~kvfs.testing.KVConformance` in the same class, or in one of its own with the
    same ``driver`` and ``harness``.
    """

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """What takes a ``durability`` is done at each that the engine reaches."""
        if "durability" in metafunc.fixturenames:
            best = self.announced().durability
            levels = [level for level in Durability if level <= best]
            metafunc.parametrize("durability", levels, ids=lambda level: level.name.lower())

    @staticmethod
    def _write(
        benchmark: BenchmarkFixture, harness: KVHarness, what: str, durability: Durability
    ) -> KVStore:
        """An empty store, opened for commits at a level, and their table."""
        benchmark.group = f"{what}, durability {durability.name.lower()}"
        benchmark.extra_info["durability"] = durability.name.lower()
        return KVStore(harness.open(durability=durability), name=harness.driver)

    def _filled(self, harness: KVHarness, files: int = _FILES) -> tuple[KVStore, Directory]:
        tree = directory(files)
        return self.filled(harness, tree.records), tree

    # -- reads -------------------------------------------------------------------------------------

    @pytest.mark.benchmark(group="get, there")
    def test_bench_get_hit(self, benchmark: BenchmarkFixture, harness: KVHarness) -> None:
        store, tree = self._filled(harness)
        keys = _shuffled(tree.dirents)

        def get() -> tuple[bytes, Buffer | None]:
            key = next(keys)
            return key, view.get(key)

        with store.snapshot() as view:
            _check(benchmark(get), tree.dirents)

    @pytest.mark.benchmark(group="get, absent")
    def test_bench_get_miss(self, benchmark: BenchmarkFixture, harness: KVHarness) -> None:
        store, tree = self._filled(harness)
        keys = _shuffled(key + b"\0" for key in tree.dirents)

        def get() -> Buffer | None:
            return view.get(next(keys))

        with store.snapshot() as view:
            assert benchmark(get) is None

    @pytest.mark.benchmark(group=f"get_many of {_MANY} inodes")
    def test_bench_get_many(self, benchmark: BenchmarkFixture, harness: KVHarness) -> None:
        store, tree = self._filled(harness)
        shuffled = _shuffled(tree.inodes)
        lots = cycle([[next(shuffled) for _ in range(_MANY)] for _ in range(_FILES // _MANY)])

        def get_many() -> Iterator[tuple[bytes, Buffer | None]]:
            lot = next(lots)
            return zip(lot, view.get_many(lot), strict=True)

        with store.snapshot() as view:
            for found in [*benchmark(get_many)]:
                _check(found, tree.inodes)
            del found

    @pytest.mark.parametrize("entries", [100, 10_000])
    def test_bench_readdir(
        self, benchmark: BenchmarkFixture, harness: KVHarness, entries: int
    ) -> None:
        benchmark.group = f"scan of {entries:,} dirents"
        tree = directory(entries)
        store = self.filled(harness, tree.dirents)

        def readdir() -> int:
            return sum(1 for _ in view.scan(*tree.dirent_range))

        with store.snapshot() as view:
            assert owned(view.scan(*tree.dirent_range)) == tree.dirents
            assert benchmark(readdir) == entries

    @pytest.mark.benchmark(group="view: refresh, then get")
    def test_bench_refresh(self, benchmark: BenchmarkFixture, harness: KVHarness) -> None:
        store, tree = self._filled(harness)
        keys = _shuffled(tree.dirents)

        def refresh_and_get() -> tuple[bytes, Buffer | None]:
            view.refresh()
            key = next(keys)
            return key, view.get(key)

        with store.snapshot() as view:
            _check(benchmark(refresh_and_get), tree.dirents)

    @pytest.mark.benchmark(group="view: make, then close")
    def test_bench_snapshot(self, benchmark: BenchmarkFixture, harness: KVHarness) -> None:
        store, tree = self._filled(harness)

        def snapshot() -> None:
            store.snapshot().close()

        benchmark(snapshot)
        key = next(iter(tree.inodes))
        with store.snapshot() as view:
            _check((key, view.get(key)), tree.inodes)

    # -- writes ------------------------------------------------------------------------------------

    @needs("writable")
    def test_bench_put(
        self, benchmark: BenchmarkFixture, harness: KVHarness, durability: Durability
    ) -> None:
        store = self._write(benchmark, harness, "commit of one record", durability)
        keys = _shuffled(map(number_key, range(_FILES)))
        written: dict[bytes, bytes] = {}
        versions = count()

        def put() -> None:
            key = next(keys)
            written[key] = value = number_key(next(versions)) * (_VALUE_BYTES // 8)
            store.put(key, value, durability)

        benchmark(put)
        assert owned(store.scan(b"", None)) == written

    @needs("writable")
    def test_bench_create(
        self, benchmark: BenchmarkFixture, harness: KVHarness, durability: Durability
    ) -> None:
        store = self._write(benchmark, harness, "guarded create of one record", durability)
        numbers = count()

        def create() -> bytes:
            key = number_key(next(numbers))
            store.create(key, key * (_VALUE_BYTES // 8), durability)
            return key

        last = benchmark(create)
        made = [key for key, _ in store.scan(b"", None)]
        assert made == [number_key(number) for number in range(next(numbers))]
        with pytest.raises(Conflict):
            store.create(last, b"", durability)

    @needs("writable")
    def test_bench_ingest(
        self, benchmark: BenchmarkFixture, harness: KVHarness, durability: Durability
    ) -> None:
        store = self._write(benchmark, harness, f"ingest of {_FILES:,} small files", durability)
        tarballs = count(1)

        def prepare() -> tuple[Directory, list[Batch]]:
            tree = directory(_FILES, tarball=next(tarballs))
            return tree, [*batches_of(tree.records, store.capability)]

        def ingest(work: tuple[Directory, list[Batch]]) -> Directory:
            tree, batches = work
            for batch in batches:
                store.commit(batch, durability)
            return tree

        tree = prepared(benchmark, ingest, prepare)
        assert owned(store.scan(*tree.dirent_range)) == tree.dirents
        assert owned(store.scan(*tree.inode_range)) == tree.inodes

    @needs("writable")
    def test_bench_clear_range(
        self, benchmark: BenchmarkFixture, harness: KVHarness, durability: Durability
    ) -> None:
        store = self._write(benchmark, harness, f"removal of {_FILES:,} small files", durability)
        tree, other = directory(_FILES), directory(1, tarball=2)
        harness.fill(store.driver, other.records)

        def fill() -> None:
            for batch in batches_of(tree.records, store.capability):
                store.commit(batch, durability)

        def remove(_: None) -> None:
            store.clear_range(*tree.dirent_range, durability=durability)
            store.clear_range(*tree.inode_range, durability=durability)

        prepared(benchmark, remove, fill)
        assert owned(store.scan(b"", None)) == other.records
