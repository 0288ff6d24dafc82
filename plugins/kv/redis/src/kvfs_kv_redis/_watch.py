"""Watches: what commits publish on the channel of a store, as long as the connection lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Lock
from typing import Any

import redis.exceptions as theirs
from redis import ConnectionPool

from kvfs.errors import Closed, Stale
from kvfs.kv import Watch
from kvfs_kv_redis._errors import from_redis

_LOOK_S = 0.05
"""How often a wait looks whether it was ended."""


class RedisWatch(Watch):
    """A subscription on a connection of its own.

    The server forgets what it published at once, so whatever ends the connection may have lost
    changes.  A silent connection is probed after half of the time limit.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        channel: str,
        bounds: tuple[bytes, bytes | None],
        *,
        what: str,
        timeout_s: float,
    ) -> None:
        self._pool = pool
        self._channel = channel
        self._start, self._stop = bounds
        self._what = what
        self._timeout_s = timeout_s
        self._closed = False
        self._in_use = Lock()
        self._heard_s = 0.0
        self._asked_s: float | None = None
        self._connection: Any = None
        self._subscribe()

    def wait(self, timeout_s: float | None = None) -> list[bytes]:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        try:
            with self._in_use:
                return self._wait(deadline_s)
        finally:
            if self._closed:
                self._let_go()

    def _wait(self, deadline_s: float | None) -> list[bytes]:
        while True:
            self._check()
            if self._connection is None:
                self._subscribe()
                raise Stale(f"{self._what}: changes may have been missed: the connection broke")
            left_s = _LOOK_S
            if deadline_s is not None:
                left_s = min(max(deadline_s - time.monotonic(), 0), _LOOK_S)
            if keys := self._listen(left_s):
                return keys
            if deadline_s is not None and time.monotonic() >= deadline_s:
                self._check()
                return []

    def _check(self) -> None:
        if self._closed:
            raise Closed(f"{self._what}: this watch is closed")

    def _subscribe(self) -> None:
        """Listen from now on.

        :raises KVFSError: there is no server; another call tries again.
        """
        sent = False
        try:
            connection: Any = self._pool.get_connection()
            try:
                sent = True
                connection.send_command("SUBSCRIBE", self._channel)
                connection.read_response()
            except BaseException:
                self._give_back(connection)
                raise
        except theirs.RedisError as error:
            raise from_redis(error, self._what, sent=sent) from error
        self._connection = connection
        self._heard_s, self._asked_s = time.monotonic(), None

    def _give_back(self, connection: Any) -> None:
        """Let go of a connection; ended, as it may be subscribed."""
        connection.disconnect()
        self._pool.release(connection)

    def _listen(self, wait_s: float) -> list[bytes]:
        """The keys of the next message; none if there is none, or the connection broke."""
        connection = self._connection
        try:
            if not connection.can_read(timeout=wait_s):
                self._probe(connection)
                return []
            message = connection.read_response()
        except theirs.RedisError:
            self._drop()
            return []
        self._heard_s, self._asked_s = time.monotonic(), None
        if message[0] != b"message":
            return []  # the answer to a probe
        return [key for key in _keys(message[2]) if self._is_watched(key)]

    def _probe(self, connection: Any) -> None:
        """Ask a silent server for a sign of life, and give up one that gives none.

        :raises theirs.RedisError: it is gone.
        """
        now_s = time.monotonic()
        if self._asked_s is None:
            if now_s - self._heard_s > self._timeout_s / 2:
                self._asked_s = now_s
                connection.send_command("PING")
        elif now_s - self._asked_s > self._timeout_s / 2:
            raise theirs.TimeoutError("the server is silent")

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._give_back(connection)

    def _is_watched(self, key: bytes) -> bool:
        return self._start <= key and (self._stop is None or key < self._stop)

    def _let_go(self) -> None:
        """End the connection, unless a wait uses it; that does it then."""
        if self._in_use.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._in_use.release()

    def close(self) -> None:
        self._closed = True
        self._let_go()


def _keys(payload: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 4], "big")
        yield payload[at + 4 : at + 4 + size]
        at += 4 + size


__all__ = ["RedisWatch"]
