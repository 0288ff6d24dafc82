"""What the rooms of the key-value kit share: the fixtures, and records to test with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pytest

from kvfs.kv.driver import Buffer, Readable
from kvfs.kv.store import KVStore
from kvfs.testing.harness import KVHarness, batches_of
from kvfs.testing.selection import KVSelection

# In byte order: prefixes before what they begin, 0x00 and 0xff at both ends, bytes above 0x7f.
EDGE_KEYS = (
    b"\x00",
    b"\x00\x00",
    b"\x00\xff",
    b"\x01",
    b"a",
    b"a\x00",
    b"a\x00b",
    b"a\x01",
    b"aa",
    b"ab",
    b"a\xff",
    b"b",
    b"\x7f",
    b"\x80",
    b"\xc3\xa9",
    b"\xfe\xff",
    b"\xff",
    b"\xff\x00",
    b"\xff\xff",
    b"\xff\xff\xff",
)
EDGE_VALUES = (
    b"",
    b"\x00",
    b"\xff",
    b"\x00" * 4096,
    bytes(range(256)),
    b"line\r\nline\n",
    b"x" * 2047,
    b"y" * 65_537,
)


def number_key(number: int) -> bytes:
    """A key of eight bytes, in numeric order."""
    return number.to_bytes(8, "big")


def numbered(count: int) -> dict[bytes, bytes]:
    """Records with keys in numeric order and values that differ."""
    return {number_key(number): b"value %d" % number for number in range(count)}


def everything(source: Readable) -> dict[bytes, bytes]:
    """All records, copied."""
    return owned(source.scan(b"", None))


def owned(records: Iterable[tuple[Buffer, Buffer]]) -> dict[bytes, bytes]:
    """Records, copied; fails if a key comes twice."""
    found: dict[bytes, bytes] = {}
    for key, value in records:
        copied = bytes(key)
        assert copied not in found, f"{copied!r} comes twice"
        found[copied] = bytes(value)
    return found


def put_all(store: KVStore, records: Mapping[bytes, Buffer]) -> None:
    """Put records into a store, where it does not matter in how many batches."""
    for batch in batches_of(records, store.capability):
        store.commit(batch)


class KVBase(KVSelection):
    """The fixtures of the key-value kit."""

    @pytest.fixture
    def harness(self) -> KVHarness:
        """How to open the engine: what the author of a driver gives."""
        raise NotImplementedError("give the fixture `harness`, see the docstring of kvfs.testing")

    @pytest.fixture(autouse=True)
    def _close_all(self, harness: KVHarness) -> Iterator[None]:
        yield
        harness.close()

    @pytest.fixture
    def store(self, harness: KVHarness) -> KVStore:
        """An empty store, as users hold it."""
        return KVStore(harness.open(), name=self.driver)

    def filled(self, harness: KVHarness, records: Mapping[bytes, Buffer]) -> KVStore:
        """A store with these records, written beneath a layer that refuses writes."""
        driver = harness.open()
        harness.fill(driver, records)
        return KVStore(driver, name=self.driver)
