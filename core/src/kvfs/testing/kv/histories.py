"""Histories of threads and of processes: one order explains all that they saw, watches included."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness
from kvfs.testing.histories import Entry, Worker, record_processes, settle
from kvfs.testing.kv.base import KVBase
from kvfs.testing.linearizability import Outcome, check
from kvfs.testing.selection import needs

_THREADS = 4


class Histories(KVBase):
    """Strict serializability of guarded batches and views; see :mod:`kvfs.testing.histories`."""

    def _steps(self) -> int:
        """How many things each thread or process does."""
        return 40 if self.announced().is_network else 120

    @needs("writable", "thread_safe")
    def test_one_order_explains_what_threads_saw(self, store: KVStore) -> None:
        together, steps = Barrier(_THREADS), self._steps()

        def work(number: int) -> list[Entry]:
            worker = Worker(store, process=number, seed=number)
            together.wait()
            return worker.work(steps)

        with ThreadPoolExecutor(_THREADS) as pool:
            entries = [entry for part in pool.map(work, range(_THREADS)) for entry in part]
        check(settle(store, entries))

    @needs("writable", "multi_process_write")
    def test_one_order_explains_what_processes_saw(self, harness: KVHarness) -> None:
        recorded = record_processes(harness, count=self._steps())
        # A history in which nobody met anybody would prove nothing.
        assert recorded.count(Outcome.OK) > self._steps() // 2
        assert recorded.count(Outcome.CONFLICT) > 0
