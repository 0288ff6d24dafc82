"""Ordered reading at one instant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from kvfs.errors import Closed
from kvfs.kv.calls import Calls

_RECORDS_MIN, _RECORDS_MAX = 8, 128
_BYTES_MAX = 256 << 10

Record = tuple[bytes, bytes]


class Positioned(Protocol):
    """What is used of ``rocksdict.RdictIter`` in raw mode."""

    def valid(self) -> bool: ...
    def status(self) -> None: ...
    def seek(self, key: bytes) -> None: ...
    def seek_to_last(self) -> None: ...
    def seek_for_prev(self, key: bytes) -> None: ...
    def next(self) -> None: ...
    def prev(self) -> None: ...
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...


class Cursor:
    """A RocksDB iterator: it shows the instant at which it was made, wherever it is placed.

    Snapshots of rocksdict do not: an iterator made from one shows the present.  So this is what a
    view scans with.  Any number of scans share it, as each finds its place again by key for every
    portion that it reads.
    """

    def __init__(self, iterator: Positioned, calls: Calls, *, name: str) -> None:
        """
        :param calls: where reading counts as a call; once they have ended, :meth:`close` is safe.
        :param name: what errors call the store.
        """
        self._iterator: Positioned | None = iterator
        self._calls = calls
        self._name = name

    def close(self) -> None:
        """Let go of the instant; scans that go on raise Closed."""
        self._iterator = None

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool, limit: int | None
    ) -> Iterator[Record]:
        """As :meth:`kvfs.kv.driver.Readable.scan`."""
        left = limit
        count = _RECORDS_MIN
        more = left != 0
        while more:
            asked = count if left is None else min(count, left)
            records, more = self._portion(start, stop, reverse=reverse, count=asked)
            yield from records
            if left is not None:
                left -= len(records)
                more = more and left > 0
            if more and reverse:
                stop = records[-1][0]
            elif more:
                start = records[-1][0] + b"\0"
            count = min(2 * count, _RECORDS_MAX)

    def _portion(
        self, start: bytes, stop: bytes | None, *, reverse: bool, count: int
    ) -> tuple[list[Record], bool]:
        """Some records of the beginning (in reverse: the end) of the range; may there be more?"""
        with self._calls:
            iterator = self._iterator
            if iterator is None:
                raise Closed(f"{self._name}: this view was refreshed or closed")
            if reverse:
                return _backward(iterator, start, stop, count)
            return _forward(iterator, start, stop, count)


def _forward(
    iterator: Positioned, start: bytes, stop: bytes | None, count: int
) -> tuple[list[Record], bool]:
    records: list[Record] = []
    size = 0
    iterator.seek(start)
    while iterator.valid():
        key = iterator.key()
        if stop is not None and key >= stop:
            return records, False
        value = iterator.value()
        records.append((key, value))
        size += len(value)
        if len(records) >= count or size >= _BYTES_MAX:
            return records, True
        iterator.next()
    iterator.status()
    return records, False


def _backward(
    iterator: Positioned, start: bytes, stop: bytes | None, count: int
) -> tuple[list[Record], bool]:
    records: list[Record] = []
    size = 0
    if stop is None:
        iterator.seek_to_last()
    else:
        iterator.seek_for_prev(stop)
        if iterator.valid() and iterator.key() == stop:
            iterator.prev()
    while iterator.valid():
        key = iterator.key()
        if key < start:
            return records, False
        value = iterator.value()
        records.append((key, value))
        size += len(value)
        if len(records) >= count or size >= _BYTES_MAX:
            return records, True
        iterator.prev()
    iterator.status()
    return records, False
