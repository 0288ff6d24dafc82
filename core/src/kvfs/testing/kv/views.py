"""Views: one instant, for point reads and for scans, until they are refreshed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import islice
from threading import Thread

import pytest

from kvfs.errors import Closed, Unsupported
from kvfs.kv.driver import Batch, ReadView
from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import EDGE_KEYS, KVBase, everything, number_key, numbered, owned, put_all
from kvfs.testing.selection import lacks, needs

VIEW_CALLS: dict[str, Callable[[ReadView], object]] = {
    "get": lambda view: view.get(b"a"),
    "get_many": lambda view: view.get_many([b"a"]),
    "scan": lambda view: list(view.scan(b"", None)),
    "refresh": lambda view: view.refresh(),
}


def _overwrite(store: KVStore, records: dict[bytes, bytes]) -> None:
    """Change, delete and insert records, several times, so that an engine would reuse space."""
    keys = [*records]
    for round_ in range(4):
        put_all(store, dict.fromkeys(keys, b"overwritten %d" % round_ * 20))
        store.commit(Batch().delete_range(keys[len(keys) // 2], keys[-1]))
        put_all(store, {key + b"between": b"inserted" * 10 for key in keys[::2]})


class Views(KVBase):
    """``snapshot`` and the view that it makes."""

    def test_view_reads_what_the_driver_reads(self, harness: KVHarness) -> None:
        records = {key: b"value of " + key for key in EDGE_KEYS}
        store = self.filled(harness, records)
        with store.snapshot() as view:
            assert everything(view) == records
            for key, value in records.items():
                found = view.get(key)
                assert found is not None
                assert bytes(found) == value
            assert view.get(b"absent") is None
            found_many = view.get_many([b"b", b"absent", b"a"])
            assert [None if value is None else bytes(value) for value in found_many] == [
                b"value of b",
                None,
                b"value of a",
            ]

    def test_bounds_and_limits_of_a_scan(self, harness: KVHarness) -> None:
        records = numbered(20)
        items = [*records.items()]
        with self.filled(harness, records).snapshot() as view:
            assert [*owned(view.scan(number_key(5), number_key(9))).items()] == items[5:9]
            assert [*owned(view.scan(number_key(5), None, limit=3)).items()] == items[5:8]
            assert [*view.scan(number_key(9), number_key(5))] == []
            assert [*view.scan(b"", None, limit=0)] == []

    @needs("scan_can_reverse")
    def test_bounds_and_limits_of_a_reverse_scan(self, harness: KVHarness) -> None:
        records = numbered(20)
        items = [*records.items()][::-1]
        with self.filled(harness, records).snapshot() as view:
            assert [*owned(view.scan(b"", None, reverse=True)).items()] == items
            bounds = (number_key(5), number_key(9))
            assert [*owned(view.scan(*bounds, reverse=True)).items()] == items[11:15]
            assert [*owned(view.scan(*bounds, reverse=True, limit=2)).items()] == items[11:13]

    @lacks("scan_can_reverse")
    def test_reverse_scan_of_a_view_is_refused(self, harness: KVHarness) -> None:
        with (
            self.filled(harness, numbered(3)).snapshot() as view,
            pytest.raises(Unsupported),
        ):
            list(view.scan(b"", None, reverse=True))

    @needs("writable", "snapshot")
    def test_get_sees_no_later_write(self, store: KVStore) -> None:
        store.commit(Batch().put(b"changed", b"old").put(b"deleted", b"old"))
        with store.snapshot() as view:
            store.commit(Batch().put(b"changed", b"new").delete(b"deleted").put(b"made", b"new"))
            keys = [b"changed", b"deleted", b"made"]
            many = [None if value is None else bytes(value) for value in view.get_many(keys)]
            assert many == [b"old", b"old", None]
            single = [None if (got := view.get(key)) is None else bytes(got) for key in keys]
            assert single == [b"old", b"old", None]
        assert store.get_many(keys) == [b"new", None, b"new"]

    @needs("writable", "snapshot")
    def test_scan_begun_after_a_write_does_not_see_it(self, store: KVStore) -> None:
        records = numbered(300)
        put_all(store, records)
        with store.snapshot() as view:
            _overwrite(store, records)
            assert everything(view) == records

    @needs("writable", "snapshot", "scan_can_reverse")
    def test_reverse_scan_begun_after_a_write_does_not_see_it(self, store: KVStore) -> None:
        records = numbered(300)
        put_all(store, records)
        with store.snapshot() as view:
            _overwrite(store, records)
            found = owned(view.scan(b"", None, reverse=True))
            assert [*found.items()] == [*records.items()][::-1]

    @needs("writable", "snapshot")
    def test_running_scan_does_not_see_a_write(self, store: KVStore) -> None:
        records = numbered(300)
        put_all(store, records)
        with store.snapshot() as view:
            scan = view.scan(b"", None)
            found = owned(islice(scan, 100))
            _overwrite(store, records)
            assert found | owned(scan) == records

    @needs("writable")
    def test_refresh_moves_to_the_present(self, store: KVStore) -> None:
        store.commit(Batch().put(b"a", b"1"))
        with store.snapshot() as view:
            for number in range(20):
                store.commit(Batch().put(b"a", b"%d" % number).put(b"%d" % number, b"x"))
                view.refresh()
                found = view.get(b"a")
                assert found is not None
                assert bytes(found) == b"%d" % number
                assert len(everything(view)) == number + 2

    @needs("writable", "snapshot")
    def test_buffers_are_valid_until_refresh(self, store: KVStore) -> None:
        records = {key: value * 50 for key, value in numbered(200).items()}
        put_all(store, records)
        with store.snapshot() as view:
            single = {key: view.get(key) for key in records}
            many = dict(zip(records, view.get_many([*records]), strict=True))
            scanned = [*view.scan(b"", None)]
            _overwrite(store, records)
            gc.collect()
            for found in (single, many):
                assert {key: bytes(value or b"") for key, value in found.items()} == records
            assert owned(scanned) == records
            del single, many, scanned, found
            view.refresh()
            assert everything(view) == everything(store.driver)

    @needs("writable", "snapshot")
    def test_views_of_different_instants(self, store: KVStore) -> None:
        views = []
        for number in range(5):
            store.put(b"%d" % number, b"x")
            views.append(store.snapshot())
        for number, view in enumerate(views):
            assert [*everything(view)] == [b"%d" % n for n in range(number + 1)]
        for view in views[::2]:
            view.close()
        assert len(everything(views[1])) == 2
        for view in views:
            view.close()

    @needs("writable", "snapshot", "thread_safe")
    def test_view_made_in_another_thread(self, store: KVStore) -> None:
        store.put(b"a", b"1")
        made: list[ReadView] = []
        thread = Thread(target=lambda: made.append(store.snapshot()))
        thread.start()
        thread.join()
        store.put(b"a", b"2")
        with made[0] as view:
            assert everything(view) == {b"a": b"1"}
            view.refresh()
            assert everything(view) == {b"a": b"2"}

    def test_many_views_one_after_another(self, harness: KVHarness) -> None:
        """An engine with a table of readers, or of connections, must not run out of its entries."""
        store = self.filled(harness, {b"a": b"1"})
        for _ in range(150 if self.announced().is_network else 500):
            with store.snapshot() as view:
                found = view.get(b"a")
                assert found is not None
                assert bytes(found) == b"1"
                del found

    @pytest.mark.parametrize("call", VIEW_CALLS)
    def test_closed_view(self, harness: KVHarness, call: str) -> None:
        view = self.filled(harness, {b"a": b"1"}).snapshot()
        view.close()
        view.close()
        with pytest.raises(Closed):
            VIEW_CALLS[call](view)

    @pytest.mark.parametrize("call", VIEW_CALLS)
    def test_view_that_outlives_its_driver(self, harness: KVHarness, call: str) -> None:
        """It answers as before or says that it is closed; it harms nothing."""
        store = self.filled(harness, {b"a": b"1"})
        view = store.snapshot()
        scan = view.scan(b"", None)
        store.close()
        for use in (VIEW_CALLS[call], lambda _: next(scan, None)):
            try:
                use(view)
            except Closed:
                continue
        view.close()
