"""Several threads at one store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Barrier, Event

from kvfs.backing.store import BackingStore
from kvfs.errors import AlreadyExists, Conflict, Corrupt, Stale
from kvfs.testing.backing.base import BackingBase, drain, noise, whole
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import needs

_THREADS = 8


def _together(workers: list[Callable[[], bool]]) -> list[bool]:
    """Run them at the same time, beginning at the same time; their answers."""
    barrier = Barrier(len(workers))

    def run(worker: Callable[[], bool]) -> bool:
        barrier.wait()
        return worker()

    with ThreadPoolExecutor(len(workers)) as pool:
        return [future.result() for future in [pool.submit(run, worker) for worker in workers]]


def _contents(thread: int) -> bytes:
    return noise(50_000 + thread, seed=thread)


class Sharing(BackingBase):
    """Races have one winner, and readers see whole objects."""

    @needs("writable", "thread_safe", "conditional_create")
    def test_one_thread_creates_an_object(self, store: BackingStore) -> None:
        def create(name: str, thread: int) -> bool:
            try:
                store.write(name, _contents(thread), if_absent=True)
            except AlreadyExists:
                return False
            return True

        for name in ("a", "b", "new/directory/c"):
            won = _together([partial(create, name, thread) for thread in range(_THREADS)])
            assert won.count(True) == 1
            assert whole(store, name) == _contents(won.index(True))
        assert [info.name for info in store.list()] == ["a", "b", "new/directory/c"]

    @needs("writable", "thread_safe", "conditional_replace")
    def test_one_thread_replaces_a_version(self, store: BackingStore) -> None:
        store.write("object", b"old")

        def replace(version: str, thread: int) -> bool:
            try:
                store.write("object", _contents(thread), if_match=version)
            except Conflict:
                return False
            return True

        for _ in range(3):
            version = store.stat("object").version
            won = _together([partial(replace, version, thread) for thread in range(_THREADS)])
            assert won.count(True) == 1
            assert whole(store, "object") == _contents(won.index(True))
            store.write("object", b"old")

    @needs("writable", "thread_safe")
    def test_readers_see_one_of_the_written_objects(
        self, store: BackingStore, harness: BackingHarness
    ) -> None:
        written = {_contents(thread) for thread in range(3)}
        store.write("object", _contents(0))
        done = Event()

        def write() -> bool:
            try:
                for number in range(30):
                    store.write("object", _contents(number % 3))
            finally:
                done.set()
            return True

        def read() -> bool:
            while not done.is_set():
                try:
                    with store.open_reader("object") as stream:
                        assert drain(stream) in written
                except Stale:
                    assert store.capability.is_network
                except Corrupt:
                    assert harness.mixes
                assert [info.name for info in store.list()] == ["object"]
                assert store.stat("object").size in {len(data) for data in written}
            return True

        assert all(_together([write, read, read]))

    @needs("writable", "thread_safe")
    def test_threads_write_objects_of_their_own(self, store: BackingStore) -> None:
        def work(thread: int) -> bool:
            for number in range(10):
                name = f"d{number}/t{thread}"
                store.write(name, _contents(thread))
                assert whole(store, name) == _contents(thread)
                if number % 2:
                    store.delete(name)
            return True

        assert all(_together([partial(work, thread) for thread in range(_THREADS)]))
        expected = [f"d{number}/t{t}" for number in range(0, 10, 2) for t in range(_THREADS)]
        assert [info.name for info in store.list()] == expected
