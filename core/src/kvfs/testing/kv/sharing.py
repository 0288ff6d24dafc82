"""Threads and processes at one store: batches are whole, guards decide, no increment is lost."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Event

from kvfs.errors import Conflict
from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore
from kvfs.testing.child import increment
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import EDGE_KEYS, KVBase, everything, number_key
from kvfs.testing.selection import needs

_THREADS = 4
_COUNTER = b"counter"


def _together(workers: list[Callable[[], object]]) -> None:
    """Run them at the same time, beginning at the same time; the first error is raised."""
    barrier = Barrier(len(workers))

    def run(worker: Callable[[], object]) -> None:
        barrier.wait()
        worker()

    with ThreadPoolExecutor(len(workers)) as pool:
        for future in [pool.submit(run, worker) for worker in workers]:
            future.result()


class Sharing(KVBase):
    """Several users of one store at the same time."""

    def _increments(self) -> int:
        """How often each counts; fewer times where each is some round trips and a disk's sync."""
        return 15 if self.announced().is_network else 40

    @needs("writable", "thread_safe")
    def test_threads_increment_one_counter(self, store: KVStore) -> None:
        times = self._increments()
        _together([partial(increment, store, _COUNTER, times)] * _THREADS)
        assert store.get(_COUNTER) == b"%d" % (_THREADS * times)

    @needs("writable", "thread_safe")
    def test_one_thread_creates_a_key(self, store: KVStore) -> None:
        made: list[tuple[int, int]] = []

        def worker(thread: int) -> None:
            for number in range(20):
                try:
                    store.create(number_key(number), b"%d" % thread)
                except Conflict:
                    continue
                made.append((number, thread))

        _together([partial(worker, thread) for thread in range(_THREADS)])
        assert sorted(number for number, _ in made) == [*range(20)]
        assert everything(store.driver) == {number_key(key): b"%d" % who for key, who in made}

    @needs("writable", "thread_safe", "snapshot")
    def test_readers_see_batches_whole(self, store: KVStore) -> None:
        """Each batch moves every record from one set of keys to another, with its number."""
        done = Event()
        store.commit(Batch(puts={number_key(key): b"0" for key in range(10)}))

        def write() -> None:
            try:
                for number in range(1, 60):
                    batch = Batch().delete_range(b"", b"\xff")
                    for key in range(10):
                        batch.put(number_key(key + number), b"%d" % number)
                    store.commit(batch)
            finally:
                done.set()

        def read() -> None:
            with store.snapshot() as view:
                while not done.is_set():
                    view.refresh()
                    records = everything(view)
                    assert len(records) == 10
                    (number,) = set(records.values())
                    assert [*records] == [number_key(int(number) + key) for key in range(10)]
                    assert len(set(dict(store.scan(b"", None)).values())) == 1

        _together([write, read, read])

    @needs("writable", "thread_safe")
    def test_threads_write_keys_of_their_own(self, store: KVStore) -> None:
        def worker(thread: int) -> None:
            for number in range(30):
                key = b"%d-%d" % (thread, number)
                store.put(key, key * 20)
                assert store.get(key) == key * 20
                if number % 3 == 0:
                    store.delete(key)
                    assert store.get(key) is None

        _together([partial(worker, thread) for thread in range(_THREADS)])
        keys = [b"%d-%d" % (t, n) for t in range(_THREADS) for n in range(30) if n % 3]
        assert everything(store.driver) == {key: key * 20 for key in keys}

    @needs("persistent", "multi_process_read")
    def test_another_process_reads_while_it_is_open(self, harness: KVHarness) -> None:
        records = {key: b"value of " + key for key in EDGE_KEYS}
        store = self.filled(harness, records)
        dump = harness.child("dump").answer()
        assert {bytes.fromhex(key): bytes.fromhex(value) for key, value in dump} == records
        assert everything(store.driver) == records

    @needs("writable", "multi_process_write")
    def test_processes_increment_one_counter(self, harness: KVHarness) -> None:
        key, times = _COUNTER.hex(), self._increments()
        children = [harness.child("increment", key=key, times=times) for _ in range(2)]
        store = KVStore(harness.open(), name=self.driver)
        increment(store, _COUNTER, times)
        for child in children:
            child.answer()
        assert store.get(_COUNTER) == b"%d" % (3 * times)

    @needs("persistent", "fork_safe")
    def test_store_is_used_after_fork(self, harness: KVHarness) -> None:
        self.filled(harness, {b"key": b"value"}).close()
        assert harness.child("read_after_fork", key=b"key".hex()).answer() == 0
