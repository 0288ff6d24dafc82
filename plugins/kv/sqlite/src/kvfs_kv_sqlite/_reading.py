"""Reading: point reads, scans, and views of one instant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from weakref import WeakSet

import apsw

from kvfs.errors import Closed
from kvfs.kv import ReadView
from kvfs.kv.calls import Calls
from kvfs_kv_sqlite._connections import Connections

GET = "select v from kv where k = ?"
_BEGIN = ("begin", "select 1 from kv limit 1")
"""A transaction shows the instant of its first read."""
_RECORDS_MIN, _RECORDS_MAX = 8, 128
_BYTES_MAX = 256 << 10

Record = tuple[bytes, bytes]


def get(connection: apsw.Connection, key: bytes) -> bytes | None:
    """The value of a key, or ``None``."""
    value: bytes | None = connection.execute(GET, (key,)).get
    return value


def select(
    connection: apsw.Connection,
    start: bytes,
    stop: bytes | None,
    *,
    reverse: bool,
    limit: int | None,
) -> apsw.Cursor:
    """A cursor before the first record.  Its instant is now, unless a transaction has one."""
    bounds = [start] if stop is None else [start, stop]
    return connection.execute(
        "select k, v from kv where k >= ?"
        + ("" if stop is None else " and k < ?")
        + (" order by k desc" if reverse else " order by k")
        + ("" if limit is None else f" limit {limit:d}"),
        bounds,
    )


class Scan(Iterator[Record]):
    """The records of a cursor, fetched some at a time."""

    def __init__(
        self, cursor: apsw.Cursor, calls: Calls, *, done: Callable[[], None] | None = None
    ) -> None:
        """
        :param done: called once, when the cursor is not needed any more; in whatever thread.
        """
        self._cursor: apsw.Cursor | None = cursor
        self._calls = calls
        self._done = done
        self._records: Iterator[Record] = iter(())
        self._count = _RECORDS_MIN
        self._ended = False

    def __next__(self) -> Record:
        for record in self._records:
            return record
        if self._ended:
            raise Closed("sqlite: the view of this scan was refreshed or closed")
        self._records = iter(self._fetch())
        return next(self._records)

    def _fetch(self) -> list[Record]:
        records: list[Record] = []
        if self._cursor is not None:
            size = 0
            with self._calls:
                for record in self._cursor:
                    records.append(record)
                    size += len(record[1])
                    if len(records) >= self._count or size >= _BYTES_MAX:
                        break
            self._count = min(2 * self._count, _RECORDS_MAX)
            if not records:
                self._finish()
        return records

    def _finish(self) -> None:
        self._cursor = None
        done, self._done = self._done, None
        if done is not None:
            done()

    def end(self) -> None:
        """Let go of the cursor before its end; going on raises Closed."""
        if self._cursor is not None:
            self._cursor.close(True)
            self._ended = True
            self._records = iter(())
            self._finish()

    def __del__(self) -> None:
        self._finish()


class SQLiteView(ReadView):
    """A read transaction on a connection of its own."""

    def __init__(self, connections: Connections, calls: Calls, *, name: str) -> None:
        self._connections = connections
        self._calls = calls
        self._name = name
        self._scans: WeakSet[Scan] = WeakSet()
        self._connection: apsw.Connection | None = connections.take()
        self._begin()

    def _begin(self) -> None:
        for statement in _BEGIN:
            self._open().execute(statement).fetchall()

    def _end(self) -> None:
        # A statement that is not at its end would keep the instant.
        for scan in list(self._scans):
            scan.end()
        self._open().execute("commit")

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise Closed(f"{self._name}: this view is closed")
        return self._connection

    def get(self, key: bytes) -> bytes | None:
        with self._calls:
            return get(self._open(), key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._calls:
            connection = self._open()
            return [get(connection, key) for key in keys]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Record]:
        with self._calls:
            cursor = select(self._open(), start, stop, reverse=reverse, limit=limit)
            scan = Scan(cursor, self._calls)
            self._scans.add(scan)
            return scan

    def refresh(self) -> None:
        with self._calls:
            self._end()
            self._begin()

    def close(self) -> None:
        if self._connection is None:
            return
        try:
            with self._calls:
                self._end()
                self._connections.give(self._open())
        except Closed:
            pass  # with its driver, which has closed the connection
        self._connection = None
