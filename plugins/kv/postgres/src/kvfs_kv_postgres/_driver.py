"""The PostgreSQL engine: :class:`PostgresDriver`, a store in a table.

Threads: any.  Each call borrows a connection of the store's pool, so calls of several threads run
beside each other.  After ``fork`` a child must not use a store that its parent opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from weakref import WeakSet

import attrs
import psycopg

from kvfs.capability import Durability, KVCapability
from kvfs.errors import KVFSError, Unsupported
from kvfs.kv import Batch, KVDriver, KVStats
from kvfs_kv_postgres._commit import Committer
from kvfs_kv_postgres._connection import Connection, Pool, connect
from kvfs_kv_postgres._errors import from_postgres
from kvfs_kv_postgres._settings import CAPABILITY, PostgresSettings
from kvfs_kv_postgres._table import Table, drop, make, table_of
from kvfs_kv_postgres._telling import PostgresWatch
from kvfs_kv_postgres._view import PostgresView, Reading, Record


class PostgresDriver(KVDriver):
    """One store.  Thread-safe."""

    def __init__(self, pool: Pool, table: Table, oid: int, capability: KVCapability) -> None:
        self.capability = capability
        self._name = pool.name
        self._pool = pool
        self._table = table
        self._oid = oid
        self._reading = Reading.of(table)
        self._committer = Committer(pool, table, oid)
        self._views: WeakSet[PostgresView] = WeakSet()
        self._watches: WeakSet[PostgresWatch] = WeakSet()

    def get(self, key: bytes) -> bytes | None:
        return self._pool.ask(lambda connection: self._reading.get(connection, key))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._pool.ask(lambda connection: self._reading.get_many(connection, keys))

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Record]:
        """As :meth:`KVDriver.scan`; it begins with its first record, and holds a connection from
        then to its end."""
        self._pool.check()
        return self._records(start, stop, reverse, limit)

    def _records(
        self, start: bytes, stop: bytes | None, reverse: bool, limit: int | None
    ) -> Iterator[Record]:
        with self.snapshot() as view:
            yield from view.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        self._pool.check()
        if durability > self.capability.durability:
            raise Unsupported(
                f"{self._name}: commit: durability {durability.name.lower()} (the server is "
                "configured with fsync or full_page_writes off)"
            )
        if batch.ops:
            self._committer.commit(batch, durability)

    def snapshot(self) -> PostgresView:
        view = PostgresView(self._pool, self._reading)
        self._views.add(view)
        return view

    def watch(self, start: bytes, stop: bytes | None) -> PostgresWatch:
        self._pool.check()
        watch = PostgresWatch(self._pool, self._table, self._oid, start, stop)
        self._watches.add(watch)
        return watch

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`: the table, its index and what is beside it, with the room of
        deleted records that is not yet used again.  The server does not tell how much is free."""
        size = self._pool.ask(self._size)
        return KVStats(bytes_used=size, bytes_on_disk=size)

    def _size(self, connection: Connection) -> int:
        row = connection.execute("SELECT pg_total_relation_size(%s)", (self._oid,)).fetchone()
        assert row is not None
        return int(row[0])

    def compact(self) -> None:
        """VACUUM: the room of deleted records can be used again, and that at the end of the table
        goes back to the disk.  Beside readers and writers; what an open view sees stays."""
        with self._pool.lent() as connection:
            patience, connection.timeout_s = connection.timeout_s, None
            try:
                connection.execute("SET statement_timeout = 0")
                connection.execute(self._table.query("VACUUM {table}"))
            except psycopg.Error as error:
                raise from_postgres(error, self._name) from error
            finally:
                connection.timeout_s = patience
                # Its settings are not those of the others any more.
                connection.close()

    def close(self) -> None:
        for watch in [*self._watches]:
            watch.close()
        for view in [*self._views]:
            view.close()
        try:
            self._committer.leave()
        except (KVFSError, psycopg.Error):
            pass  # nothing is lost: the server forgets them
        self._pool.close()


def open_store(settings: PostgresSettings, *, store: str, durability: Durability) -> PostgresDriver:
    """Open the store, or make it.

    :param store: a table of the schema ``settings.namespace``.
    :raises Unavailable: the server does not answer.
    :raises PermissionDenied: it does not let this role in, or not do this.
    :raises NotFound: there is no such database.
    :raises Invalid: the schema belongs to somebody else, or a name cannot be used.
    :raises Unsupported: the schema was made by another version, or it is another kind of server.
    """
    name = f"postgres ({settings.namespace}.{store})"
    table = table_of(settings, store)
    pool = Pool(settings, name)
    try:
        oid = pool.ask(lambda connection: make(connection, table, name))
        best = pool.ask(_durability)
    except BaseException:
        pool.close()
        raise
    return PostgresDriver(pool, table, oid, attrs.evolve(CAPABILITY, durability=best))


def _durability(connection: Connection) -> Durability:
    """What a commit survives, by how the server is configured.

    With ``fsync`` off, commits are handed to the server's operating system: they survive the
    server's processes, not its power.  With ``full_page_writes`` off, a torn page may stay.
    """
    row = connection.execute(
        "SELECT current_setting('fsync')::bool AND current_setting('full_page_writes')::bool"
    ).fetchone()
    assert row is not None
    return Durability.POWER if row[0] else Durability.PROCESS


def remove_store(settings: PostgresSettings, *, store: str) -> None:
    """Remove the store's table; no error if there is none.

    :raises Conflict: somebody reads or writes it.
    """
    name = f"postgres ({settings.namespace}.{store})"
    table = table_of(settings, store)
    connection = connect(settings, name)
    try:
        drop(connection, table, name)
    except psycopg.Error as error:
        raise from_postgres(error, name) from error
    finally:
        connection.close()
