"""Opening, closing, opening again; durability; what the engine says about itself."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from kvfs.capability import Durability
from kvfs.errors import Closed, Unsupported
from kvfs.kv.driver import Batch, KVDriver
from kvfs.kv.store import KVStore
from kvfs.testing.child import record
from kvfs.testing.harness import KVHarness
from kvfs.testing.kv.base import EDGE_KEYS, KVBase, everything, numbered, put_all
from kvfs.testing.selection import needs

_READS: dict[str, Callable[[KVDriver], object]] = {
    "get": lambda driver: driver.get(b"a"),
    "get_many": lambda driver: driver.get_many([b"a"]),
    "scan": lambda driver: list(driver.scan(b"", None)),
    "snapshot": lambda driver: driver.snapshot(),
    "stats": lambda driver: driver.stats(),
}
_WRITES: dict[str, Callable[[KVDriver], object]] = {
    "commit": lambda driver: driver.commit(Batch().put(b"a", b"2"), Durability.MEMORY),
    "commit_of_nothing": lambda driver: driver.commit(Batch(), Durability.MEMORY),
    "compact": lambda driver: driver.compact(),
}


class Life(KVBase):
    """What is true of an engine from opening to closing."""

    def test_capability_is_as_announced(self, harness: KVHarness) -> None:
        """Users choose, and tests are selected, by what is announced before it is opened."""
        assert harness.driver == self.driver
        assert [*harness.layers] == [*self.layers]
        assert harness.open().capability == self.announced()

    @pytest.mark.parametrize("call", _READS)
    def test_closed(self, harness: KVHarness, call: str) -> None:
        driver = self.filled(harness, {b"a": b"1"}).driver
        driver.close()
        driver.close()
        with pytest.raises(Closed):
            _READS[call](driver)

    @needs("writable")
    @pytest.mark.parametrize("call", _WRITES)
    def test_closed_to_writes(self, harness: KVHarness, call: str) -> None:
        driver = self.filled(harness, {b"a": b"1"}).driver
        driver.close()
        with pytest.raises(Closed):
            _WRITES[call](driver)

    def test_scan_that_outlives_its_driver(self, harness: KVHarness) -> None:
        """It goes on as before or says that it is closed; it harms nothing."""
        records = numbered(100)
        driver = self.filled(harness, records).driver
        scan = driver.scan(b"", None)
        next(scan)
        driver.close()
        try:
            assert [*scan] == [*records.items()][1:]
        except Closed:
            pass

    def test_with_statement_closes(self, harness: KVHarness) -> None:
        with self.filled(harness, {b"a": b"1"}) as store:
            assert store.get(b"a") == b"1"
        with pytest.raises(Closed):
            store.get(b"a")

    def test_stores_of_one_volume_are_apart(self, harness: KVHarness) -> None:
        first, second = harness.open(store="first"), harness.open(store="second")
        harness.fill(first, {b"key": b"first", b"only": b"here"})
        harness.fill(second, {b"key": b"second"})
        assert everything(first) == {b"key": b"first", b"only": b"here"}
        assert everything(second) == {b"key": b"second"}
        first.close()
        assert second.get(b"key") == b"second"

    @needs("persistent")
    def test_opened_again_it_holds_what_it_held(self, harness: KVHarness) -> None:
        records = {key: b"value of " + key for key in EDGE_KEYS} | {b"large": b"x" * 300_000}
        for _ in range(3):
            driver = harness.open()
            harness.fill(driver, records)
            driver.close()
            driver = harness.open()
            assert everything(driver) == records
            with driver.snapshot() as view:
                assert everything(view) == records
            driver.close()
            records[b"round"] = records.get(b"round", b"") + b"again"

    @needs("persistent", "writable")
    def test_opened_again_it_can_be_written(self, harness: KVHarness) -> None:
        expected: dict[bytes, bytes] = {}
        for number in range(5):
            with KVStore(harness.open(), name=self.driver) as store:
                store.create(b"%d" % number, b"made")
                store.commit(Batch().guard(b"%d" % number, b"made").put(b"last", b"%d" % number))
                expected |= {b"%d" % number: b"made", b"last": b"%d" % number}
                assert everything(store.driver) == expected

    @needs("persistent")
    def test_removed_store_is_empty_again(self, harness: KVHarness) -> None:
        for store in ("removed", "kept"):
            driver = harness.open(store=store)
            harness.fill(driver, numbered(100))
            driver.close()
        for _ in range(2):  # the second time there is nothing to remove
            harness.remove("removed")
        assert everything(harness.open(store="removed")) == {}
        assert everything(harness.open(store="kept")) == numbered(100)

    @needs("persistent")
    def test_another_process_reads_what_was_written(self, harness: KVHarness) -> None:
        records = {key: b"value of " + key for key in EDGE_KEYS}
        self.filled(harness, records).close()
        dump = harness.child("dump").answer()
        assert {bytes.fromhex(key): bytes.fromhex(value) for key, value in dump} == records

    @needs("writable")
    @pytest.mark.parametrize("level", Durability)
    def test_durability_asked_for_is_there_or_refused(
        self, harness: KVHarness, level: Durability
    ) -> None:
        best = self.announced().durability
        store = KVStore(harness.open(durability=min(level, best)), name=self.driver)
        assert min(level, best) <= store.capability.durability <= best
        if level <= store.capability.durability:
            store.put(b"key", b"value", level)
            assert store.get(b"key") == b"value"
        else:
            with pytest.raises(Unsupported):
                store.put(b"key", b"value", level)
            assert store.get(b"key") is None

    @needs("persistent", "writable", "durability")
    def test_killed_process_loses_no_acknowledged_commit(self, harness: KVHarness) -> None:
        lines = harness.child("commit_and_die", commits=25).dead(signal.SIGKILL)
        assert lines == [str(number) for number in range(25)]
        expected: dict[bytes, bytes] = {}
        for number in range(25):
            expected |= record(number)
        driver = harness.open()
        assert everything(driver) == expected
        harness.fill(driver, {b"after": b"works"})
        assert driver.get(b"after") == b"works"

    @needs("writable")
    def test_compact_changes_nothing(self, store: KVStore) -> None:
        records = numbered(500)
        put_all(store, records)
        store.commit(Batch().delete_range([*records][100], [*records][400]))
        before = everything(store.driver)
        store.compact()
        assert everything(store.driver) == before
        assert len(before) == 200

    def test_stats(self, harness: KVHarness) -> None:
        driver = harness.open()
        before = driver.stats()
        harness.fill(driver, dict.fromkeys(numbered(200), b"x" * 10_000))
        after = driver.stats()
        if before.keys is not None:
            assert (before.keys, after.keys) == (0, 200)
        if before.bytes_used is not None:
            assert after.bytes_used is not None
            assert after.bytes_used - before.bytes_used >= 200 * 10_000
        for free in (before.bytes_free, after.bytes_free):
            assert free is None or free > 0
        for disk in (before.bytes_on_disk, after.bytes_on_disk):
            assert disk is None or disk >= 0
