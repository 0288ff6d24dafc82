"""The index: which file in ``contents`` is the object of a name.

One table, ``objects``: ``name`` (bytes, the key, so that it sorts as listings do), ``file`` (which
is the version, too, as no file is ever written twice), ``size``, ``mtime_ns``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock

from kvfs.backing import ObjectInfo
from kvfs.errors import Closed, Corrupt, Exhausted, KVFSError, Unavailable

PAGE_ROWS = 500
BUSY_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    name BLOB PRIMARY KEY, file TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "name, size, mtime_ns, file"


def encoded(name: str) -> bytes:
    """A name as the index has it."""
    return name.encode("utf-8", "surrogateescape")


def _info(row: tuple[bytes, int, int, str]) -> ObjectInfo:
    name, size, mtime_ns, file = row
    return ObjectInfo(name.decode("utf-8", "surrogateescape"), size, mtime_ns, file)


def _translated(error: sqlite3.Error) -> KVFSError:
    match error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else None:
        case sqlite3.SQLITE_FULL:
            return Exhausted(f"template: index: {error}")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return Corrupt(f"template: index: {error}")
    return Unavailable(f"template: index: {error}")


class Index:
    """One connection, used by one thread at a time behind a lock."""

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._lock = Lock()
        self._connection: sqlite3.Connection | None = None
        try:
            self._connection = sqlite3.connect(
                path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'OFF'}")
            self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            self.close()
            raise _translated(error) from error

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            if self._connection is None:
                raise Closed("template: the store is closed")
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _translated(error) from error

    @contextmanager
    def changing(self) -> Iterator[Change]:
        """A transaction that nobody else writes beside; undone if the body raises."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield Change(connection)
            except BaseException:
                connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")

    def check_open(self) -> None:
        """Raise :class:`~kvfs.errors.Closed` if it is closed."""
        with self._connected():
            pass

    def find(self, name: str) -> ObjectInfo | None:
        """The object of that name."""
        with self._connected() as connection:
            return Change(connection).find(name)

    def files(self) -> Iterator[str]:
        """Every file that is an object's contents."""
        with self._connected() as connection, closing(connection.cursor()) as cursor:
            yield from (file for (file,) in cursor.execute("SELECT file FROM objects"))

    def list(self, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
        """Objects in order of their names; read in pages, so that nothing is locked meanwhile."""
        start, floor = encoded(prefix), b"" if after is None else encoded(after)
        query = (
            f"SELECT {_COLUMNS} FROM objects WHERE name >= ? AND name > ? "
            f"ORDER BY name LIMIT {PAGE_ROWS}"
        )
        while True:
            with self._connected() as connection:
                rows = connection.execute(query, (start, floor)).fetchall()
            for row in rows:
                if not row[0].startswith(start):
                    return
                yield _info(row)
            if len(rows) < PAGE_ROWS:
                return
            floor = rows[-1][0]

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class Change:
    """Reads and writes of one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def find(self, name: str) -> ObjectInfo | None:
        """The object of that name."""
        query = f"SELECT {_COLUMNS} FROM objects WHERE name = ?"
        row = self._connection.execute(query, (encoded(name),)).fetchone()
        return None if row is None else _info(row)

    def put(self, info: ObjectInfo) -> None:
        """Make or replace an object."""
        self._connection.execute(
            f"INSERT OR REPLACE INTO objects ({_COLUMNS}) VALUES (?, ?, ?, ?)",
            (encoded(info.name), info.size, info.mtime_ns, info.version),
        )

    def remove(self, name: str) -> None:
        """Forget an object."""
        self._connection.execute("DELETE FROM objects WHERE name = ?", (encoded(name),))
