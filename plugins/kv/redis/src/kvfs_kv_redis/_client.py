"""Requests to the server: connections, time limits, and what is sent again.

A request that surely was not carried out (no connection, or the server refused) is sent again until
``timeout`` is over.  So is a read whose answer was lost.  A commit whose answer was lost is not: it
may have been applied, or may yet be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import redis.exceptions as theirs
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry

from kvfs.errors import Closed, KVFSError, Unavailable
from kvfs_kv_redis._errors import from_redis
from kvfs_kv_redis._scripts import Script
from kvfs_kv_redis._settings import RedisSettings

Command = Sequence[bytes | str | int]

_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.01, 0.5


class Client:
    """The connections of one open store.  Thread-safe; after a fork the child makes its own.

    :param what: the store and where it is, for errors.
    :param greet: looks at each new connection before it is used.
    """

    def __init__(self, settings: RedisSettings, *, what: str, greet: Callable[[Any], None]) -> None:
        self.what = what
        self.patient = False
        """Wait for a server that is away?  Not before it was there for the first time."""
        self._settings = settings
        self._greet = greet
        self._closed = False
        self._pool = self.new_pool()

    def new_pool(self) -> ConnectionPool:
        """Connections to the same server, looked at in the same way."""
        settings = self._settings
        options: dict[str, Any] = {}
        if not settings.url.startswith("unix"):
            options["socket_keepalive"] = True
        if settings.url.startswith("rediss"):
            options["ssl_ca_certs"] = _text(settings.ca)
            options["ssl_certfile"] = _text(settings.certificate)
            options["ssl_keyfile"] = _text(settings.key)
        return ConnectionPool.from_url(
            settings.url,
            username=settings.username or None,
            password=settings.password or None,
            socket_timeout=float(settings.timeout),
            socket_connect_timeout=float(settings.timeout),
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
            redis_connect_func=self._connected,
            **options,
        )

    def _connected(self, connection: Any) -> None:
        try:
            connection.on_connect()
            self._greet(connection)
        except BaseException:
            connection.disconnect()  # or it would be used without having been looked at
            raise

    def call(self, *command: bytes | str | int) -> Any:
        """The answer to a command that can be repeated without harm."""
        return self.calls([command])[0]

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[bytes | str | int],
        *,
        then: Sequence[Command] = (),
        repeatable: bool = True,
    ) -> list[Any]:
        """The answers to a script, and to commands behind it on the same connection."""
        rest = (len(keys), *keys, *arguments)
        try:
            return self.calls([("EVALSHA", script.digest, *rest), *then], repeatable=repeatable)
        except _Unknown:
            return self.calls([("EVAL", script.text, *rest), *then], repeatable=repeatable)

    def calls(self, commands: Sequence[Command], *, repeatable: bool = True) -> list[Any]:
        """The answers to several commands, sent at once on one connection.

        :raises KVFSError: the first of them failed, or could not be sent.
        """
        deadline_s = time.monotonic() + self._settings.timeout
        pause_s = _PAUSE_FIRST_S
        while True:
            if self._closed:
                raise Closed(f"{self.what}: the store is closed")
            try:
                return self._exchange(commands)
            except Unavailable as error:
                if not (error.retryable and self.patient and (repeatable or error.unapplied)):
                    raise
                if time.monotonic() + pause_s > deadline_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        sent = False
        try:
            connection: Any = self._pool.get_connection()
            try:
                sent = True
                connection.send_packed_command(connection.pack_commands(commands))
                return _answers(connection, len(commands))
            except theirs.ResponseError:
                raise  # all answers were read
            except BaseException:
                connection.disconnect()
                raise
            finally:
                self._pool.release(connection)
                if self._closed:
                    self._pool.disconnect(inuse_connections=False)
        except theirs.NoScriptError as error:
            raise _Unknown(f"{self.what}: {error}") from error
        except theirs.RedisError as error:
            raise from_redis(error, self.what, sent=sent) from error

    def close(self) -> None:
        """End all connections; one that is in use, after its call.  Idempotent."""
        self._closed = True
        self._pool.disconnect(inuse_connections=False)


class _Unknown(KVFSError):
    """The server does not have the script (any more)."""


def _answers(connection: Any, count: int) -> list[Any]:
    """As many answers; the first error among them is raised when all are there."""
    answers: list[Any] = []
    refused: theirs.ResponseError | None = None
    for _ in range(count):
        try:
            answers.append(connection.read_response())
        except theirs.ResponseError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return answers


def _text(path: object) -> str | None:
    return None if path is None else str(path)


__all__ = ["Client"]
