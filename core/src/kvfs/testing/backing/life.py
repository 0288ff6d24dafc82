"""Opening, closing, opening again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvfs.backing.driver import BackingDriver
from kvfs.backing.store import BackingStore
from kvfs.errors import Closed
from kvfs.testing.backing.base import BackingBase, noise, whole
from kvfs.testing.backing.names import ODD_NAMES
from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import lacks, needs

_READS: dict[str, Callable[[BackingDriver], object]] = {
    "stat": lambda driver: driver.stat("object"),
    "list": lambda driver: list(driver.list()),
    "read": lambda driver: driver.read("object", 0, 1),
    "open_reader": lambda driver: driver.open_reader("object"),
    "free_space": lambda driver: driver.free_space(),
}


def _write(driver: BackingDriver) -> None:
    with driver.open_writer("new") as stream:
        stream.write(b"data")


_WRITES: dict[str, Callable[[BackingDriver], object]] = {
    "open_writer": _write,
    "delete": lambda driver: driver.delete("object"),
    "delete_of_nothing": lambda driver: driver.delete("absent"),
}


class Life(BackingBase):
    """What is true of a store from opening to closing."""

    def test_capability_is_as_announced(self, harness: BackingHarness) -> None:
        """Users choose, and tests are selected, by what is announced before it is opened."""
        assert harness.driver == self.driver
        assert [*harness.layers] == [*self.layers]
        assert harness.open().capability == self.announced()

    @pytest.mark.parametrize("call", _READS)
    def test_closed(self, harness: BackingHarness, call: str) -> None:
        driver = self.filled(harness, {"object": b"data"}).driver
        driver.close()
        driver.close()
        with pytest.raises(Closed):
            _READS[call](driver)

    @needs("writable")
    @pytest.mark.parametrize("call", _WRITES)
    def test_closed_to_writes(self, harness: BackingHarness, call: str) -> None:
        driver = self.filled(harness, {"object": b"data"}).driver
        driver.close()
        with pytest.raises(Closed):
            _WRITES[call](driver)

    @needs("writable")
    def test_store_closed_under_a_writer(self, harness: BackingHarness) -> None:
        """The object appears whole, or the writer says that it did not; nothing in between."""
        store = BackingStore(harness.open(), name=self.driver)
        data = noise(100_000)
        try:
            with store.open_writer("object") as stream:
                stream.write(data)
                store.close()
        except Closed:
            pass
        else:
            if store.capability.persistent:
                reopened = BackingStore(harness.open(), name=self.driver)
                assert_same_bytes(whole(reopened, "object"), data)

    def test_with_statement_closes(self, harness: BackingHarness) -> None:
        with self.filled(harness, {"object": b"data"}) as store:
            assert whole(store, "object") == b"data"
        with pytest.raises(Closed):
            store.stat("object")

    @needs("persistent")
    def test_opened_again_it_holds_what_it_held(self, harness: BackingHarness) -> None:
        objects = {name: name.encode() * 10 for name in ODD_NAMES} | {"large": noise(500_000)}
        with self.filled(harness, objects) as store:
            before = [*store.list()]
        with BackingStore(harness.open(), name=self.driver) as store:
            assert [*store.list()] == before
            assert {info.name: whole(store, info.name) for info in before} == objects

    @needs("free_space")
    def test_free_space(self, harness: BackingHarness) -> None:
        free = self.filled(harness, {"object": noise(10_000)}).free_space()
        assert free is not None
        assert free > 0

    @lacks("free_space")
    def test_free_space_is_not_known(self, harness: BackingHarness) -> None:
        assert self.filled(harness, {}).free_space() is None
