"""The SQLite engine: :class:`SQLiteDriver` over connections to one database.

Threads: any.  SQLite has one writer at a time over all threads and processes, and readers that wait
for nobody: each reads at an instant of the log.  A call that waits does so without the interpreter
lock.  Several commits that wait for the disk wait together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from threading import Lock

import apsw

from kvfs.capability import Durability
from kvfs.errors import Conflict, Exhausted, Invalid
from kvfs.kv import Batch, KVDriver, KVStats
from kvfs.kv.calls import Calls
from kvfs_kv_sqlite._connections import Connections
from kvfs_kv_sqlite._directory import PAGE_BYTES, Directory, claim
from kvfs_kv_sqlite._errors import from_sqlite
from kvfs_kv_sqlite._reading import Record, Scan, SQLiteView, get, select
from kvfs_kv_sqlite._settings import CAPABILITY, SQLiteSettings

_PUT = "insert into kv (k, v) values (?, ?) on conflict (k) do update set v = excluded.v"
_DELETE = "delete from kv where k = ?"
_DELETE_RANGE = "delete from kv where k >= ? and k < ?"
_WRITES_PER_BYTE = 2
"""A batch takes disk in the log, and again in the database."""
_VACUUM_PAGES = 1024
"""How many pages are given back in one transaction."""
_MOST = {
    "cache_bytes": 1 << 40,
    "wal_bytes": 1 << 40,
    "busy_timeout_s": 1e6,
    "disk_reserve_bytes": 1 << 60,
}


class SQLiteDriver(KVDriver):
    """One store.  Thread-safe; any number of drivers and processes may have it open."""

    capability = CAPABILITY

    def __init__(self, directory: Directory, settings: SQLiteSettings) -> None:
        self._directory = directory
        self._name = directory.name
        self._reserve_bytes = settings.disk_reserve_bytes
        self._calls = Calls(directory.name, from_sqlite)
        self._connections = Connections(directory, settings)
        self._write_lock = Lock()
        self._writer = self._connections.take()
        self._is_synced = True

    def get(self, key: bytes) -> bytes | None:
        with self._calls:
            connection = self._connections.take()
            try:
                return get(connection, key)
            finally:
                self._connections.give(connection)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._calls:
            connection = self._connections.take()
            try:
                return [get(connection, key) for key in keys]
            finally:
                self._connections.give(connection)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Record]:
        with self._calls:
            connection = self._connections.take()
            try:
                cursor = select(connection, start, stop, reverse=reverse, limit=limit)
            except BaseException:
                self._connections.give(connection)
                raise
            return Scan(cursor, self._calls, done=partial(self._scanned, cursor, connection))

    def _scanned(self, cursor: apsw.Cursor, connection: apsw.Connection) -> None:
        cursor.close(True)
        self._connections.give(connection)

    def commit(self, batch: Batch, durability: Durability) -> None:
        """As :meth:`KVDriver.commit`.

        :raises Exhausted: also while puts would leave less than the reserve of the disk.
        :raises Unavailable: other processes wrote for longer than ``busy_timeout_s``.
        """
        with self._calls:
            if batch.ops:
                with self._write_lock:
                    self._transact(batch)
                    self._is_synced = False
            if durability is Durability.POWER:
                # Not by SQLite (synchronous = full), which does not sync a commit that changes no
                # page: a put of what an earlier commit has put without waiting, say.
                self._is_synced = True
                self._directory.sync_log()

    def _transact(self, batch: Batch) -> None:
        writer = self._writer
        writer.execute("begin immediate")
        try:
            self._apply(writer, batch)
            writer.execute("commit")
        except BaseException:
            if writer.in_transaction:  # SQLite may have rolled it back
                writer.execute("rollback")
            raise

    def _apply(self, writer: apsw.Connection, batch: Batch) -> None:
        for key, expected in batch.guards.items():
            if get(writer, key) != expected:
                raise Conflict(f"{self._name}: the guard on {key.hex()} does not hold")
        if batch.puts:
            self._check_room(writer, batch)
        for bounds in batch.range_deletes:
            writer.execute(_DELETE_RANGE, bounds)
        if batch.deletes:
            writer.executemany(_DELETE, [(key,) for key in sorted(batch.deletes)])
        if batch.puts:
            # In key order neighbouring records fall on the same pages.
            writer.executemany(_PUT, [(key, batch.puts[key]) for key in sorted(batch.puts)])

    def _check_room(self, writer: apsw.Connection, batch: Batch) -> None:
        """On a disk that is full to the brim nothing could be deleted any more.

        Pages that were freed take new records without any disk of their own.
        """
        wanted = _WRITES_PER_BYTE * batch.total_bytes
        if self._directory.free_bytes() - wanted >= self._reserve_bytes:
            return
        if writer.pragma("freelist_count") * PAGE_BYTES < wanted:
            raise Exhausted(
                f"{self._name}: no space left on the device but disk_reserve_bytes "
                f"({self._reserve_bytes}): make room, or delete records"
            )

    def snapshot(self) -> SQLiteView:
        with self._calls:
            return SQLiteView(self._connections, self._calls, name=self._name)

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`.  The number of keys is not known."""
        with self._calls:
            connection = self._connections.take()
            try:
                pages = connection.pragma("page_count")
                freed = connection.pragma("freelist_count")
            finally:
                self._connections.give(connection)
            room = max(self._directory.free_bytes() - self._reserve_bytes, 0)
            return KVStats(
                bytes_used=(pages - freed) * PAGE_BYTES,
                bytes_on_disk=self._directory.on_disk(),
                bytes_free=room + freed * PAGE_BYTES,
            )

    def compact(self) -> None:
        """Give the pages of deleted records back to the file system.

        In small transactions: others may write in between.  The log is moved as far as views that
        are open allow.
        """
        with self._calls:
            while True:
                with self._write_lock:
                    freed = self._writer.pragma("freelist_count")
                    if not freed:
                        break
                    vacuum = f"pragma incremental_vacuum({_VACUUM_PAGES})"
                    self._writer.execute(vacuum).fetchall()
                    if self._writer.pragma("freelist_count") >= freed:
                        break
            with self._write_lock:
                self._writer.execute("pragma wal_checkpoint(passive)").fetchall()

    def close(self) -> None:
        if not self._calls.end():
            return
        try:
            if not self._is_synced:
                self._directory.sync_log()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._connections.close()
        except apsw.Error as error:
            raise from_sqlite(error, self._name) or error from error
        finally:
            self._directory.close()


def open_store(settings: SQLiteSettings, *, store: str, durability: Durability) -> SQLiteDriver:
    """Open the store, or make it.

    :param store: a folder below ``settings.path``.
    :param durability: of no consequence: each commit waits for what it asks for.
    :raises KVFSError: see :func:`kvfs_kv_sqlite._directory.claim`.
    """
    for setting, most in _MOST.items():
        value = getattr(settings, setting)
        if not 0 <= value <= most:
            raise Invalid(f"sqlite {settings.path}: {setting} = {value} is not from 0 to {most}")
    directory = claim(settings, store=store)
    try:
        return SQLiteDriver(directory, settings)
    except apsw.Error as error:
        directory.close()
        raise from_sqlite(error, directory.name) or error from error
