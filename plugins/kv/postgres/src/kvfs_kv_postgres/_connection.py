"""One connection, and the bounded pool of a store's.

A connection is used by one thread at a time, so every call borrows one.  Free ones are kept for the
next call, the last used first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Condition
from typing import TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow, tuple_row

from kvfs.errors import Closed, Exhausted, KVFSError, Unavailable, Unsupported
from kvfs_kv_postgres._errors import from_connecting, from_postgres, is_lost
from kvfs_kv_postgres._settings import PostgresSettings

T = TypeVar("T")

_FREE_MAX = 4
"""Connections that are kept though nobody uses them."""
_PAUSE_FIRST_S = 0.02
_PAUSE_MAX_S = 0.5
"""Between two attempts to reach a server, doubling."""
_KEEPALIVE_S = 10
_POLL_S = 0.1
"""How often a wait looks up, for Ctrl-C: psycopg's own."""

# Every query goes by the key; without statistics, as in a table just filled, the planner would now
# and then rather read all of it.  A client whose machine has gone is found out by the server, which
# lets go of its locks.
_SESSION = """
    SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;
    SET enable_mergejoin = off; SET jit = off; SET client_min_messages = error;
    SET bytea_output = hex; SET default_transaction_read_only = off;
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SET statement_timeout = {statement}; SET lock_timeout = {timeout};
    SET idle_in_transaction_session_timeout = {idle}
"""


class _FirstErrorIsEnough(logging.Filter):
    """Of a pipeline that fails psycopg raises the first error, and logs a warning of the second,
    which only says that there was a first."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("error ignored terminating")


logging.getLogger("psycopg").addFilter(_FirstErrorIsEnough())


class Connection(psycopg.Connection[TupleRow]):
    """A connection whose every wait for the server has an end."""

    timeout_s: float | None = None
    """How long the server may be silent; ``None``: for ever."""
    writer: WriterRecord | None = None

    def wait(self, gen: PQGen[T], interval: float = _POLL_S, timeout: float | None = None) -> T:
        """As psycopg's, with :attr:`timeout_s` where nothing else is said.

        A server that is stopped still acknowledges packets: no setting of TCP notices it.
        """
        try:
            return super().wait(gen, interval, self.timeout_s if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as error:
            self.close()  # its answer may still come, to another question
            raise psycopg.OperationalError(f"no answer for {self.timeout_s} s") from error


class WriterRecord:
    """The row by which a connection proves what became of its commits (``_commit.py``)."""

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.number = 0


def connect(settings: PostgresSettings, name: str) -> Connection:
    """A new connection, set up for this engine.

    :raises Unavailable: the server cannot be reached now; nothing was applied.
    :raises PermissionDenied: it does not let us in, or TLS fails.
    :raises NotFound: there is no such database.
    :raises Unsupported: it is no PostgreSQL.
    """
    try:
        connection = Connection.connect(
            host=settings.host,
            port=settings.port,
            user=settings.user,
            password=settings.password,
            passfile=_text(settings.passfile),
            dbname=settings.database,
            sslmode=settings.sslmode,
            sslrootcert=_text(settings.sslrootcert),
            sslcert=_text(settings.sslcert),
            sslkey=_text(settings.sslkey),
            connect_timeout=max(2, round(settings.timeout)),
            keepalives_idle=_KEEPALIVE_S,
            keepalives_interval=_KEEPALIVE_S,
            keepalives_count=3,
            application_name="kvfs",
            autocommit=True,
            row_factory=tuple_row,
        )
    except psycopg.Error as error:
        raise from_connecting(error, name) from error
    # First ends the wait for a lock, then the statement, then the patience of this side: so it is
    # known why.
    connection.timeout_s = settings.timeout + 5
    try:
        if connection.pgconn.parameter_status(b"crdb_version"):
            raise Unsupported(f"{name}: CockroachDB lacks what this driver needs: use PostgreSQL")
        timeout = round(settings.timeout * 1000)
        session = _SESSION.format(
            idle=round(settings.view_idle * 1000), timeout=timeout, statement=timeout + 2000
        )
        connection.execute(session.encode())
    except psycopg.Error as error:
        connection.close()
        raise from_connecting(error, name) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _text(path: object) -> str | None:
    return None if path is None else str(path)


class Deadline:
    """The end of a call's patience, with pauses between its attempts."""

    def __init__(self, settings: PostgresSettings) -> None:
        self._end = time.monotonic() + settings.timeout
        self._pause_s = _PAUSE_FIRST_S

    @property
    def left_s(self) -> float:
        """Seconds until it is over; never negative."""
        return max(self._end - time.monotonic(), 0)

    def pause(self, error: KVFSError) -> None:
        """Wait before the next attempt; raises ``error`` if there is no time for one."""
        if not error.retryable or self.left_s < self._pause_s:
            raise error
        time.sleep(self._pause_s)
        self._pause_s = min(self._pause_s * 2, _PAUSE_MAX_S)


class Pool:
    """The connections of one open store.  Thread-safe."""

    def __init__(self, settings: PostgresSettings, name: str) -> None:
        self.settings = settings
        self.name = name
        self._free: list[Connection] = []
        self._lent = 0
        self._changed = Condition()
        self._closed = False

    def check(self) -> None:
        """:raises Closed: the store was closed."""
        if self._closed:
            raise Closed(f"{self.name}: the store is closed")

    def take(self) -> Connection:
        """A connection of one's own, until it is given back.

        :raises Exhausted: all stayed lent for too long.
        """
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._closed or self._lent < self.settings.connections_max,
                self.settings.timeout,
            )
            self.check()
            if not free:
                raise Exhausted(
                    f"{self.name}: all {self.settings.connections_max} connections are held by "
                    "views and scans: close some, or set a larger connections_max"
                )
            self._lent += 1
            if self._free:
                return self._free.pop()
        try:
            return connect(self.settings, self.name)
        except BaseException:
            self._returned()
            raise

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next call, if it is fit for one."""
        fit = connection.pgconn.transaction_status == TransactionStatus.IDLE
        with self._changed:
            if fit and not self._closed and len(self._free) < _FREE_MAX:
                self._free.append(connection)
            else:
                connection.close()
        self._returned()

    def _returned(self) -> None:
        with self._changed:
            self._lent -= 1
            self._changed.notify()

    def forget_free(self) -> None:
        """The server went away: the others are dead as well."""
        with self._changed:
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    @contextmanager
    def lent(self) -> Iterator[Connection]:
        """A connection for the time of a ``with`` statement."""
        connection = self.take()
        try:
            yield connection
        except BaseException as error:
            if is_lost(error, connection):
                self.forget_free()
            elif connection.pgconn.transaction_status != TransactionStatus.ACTIVE:
                with suppress(psycopg.Error):
                    connection.rollback()
            raise
        finally:
            self.give_back(connection)

    def ask(self, question: Callable[[Connection], T]) -> T:
        """What changes nothing: asked again, until the timeout, if the connection is lost."""
        deadline = Deadline(self.settings)
        while True:
            try:
                with self.lent() as connection:
                    try:
                        return question(connection)
                    except psycopg.Error as error:
                        if not is_lost(error, connection):
                            raise from_postgres(error, self.name) from error
                        raise
            except psycopg.Error as error:
                lost = Unavailable(f"{self.name}: the connection was lost: {error}")
                lost.__cause__ = error
                deadline.pause(lost)
            except Unavailable as error:
                deadline.pause(error)

    def close(self) -> None:
        """Close what is free; what is lent is closed when it comes back.  Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.forget_free()


__all__ = ["Connection", "Deadline", "Pool", "WriterRecord", "connect"]
