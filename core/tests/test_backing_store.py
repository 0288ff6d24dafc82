"""The portable type of backing stores: what it refuses before the store sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kvfs.backing import BackingStore
from kvfs.backing.memory import CAPABILITY, MemoryDriver
from kvfs.errors import Closed, Invalid, NotFound, Unsupported


class Untouchable(MemoryDriver):
    """A store that fails the test when anything reaches it."""

    def _open(self) -> Any:
        raise AssertionError("the driver was called")


def _store(**changes: Any) -> BackingStore:
    driver = Untouchable()
    driver.capability = attrs.evolve(CAPABILITY, **changes)
    return BackingStore(driver, name="store /data")


CALLS: dict[str, Callable[[BackingStore, str], object]] = {
    "stat": lambda store, name: store.stat(name),
    "read": lambda store, name: store.read(name, 0, 1),
    "open_reader": lambda store, name: store.open_reader(name),
    "open_writer": lambda store, name: store.open_writer(name),
    "write": lambda store, name: store.write(name, b""),
    "delete": lambda store, name: store.delete(name),
}
BAD_NAMES = ["", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/../b", "a/.", "\0", "a\0b", "\ud800"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names(call: str, name: str) -> None:
    with pytest.raises(Invalid, match=r"^store /data: .* is not an object name"):
        CALLS[call](_store(), name)


@pytest.mark.parametrize("call", CALLS)
def test_long_names(call: str) -> None:
    """The limit is one of bytes, not of characters."""
    store = _store(name_bytes_max=10)
    with pytest.raises(Unsupported, match="a name of 11 bytes"):
        CALLS[call](store, "12345678\u00e9x")
    with pytest.raises(AssertionError, match="the driver was called"):
        CALLS[call](store, "12345678\u00e9").__enter__()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["a", "...", "..a", "a..", ".hidden/x", "a b", "\udcff", "%2F"])
def test_odd_names_are_names(name: str) -> None:
    store = BackingStore(MemoryDriver(), name="store")
    store.write(name, b"data")
    assert [info.name for info in store.list()] == [name]


@pytest.mark.parametrize(("start", "stop"), [(-1, 0), (-2, -1), (1, 0)])
def test_bad_ranges(start: int, stop: int) -> None:
    with pytest.raises(Invalid, match="is not a range"):
        _store().read("a", start, stop)


def test_negative_start() -> None:
    with pytest.raises(Invalid, match="negative"):
        _store().open_reader("a", -1)


@pytest.mark.parametrize("call", ["open_writer", "write", "delete"])
def test_read_only_store_is_not_written(call: str) -> None:
    with pytest.raises(Unsupported, match=f"{'delete' if call == 'delete' else 'open_writer'}"):
        CALLS[call](_store(writable=False), "a")


def test_conditions_that_the_store_cannot_check() -> None:
    store = _store(conditional_create=False, conditional_replace=False)
    with pytest.raises(Unsupported, match="if_absent"):
        store.open_writer("a", if_absent=True)
    with pytest.raises(Unsupported, match="if_match"):
        store.open_writer("a", if_match="1")
    with pytest.raises(Unsupported, match="if_match"):
        store.delete("a", if_match="1")


def test_conditions_exclude_each_other() -> None:
    with pytest.raises(Invalid, match="exclude"):
        _store().open_writer("a", if_absent=True, if_match="1")


def test_write_and_read_back() -> None:
    with BackingStore(MemoryDriver(), name="store") as store:
        store.write("a", b"0123456789")
        assert store.read("a", 2, 5) == b"234"
        with pytest.raises(NotFound):
            store.stat("b")
    with pytest.raises(Closed):
        store.stat("a")
