"""Connections to one database.  SQLite wants one for each thing that goes on at the same time."""

from __future__ import annotations

from collections import deque
from weakref import WeakSet

import apsw

from kvfs_kv_sqlite._directory import PAGE_BYTES, Directory
from kvfs_kv_sqlite._settings import SQLiteSettings

_IDLE_MAX = 4


class Connections:
    """Connections that are used by one after another.  Any thread may take one, and give it back.

    Neither method may be called by more than :meth:`close` at the same time.
    """

    def __init__(self, directory: Directory, settings: SQLiteSettings) -> None:
        self._data = str(directory.data)
        self._settings = settings
        self._idle: deque[apsw.Connection] = deque()
        self._all: WeakSet[apsw.Connection] = WeakSet()
        self._closed = False

    def take(self) -> apsw.Connection:
        """A connection outside a transaction, of one's own; an ``apsw.Error`` if there is none."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._new()

    def give(self, connection: apsw.Connection) -> None:
        """Give one back that is outside a transaction."""
        if self._closed or len(self._idle) >= _IDLE_MAX:
            connection.close()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Close all, also those that are not given back yet."""
        self._closed = True
        for connection in list(self._all):
            connection.close(True)
        self._idle.clear()

    def _new(self) -> apsw.Connection:
        settings = self._settings
        connection = apsw.Connection(self._data, flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(int(settings.busy_timeout_s * 1000))
        connection.pragma("cache_size", -(settings.cache_bytes >> 10))
        connection.pragma("synchronous", "normal")
        connection.pragma("wal_autocheckpoint", max(settings.wal_bytes // PAGE_BYTES, 1))
        # After it was moved to the database the log is cut to this.
        connection.pragma("journal_size_limit", settings.wal_bytes)
        self._all.add(connection)
        return connection
