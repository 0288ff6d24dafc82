"""Reading at one instant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NoReturn, TypeVar

import lmdb

from kvfs.errors import Closed
from kvfs.kv import Buffer, ReadView
from kvfs_kv_lmdb._errors import from_lmdb
from kvfs_kv_lmdb._resident import READS_PER_CHECK

T = TypeVar("T", bytes, memoryview)

Begin = Callable[..., "lmdb.Transaction[memoryview]"]


def place(
    cursor: lmdb.Cursor[T], start: bytes, stop: bytes | None, *, reverse: bool
) -> Iterator[tuple[T, T]]:
    """The records from the first (or the last) one of ``[start, stop)`` on, without an end."""
    if not reverse:
        return cursor.iternext() if cursor.set_range(start) else iter(())
    if stop is None or not cursor.set_range(stop):
        found = cursor.last()
    else:
        found = cursor.prev()
    return cursor.iterprev() if found else iter(())


def scan_buffers(
    txn: lmdb.Transaction[memoryview],
    start: bytes,
    stop: bytes | None,
    *,
    reverse: bool,
    name: str,
    check: Callable[[], None],
) -> Iterator[tuple[bytes, Buffer]]:
    """The records of ``[start, stop)``: keys copied, since buffers do not compare, values not."""
    left = READS_PER_CHECK
    try:
        for key, value in place(txn.cursor(), start, stop, reverse=reverse):
            own = bytes(key)
            if own < start if reverse else stop is not None and own >= stop:
                return
            yield own, value
            # Not before the key is copied: another thread may close the store meanwhile.
            left -= 1
            if left < 0:
                left = READS_PER_CHECK
                check()
    except lmdb.Error as error:
        raise from_lmdb(error, name) from error


class LMDBView(ReadView):
    """A read transaction.  Values are LMDB's own memory until :meth:`refresh` or :meth:`close`.

    Any thread may use it, one at a time.
    """

    __slots__ = ("_begin", "_check", "_get", "_left", "_name", "_txn")

    def __init__(self, begin: Begin, *, name: str, check: Callable[[], None]) -> None:
        """
        :param begin: starts a read transaction.
        :param check: called every :data:`~kvfs_kv_lmdb._resident.READS_PER_CHECK` reads.
        """
        self._name = name
        self._begin = begin
        self._check = check
        self._left = READS_PER_CHECK
        self._txn: lmdb.Transaction[memoryview] | None = None
        self._get: Callable[[bytes], Buffer | None] = self._refuse
        self._start()

    def _start(self) -> None:
        try:
            self._txn = txn = self._begin(buffers=True)
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error
        self._get = txn.get

    def _refuse(self, key: bytes) -> NoReturn:
        raise Closed(f"{self._name}: this view is closed")

    def _open(self) -> lmdb.Transaction[memoryview]:
        if self._txn is None:
            self._refuse(b"")
        return self._txn

    def _look(self) -> None:
        self._left = READS_PER_CHECK
        self._check()

    def get(self, key: bytes) -> Buffer | None:
        # The hot path of every read in KVFS: one call, one decrement.
        self._left -= 1
        if self._left < 0:
            self._look()
        try:
            return self._get(key)
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error

    def get_many(self, keys: Sequence[bytes]) -> list[Buffer | None]:
        self._left -= len(keys)
        if self._left < 0:
            self._look()
        try:
            return [*map(self._get, keys)]
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Buffer, Buffer]]:
        records = scan_buffers(
            self._open(), start, stop, reverse=reverse, name=self._name, check=self._check
        )
        return records if limit is None else islice(records, limit)

    def refresh(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._look()
        self._open().abort()
        self._start()

    def close(self) -> None:
        if self._txn is not None:
            self._txn.abort()
            self.forget()

    def forget(self) -> None:
        """Become closed without ending the transaction, which another thread may be reading in."""
        self._txn = None
        self._get = self._refuse
