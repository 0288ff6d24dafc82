"""Watches: every change is told of, after it can be read, whoever made it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread

import pytest

from kvfs.errors import Closed, Conflict, Unsupported
from kvfs.kv.driver import Batch, Watch
from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import KVBase, number_key, numbered, put_all
from kvfs.testing.selection import lacks, needs

_LONG_S = 60
"""Never waited out, unless something is wrong."""


def told(watch: Watch, until: bytes) -> list[bytes]:
    """The keys that the watch tells of, up to and with ``until``."""
    keys: list[bytes] = []
    while until not in keys:
        more = watch.wait(_LONG_S)
        assert more, f"{until!r} is not told of; only {keys}"
        keys += map(bytes, more)
    return keys


class Watches(KVBase):
    """``watch`` of the driver."""

    @lacks("watch")
    def test_watch_is_refused(self, harness: KVHarness) -> None:
        with pytest.raises(Unsupported):
            harness.open().watch(b"", None)

    @needs("writable", "watch")
    def test_changes_are_told_in_order(self, store: KVStore) -> None:
        store.put(b"before", b"1")
        with store.watch(b"", None) as watch:
            store.put(b"b", b"1")
            store.put(b"a", b"1")
            store.delete(b"b")
            store.put(b"end", b"1")
            assert told(watch, b"end") == [b"b", b"a", b"b", b"end"]

    @needs("writable", "watch")
    def test_only_the_range_is_told_of(self, store: KVStore) -> None:
        with store.watch(b"b", b"d") as watch:
            batch = Batch(puts=dict.fromkeys((b"a\xff", b"b", b"c\xff", b"d", b"e"), b"1"))
            store.commit(batch)
            store.put(b"c", b"end")
            assert sorted(told(watch, b"c")) == [b"b", b"c", b"c\xff"]

    @needs("writable", "watch")
    def test_all_of_a_batch_is_told(self, store: KVStore) -> None:
        put_all(store, numbered(50))
        with store.watch(b"", None) as watch:
            batch = Batch().delete_range(number_key(10), number_key(40)).delete(number_key(45))
            store.commit(batch.put(number_key(20), b"again").put(b"new", b"1"))
            store.put(b"end", b"1")
            expected = {*map(number_key, range(10, 40)), number_key(45), b"new", b"end"}
            assert {*told(watch, b"end")} == expected

    @needs("writable", "watch")
    def test_refused_batch_is_not_told(self, store: KVStore) -> None:
        with store.watch(b"", None) as watch:
            with pytest.raises(Conflict):
                store.commit(Batch().guard(b"a", b"other").put(b"a", b"1"))
            store.put(b"end", b"1")
            assert told(watch, b"end") == [b"end"]

    @needs("writable", "watch", "thread_safe")
    def test_what_is_told_can_be_read(self, store: KVStore) -> None:
        """Whoever reads after the word of a change sees it, or a later one."""

        def write() -> None:
            for number in range(100):
                store.commit(Batch().put(b"one", b"%d" % number).put(b"two", b"%d" % number))

        with store.watch(b"one", b"two") as watch:
            writer = Thread(target=write)
            writer.start()
            seen = -1
            changes = 0
            while changes < 100:
                told = watch.wait(_LONG_S)
                assert told
                changes += len(told)
                now = int(store.get(b"two") or b"-1")
                assert now >= max(seen, changes - 1)
                seen = now
            writer.join()

    @needs("writable", "watch", "multi_process_write")
    def test_changes_by_another_process(self, harness: KVHarness) -> None:
        store = KVStore(harness.open(), name=self.driver)
        with store.watch(b"counter", b"counter\0") as watch:
            child = harness.child("increment", key=b"counter".hex(), times=5)
            count = 0
            while count < 5:
                more = watch.wait(_LONG_S)
                assert more, count
                count += len(more)
                assert int(store.get(b"counter") or b"0") >= count
            child.answer()

    @needs("watch")
    def test_time_goes_by(self, store: KVStore) -> None:
        with store.watch(b"", None) as watch:
            assert [*watch.wait(0.01)] == []
            assert [*watch.wait(0)] == []

    @needs("writable", "watch")
    def test_watches_are_apart(self, store: KVStore) -> None:
        first, second = store.watch(b"", None), store.watch(b"b", None)
        store.put(b"a", b"1")
        first.close()
        store.put(b"b", b"1")
        assert told(second, b"b") == [b"b"]
        second.close()
        with pytest.raises(Closed):
            second.wait(0)

    @needs("watch", "thread_safe")
    @pytest.mark.parametrize("what", ["watch", "store"])
    def test_closing_ends_the_wait(self, harness: KVHarness, what: str) -> None:
        driver = harness.open()
        watch = driver.watch(b"", None)
        seen: list[type[Exception]] = []

        def wait(forever: Callable[[], object]) -> None:
            try:
                forever()
            except Closed as error:
                seen.append(type(error))

        waiter = Thread(target=wait, args=(partial(watch.wait, None),))
        waiter.start()
        (watch if what == "watch" else driver).close()
        waiter.join(_LONG_S)
        assert seen == [Closed]
        watch.close()
