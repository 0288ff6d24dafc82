"""Reading: now, and at one instant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from threading import Lock
from typing import TypeVar

import attrs
import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from kvfs.errors import Closed, KVFSError, Stale
from kvfs.kv import ReadView
from kvfs_kv_postgres._connection import Connection, Deadline, Pool
from kvfs_kv_postgres._errors import from_postgres, is_lost
from kvfs_kv_postgres._table import ByteaArray, Table

_PAGE_RECORDS = 64
_PAGE_BYTES = 256 << 10
"""The first page of a scan; each is four times the one before, up to:"""
_PAGE_RECORDS_MAX = 2048
_PAGE_BYTES_MAX = 4 << 20

# Several statements in one message; not a pipeline, after which PostgreSQL 15 was seen not to end
# transactions that stand idle.  The first query takes the snapshot.
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT 1"
_END = "COMMIT"
"""At a ROLLBACK psycopg would forget what it has prepared."""
_AGAIN = "COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SELECT 1"

T = TypeVar("T")
Record = tuple[bytes, bytes]
Page = tuple[bytes, bytes, int]
"""A record of a page, and how many bytes the values of the page have up to it."""


@attrs.frozen
class Reading:
    """The queries of one store, over any connection."""

    get_query: sql.Composed
    many_query: sql.Composed
    page_queries: dict[tuple[bool, bool], sql.Composed]
    """By: is there an end, in reverse?"""

    @classmethod
    def of(cls, table: Table) -> Reading:
        """The queries over a table."""
        return cls(
            table.query("SELECT value FROM {table} WHERE key = %b"),
            table.query("SELECT key, value FROM {table} WHERE key = ANY(%b)"),
            {
                (ends, reverse): table.query(_page_query(ends, reverse))
                for ends in (False, True)
                for reverse in (False, True)
            },
        )

    def get(self, connection: Connection, key: bytes) -> bytes | None:
        """One value."""
        found = connection.execute(self.get_query, (key,), prepare=True, binary=True).fetchone()
        return None if found is None else found[0]

    def get_many(self, connection: Connection, keys: Sequence[bytes]) -> list[bytes | None]:
        """Several, in one round trip."""
        if not keys:
            return []
        arguments = (ByteaArray(keys),)
        rows = connection.execute(self.many_query, arguments, prepare=True, binary=True).fetchall()
        found: dict[bytes, bytes] = dict(rows)
        return [found.get(key) for key in keys]

    def pages(
        self,
        ask: Callable[[Callable[[Connection], list[Page]]], list[Page]],
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool,
        limit: int | None,
    ) -> Iterator[Record]:
        """A range, page by page; each begins behind the last record of the one before.

        So a scan keeps nothing in the server, and any number of them share a connection.
        """
        records, size = _PAGE_RECORDS, _PAGE_BYTES
        while limit is None or limit > 0:
            count = records if limit is None else min(records, limit)
            query = self.page_queries[stop is not None, reverse]
            bounds = [start] if stop is None else [start, stop]
            arguments = (*bounds, count, size)
            page = ask(_asking(query, arguments))
            for key, value, _ in page:
                yield key, value
            if len(page) < count and (not page or page[-1][2] < size):
                return
            after = page[-1][0]
            start, stop = (start, after) if reverse else (after + b"\0", stop)
            limit = None if limit is None else limit - len(page)
            records = min(records * 4, _PAGE_RECORDS_MAX)
            size = min(size * 4, _PAGE_BYTES_MAX)


def _asking(query: sql.Composed, arguments: Sequence[object]) -> Callable[[Connection], list[Page]]:
    return lambda connection: connection.execute(
        query, arguments, prepare=True, binary=True
    ).fetchall()


def _page_query(ends: bool, reverse: bool) -> str:
    """A page ends after so many records, or with that which exceeds so many bytes of values.

    The length of a large value is known without reading it.
    """
    order = "key DESC" if reverse else "key"
    return f"""
        SELECT key, value, upto FROM (
            SELECT key, value, sum(octet_length(value)) OVER (ORDER BY {order})::int8 AS upto
            FROM {{table}} WHERE key >= %b {"AND key < %b" if ends else ""}
            ORDER BY {order} LIMIT %b
        ) AS page WHERE upto - octet_length(value) < %b ORDER BY {order}
    """


class PostgresView(ReadView):
    """A transaction that sees one instant, on a connection of its own.

    Used by one thread at a time; the store may be closed by another.
    """

    def __init__(self, pool: Pool, reading: Reading) -> None:
        self._pool = pool
        self._reading = reading
        self._lock = Lock()
        self._open = True
        self._connection: Connection | None = None
        self._connection = self._begun()

    def _begun(self) -> Connection:
        """A connection in a transaction that begins now."""
        deadline = Deadline(self._pool.settings)
        while True:
            try:
                connection = self._connection or self._pool.take()
            except KVFSError as error:
                deadline.pause(error)
                continue
            self._connection = None
            try:
                is_begun = connection.pgconn.transaction_status != TransactionStatus.IDLE
                connection.execute(_AGAIN if is_begun else _BEGIN)
                return connection
            except BaseException as error:
                if is_lost(error, connection):
                    self._pool.forget_free()
                self._pool.give_back(connection)
                if not isinstance(error, psycopg.Error):
                    raise
                ours = from_postgres(error, self._pool.name)
                ours.__cause__ = error
                deadline.pause(ours)

    def _check(self) -> None:
        if not self._open:
            raise Closed(f"{self._pool.name}: this view is closed")
        self._pool.check()

    def _asked(self, question: Callable[[Connection], T]) -> T:
        with self._lock:
            self._check()
            connection = self._connection
            if connection is None:
                raise self._gone()
            try:
                return question(connection)
            except psycopg.Error as error:
                if connection.closed or connection.broken:
                    self._connection = None
                    self._pool.give_back(connection)
                    raise self._gone() from error
                raise from_postgres(error, self._pool.name) from error

    def _gone(self) -> Stale:
        idle = self._pool.settings.view_idle
        return Stale(
            f"{self._pool.name}: the instant of this view is gone: the server ended the connection "
            f"(it does so after {idle:g} s without a call, see view_idle): refresh the view"
        )

    def get(self, key: bytes) -> bytes | None:
        return self._asked(lambda connection: self._reading.get(connection, key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._asked(lambda connection: self._reading.get_many(connection, keys))

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Record]:
        self._check()
        return self._reading.pages(self._asked, start, stop, reverse=reverse, limit=limit)

    def refresh(self) -> None:
        with self._lock:
            self._check()
            self._connection = self._begun()

    def close(self) -> None:
        with self._lock:
            self._open = False
            connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.execute(_END)
            self._pool.give_back(connection)

    def __del__(self) -> None:
        if getattr(self, "_connection", None) is not None:
            self.close()
