"""Telling of changes: LISTEN and NOTIFY, one channel for each store.

A commit tells of its keys only if somebody watches, for notifying transactions wait for each other
at their end.  Who watches holds an advisory lock, shared; a writer tries to get the same lock for
itself, which works if there is nobody.  A writer looks after it has locked the store; a watch, once
it has its lock, waits for who has the store: no writer is missed who looked too early.  The lock
goes with its connection, so nothing has to be tidied up behind a killed process.
"""

from __future__ import annotations

import base64
import os
import select
from collections.abc import Iterable, Iterator
from contextlib import suppress
from struct import Struct
from threading import Lock
from time import monotonic

import psycopg

from kvfs.errors import Closed, KVFSError, Stale, Unavailable
from kvfs.kv import Watch
from kvfs_kv_postgres._connection import Connection, Deadline, Pool, connect
from kvfs_kv_postgres._table import Table

LOCK_CLASS = 0x6B766677
"""First half of the advisory locks: "kvfw"; the second is the table's number."""
_PAYLOAD_BYTES_MAX = 7999
_RAW_BYTES_MAX = _PAYLOAD_BYTES_MAX // 4 * 3
_LENGTH = Struct(">H")


def channel_of(oid: int) -> str:
    """The channel of a store, by its table's number."""
    return f"kvfs_{oid}"


def payloads(keys: Iterable[bytes]) -> list[str]:
    """Keys as the texts of notifications: lengths and keys, in base64."""
    texts: list[str] = []
    parts: list[bytes] = []
    weight = 0
    for key in keys:
        if weight + len(key) + _LENGTH.size > _RAW_BYTES_MAX:
            texts.append(base64.b64encode(b"".join(parts)).decode())
            parts, weight = [], 0
        parts += (_LENGTH.pack(len(key)), key)
        weight += len(key) + _LENGTH.size
    if parts:
        texts.append(base64.b64encode(b"".join(parts)).decode())
    return texts


def keys_of(payload: bytes) -> Iterator[bytes]:
    """The keys in the text of a notification."""
    raw = base64.b64decode(payload)
    at = 0
    while at < len(raw):
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        yield raw[at : at + length]
        at += length


class PostgresWatch(Watch):
    """A connection that listens."""

    def __init__(
        self, pool: Pool, table: Table, oid: int, start: bytes, stop: bytes | None
    ) -> None:
        self._pool = pool
        self._table = table
        self._oid = oid
        self._start, self._stop = start, stop
        self._woken, self._wake = os.pipe()
        self._lock = Lock()
        self._closed = False
        self._connection: Connection | None = None
        try:
            self._connection = self._listening()
        except BaseException:
            self._end()
            raise

    def _listening(self) -> Connection:
        """A connection that hears of every commit from now on."""
        settings, name = self._pool.settings, self._pool.name
        deadline = Deadline(settings)
        while True:
            try:
                connection = connect(settings, name)
                try:
                    connection.execute(f"LISTEN {channel_of(self._oid)}".encode())
                    connection.execute(
                        "SELECT pg_advisory_lock_shared(%s, %s::oid::int4)", (LOCK_CLASS, self._oid)
                    )
                    # Whoever looked before the lock was there has ended when this has.
                    with connection.transaction():
                        connection.execute(self._table.query("LOCK TABLE {lock} IN EXCLUSIVE MODE"))
                    return connection
                except BaseException:
                    connection.close()
                    raise
            except psycopg.Error as error:
                lost = Unavailable(f"{name}: watch: the server does not answer: {error}")
                lost.__cause__ = error
                deadline.pause(lost)
            except KVFSError as error:
                deadline.pause(error)

    def _check(self) -> None:
        if self._closed:
            raise Closed(f"{self._pool.name}: this watch is closed")

    def wait(self, timeout_s: float | None = None) -> list[bytes]:
        end = None if timeout_s is None else monotonic() + timeout_s
        with self._lock:
            while True:
                self._check()
                if self._connection is None:
                    self._connection = self._listening()
                    raise Stale(
                        f"{self._pool.name}: the watch was cut off and listens again: changes may "
                        "have been missed, look at everything anew"
                    )
                try:
                    keys = self._heard(self._connection)
                except psycopg.Error:
                    self._connection.close()
                    self._connection = None
                    continue
                left = None if end is None else max(end - monotonic(), 0)
                if keys or left == 0:
                    return keys
                waiting = [self._connection.pgconn.socket, self._woken]
                select.select(waiting, [], [], left)

    def _heard(self, connection: Connection) -> list[bytes]:
        """The keys of this range that have arrived."""
        connection.pgconn.consume_input()
        keys: list[bytes] = []
        while (notified := connection.pgconn.notifies()) is not None:
            keys += [
                key
                for key in keys_of(notified.extra)
                if self._start <= key and (self._stop is None or key < self._stop)
            ]
        return keys

    def close(self) -> None:
        self._closed = True
        with suppress(OSError):
            os.write(self._wake, b"x")
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._wake >= 0:
            os.close(self._woken)
            os.close(self._wake)
            self._woken = self._wake = -1
