"""Listings: sorted by the bytes of the names, from anywhere, one by one."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from kvfs.backing.store import BackingStore
from kvfs.testing.backing.base import BackingBase
from kvfs.testing.harness import BackingHarness
from kvfs.testing.selection import needs

# In byte order.  "/" sorts between "." and "0": walking directories one by one gets that wrong.
# The last two are in the other order as UTF-16.
TRICKY_NAMES = (
    "A",
    "Z/a",
    "a b",
    "a%2Fb",
    "a+b",
    "a-b",
    "a.b",
    "a/a",
    "a/b-c",
    "a/b.c",
    "a/b/a",
    "a/b0",
    "a0",
    "aa/z",
    "b",
    "\u00e9",
    "\uff21",
    "\U0001f600",
)


_WRITERS = 8


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _names(store: BackingStore, prefix: str = "", *, after: str | None = None) -> list[str]:
    return [info.name for info in store.list(prefix, after=after)]


class Listing(BackingBase):
    """``list``."""

    def test_empty_store(self, harness: BackingHarness) -> None:
        assert _names(self.filled(harness, {})) == []

    def test_infos_are_those_of_stat(self, harness: BackingHarness) -> None:
        objects = {name: b"x" * number for number, name in enumerate(TRICKY_NAMES)}
        store = self.filled(harness, objects)
        infos = [*store.list()]
        assert {info.name: info.size for info in infos} == {
            name: len(data) for name, data in objects.items()
        }
        assert infos == [store.stat(info.name) for info in infos]

    @needs("list_is_sorted")
    def test_order_is_that_of_the_bytes(self, harness: BackingHarness) -> None:
        shuffled = random.Random(3).sample(TRICKY_NAMES, len(TRICKY_NAMES))
        store = self.filled(harness, dict.fromkeys(shuffled, b""))
        assert _names(store) == [*TRICKY_NAMES]
        assert sorted(TRICKY_NAMES, key=_encoded) == [*TRICKY_NAMES]

    @pytest.mark.parametrize(
        "prefix", ["a", "a/", "a/b", "a/b/", "a.", "Z/a", "Z/ab", "nothing/", "\u00e9", "a/b/a/"]
    )
    def test_prefix(self, harness: BackingHarness, prefix: str) -> None:
        store = self.filled(harness, dict.fromkeys(TRICKY_NAMES, b""))
        expected = {name for name in TRICKY_NAMES if name.startswith(prefix)}
        found = _names(store, prefix)
        assert len(found) == len(expected)
        assert {*found} == expected

    def test_after(self, harness: BackingHarness) -> None:
        store = self.filled(harness, dict.fromkeys(TRICKY_NAMES, b""))
        between = ("", "0", "a", "a/", "a/b", "a/b/", "a.b0", "a0/", "zz", "\U0010ffff")
        for after in (*TRICKY_NAMES, *between):
            expected = {name for name in TRICKY_NAMES if _encoded(name) > _encoded(after)}
            assert {*_names(store, after=after)} == expected, after

    def test_prefix_and_after(self, harness: BackingHarness) -> None:
        store = self.filled(harness, dict.fromkeys(TRICKY_NAMES, b""))
        for prefix, after in (("a/", "a/b"), ("a", "a/b0"), ("a/b", "Z"), ("a", "b"), ("b", "a")):
            expected = {
                name
                for name in TRICKY_NAMES
                if name.startswith(prefix) and _encoded(name) > _encoded(after)
            }
            assert {*_names(store, prefix, after=after)} == expected, (prefix, after)

    def test_two_thousand_objects(self, harness: BackingHarness) -> None:
        """More than a page of S3 (1,000), in directories and beside them."""
        names = [f"d{n % 7}/object-{n:05}" if n % 3 else f"object-{n:05}" for n in range(2000)]
        store = self.filled(harness, {})
        with ThreadPoolExecutor(_WRITERS if store.capability.thread_safe else 1) as pool:
            list(pool.map(lambda name: harness.fill(store.driver, name, b"."), names))
        found = _names(store)
        assert len(found) == 2000
        assert {*found} == {*names}
        assert {*_names(store, "d3/")} == {name for name in names if name.startswith("d3/")}
        if store.capability.list_is_sorted:
            assert found == sorted(names, key=_encoded)
            assert _names(store, after=found[1234]) == found[1235:]

    @needs("writable")
    def test_listing_in_pieces_during_changes(self, store: BackingStore) -> None:
        """What is there all the time is listed once, whatever happens to the others."""
        stay = [f"stay-{number:03}" for number in range(100)]
        for name in stay:
            store.write(name, b"")
            store.write(f"go-{name}", b"")
        found = []
        for number, info in enumerate(store.list()):
            found.append(info.name)
            if number < 100:
                store.delete(f"go-{stay[number]}")
                store.write(f"come-{number}", b"")
        assert [name for name in found if name.startswith("stay-")] == stay

    @needs("writable")
    def test_abandoned_listing_holds_up_nothing(self, store: BackingStore) -> None:
        for number in range(50):
            store.write(f"object-{number:02}", b"")
        kept = store.list()
        assert len([*islice(kept, 3)]) == 3
        del kept
        for number in range(50):
            store.delete(f"object-{number:02}")
        assert _names(store) == []
