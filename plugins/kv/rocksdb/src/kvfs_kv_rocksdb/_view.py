"""Reading at one instant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from kvfs.errors import Closed
from kvfs.kv import ReadView
from kvfs.kv.calls import Calls
from kvfs_kv_rocksdb._cursor import Cursor
from kvfs_kv_rocksdb._errors import from_rocksdb

_ABSENT = "key not found"


class _Nothing:
    """In the place of a snapshot that was let go."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, key: bytes) -> bytes:
        raise Closed(f"{self._name}: this view is closed")


class RocksDBView(ReadView):
    """A snapshot for point reads, and an iterator of the same instant for scans."""

    def __init__(self, db: Any, calls: Calls, *, name: str) -> None:
        """
        :param db: a ``rocksdict.Rdict`` in raw mode.
        :param calls: as for :class:`~kvfs_kv_rocksdb._cursor.Cursor`.
        """
        self._db = db
        self._calls = calls
        self._name = name
        self._snapshot: Any = _Nothing(name)
        self._cursor: Cursor | None = None
        self._pin()

    def _pin(self) -> None:
        db = self._db
        with self._calls:
            # The number grows with each batch that becomes visible: none did in between.
            while True:
                number = db.latest_sequence_number()
                snapshot, iterator = db.snapshot(), db.iter()
                if db.latest_sequence_number() == number:
                    break
            self._snapshot = snapshot
            self._cursor = Cursor(iterator, self._calls, name=self._name)

    def _open(self) -> Cursor:
        if self._cursor is None:
            raise Closed(f"{self._name}: this view is closed")
        return self._cursor

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes = self._snapshot[key]
        except Exception as error:
            if str(error) == _ABSENT:
                return None
            if (ours := from_rocksdb(error, self._name)) is None:
                raise
            raise ours from error
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [*map(self.get, keys)]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._open().scan(start, stop, reverse=reverse, limit=limit)

    def refresh(self) -> None:
        self._open().close()
        self._pin()

    def close(self) -> None:
        """As :meth:`ReadView.close`.  The driver calls it too, from whatever thread closes it."""
        if self._cursor is not None:
            self._cursor.close()
        self._cursor = None
        self._snapshot = _Nothing(self._name)
