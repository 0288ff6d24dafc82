"""Names: what a store takes comes back as it was; what is no name is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvfs.backing.store import BackingStore
from kvfs.errors import Invalid, KVFSError, Unavailable, Unsupported
from kvfs.testing.backing.base import BackingBase, drain, noise, whole
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import needs

ODD_NAMES = (
    "with space",
    " leading and trailing ",
    "100%",
    "%2F",
    "%",
    "a+b&c=d?e#f",
    "-dash",
    "~tilde",
    ".hidden",
    "..hidden",
    "dir/.hidden",
    "trailing.",
    "three...dots",
    "back\\slash",
    "colon:semi;comma,",
    "quote'double\"",
    "[brackets]{braces}*?",
    "caf\u00e9",  # one code point for the accent
    "cafe\u0301",  # and two
    "\u65e5\u672c\u8a9e/\u30d5\u30a1\u30a4\u30eb.tar",
    "\U0001f600",
    "x" * 255,
    "deep/" * 20 + "end",
)
BAD_NAMES = (
    "",
    "/",
    "/absolute",
    "a//b",
    "a/",
    ".",
    "..",
    "a/..",
    "../a",
    "a/./b",
    "a\0b",
    "\ud800",
)
_CALLS: dict[str, Callable[[BackingStore, str], object]] = {
    "stat": lambda store, name: store.stat(name),
    "read": lambda store, name: store.read(name, 0, 1),
    "open_reader": lambda store, name: store.open_reader(name),
}
_WRITES: dict[str, Callable[[BackingStore, str], object]] = {
    "write": lambda store, name: store.write(name, b"data"),
    "delete": lambda store, name: store.delete(name),
}


def _of_length(size: int) -> str:
    """A name of that many bytes, in parts of at most 200."""
    name = (("p" * 199 + "/") * (size // 200 + 1))[:size]
    return name[:-1] + "p"


class Names(BackingBase):
    """Odd names, bad names, long names."""

    @pytest.mark.parametrize("name", ODD_NAMES)
    def test_odd_name(self, harness: BackingHarness, name: str) -> None:
        data = noise(100)
        store = self.filled(harness, {name: data, "beside": b""})
        assert whole(store, name) == data
        assert store.stat(name).name == name
        assert {info.name for info in store.list()} == {name, "beside"}
        assert [info.name for info in store.list(name)] == [name]
        with store.open_reader(name) as stream:
            assert drain(stream) == data

    def test_all_odd_names_together(self, harness: BackingHarness) -> None:
        objects = {name: name.encode() for name in ODD_NAMES}
        store = self.filled(harness, objects)
        assert {info.name: whole(store, info.name) for info in store.list()} == objects

    @needs("writable")
    def test_name_that_is_not_utf8(self, store: BackingStore) -> None:
        """It is taken as it is, or refused; never stored as something else."""
        name = b"latin-1 \xe9 and \xff".decode("utf-8", "surrogateescape")
        try:
            store.write(name, b"data")
        except (Invalid, Unsupported):
            assert [*store.list()] == []
            return
        assert whole(store, name) == b"data"
        assert [info.name for info in store.list()] == [name]
        store.delete(name)
        assert [*store.list()] == []

    @pytest.mark.parametrize("call", _CALLS)
    @pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
    def test_bad_name(self, harness: BackingHarness, call: str, name: str) -> None:
        store = self.filled(harness, {"a": b""})
        with pytest.raises(Invalid):
            _CALLS[call](store, name)

    @needs("writable")
    @pytest.mark.parametrize("call", _WRITES)
    @pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
    def test_bad_name_to_write(self, store: BackingStore, call: str, name: str) -> None:
        with pytest.raises(Invalid):
            _WRITES[call](store, name)
        assert [*store.list()] == []

    @needs("writable")
    def test_longest_name(self, store: BackingStore) -> None:
        name = _of_length(store.capability.name_bytes_max)
        assert len(name) == store.capability.name_bytes_max
        store.write(name, b"data")
        assert whole(store, name) == b"data"
        assert [info.name for info in store.list()] == [name]
        store.delete(name)
        assert [*store.list()] == []

    @pytest.mark.parametrize("call", _CALLS)
    def test_name_one_past_the_longest(self, harness: BackingHarness, call: str) -> None:
        store = self.filled(harness, {})
        with pytest.raises(Unsupported):
            _CALLS[call](store, _of_length(store.capability.name_bytes_max + 1))

    @needs("writable")
    def test_name_one_past_the_longest_to_write(self, store: BackingStore) -> None:
        with pytest.raises(Unsupported):
            store.write(_of_length(store.capability.name_bytes_max + 1), b"data")
        assert [*store.list()] == []

    @needs("writable")
    def test_name_below_that_of_an_object(self, store: BackingStore) -> None:
        """A store of directories cannot have it, and says so; nothing is lost either way."""
        store.write("a", b"above")
        try:
            store.write("a/b", b"below")
        except Unavailable:
            raise
        except KVFSError:
            assert [info.name for info in store.list()] == ["a"]
        else:
            assert whole(store, "a/b") == b"below"
            assert [info.name for info in store.list()] == ["a", "a/b"]
        assert whole(store, "a") == b"above"
