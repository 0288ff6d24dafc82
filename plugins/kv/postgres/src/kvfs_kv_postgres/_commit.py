"""A batch as one transaction, right beside any number of other writers.

**One writer at a time.**  A batch first locks the store's companion table, ``lock_<store>``, and
only then takes its snapshot.  So commits come one after another, and the order in which they become
visible is the one that their guards were compared in.  SERIALIZABLE transactions would let writers
run beside each other, but their serial order need not be that in which they become visible: a plain
read can then see a commit without one that belongs before it, and making every view serializable
would have scans abort writers.  (The conformance kit's check of linearizability found a history
that no order explains.)  The lock is on a table without records, because one on the store itself
would keep VACUUM out.

**An answer that is lost.**  If the connection breaks before COMMIT was sent, nothing was applied.
If it breaks after, somebody has to find out.  Each writing connection has a row in ``writers``, and
each of its transactions puts its number there.  To find out, another connection reads that row and
changes it: reading waits until the lost transaction has ended, if the server has got that far, and
the change makes it fail if it has not, for its snapshot is older.  What the row said is therefore
final.  (``pg_xact_status`` would not do: after a crash of the server a transaction's number may be
given out again.)
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import attrs
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from kvfs.capability import Durability
from kvfs.errors import Conflict, KVFSError, Unavailable
from kvfs.kv import Batch
from kvfs_kv_postgres._connection import Connection, Deadline, Pool, WriterRecord
from kvfs_kv_postgres._errors import from_postgres, is_lost
from kvfs_kv_postgres._table import ByteaArray, Table, batches
from kvfs_kv_postgres._telling import LOCK_CLASS, channel_of, payloads

_STATEMENT_BYTES = 8 << 20
"""How much one statement carries: the server holds it several times over."""
_FORGOTTEN = "30 days"
"""A writer that did not tidy up behind itself is forgotten after so long."""

_HESITATION_S = 10.0
"""A process that stands still in the midst of a commit keeps the others out for so long; or half as
long as those wait, if that is less."""

# One message, not a pipeline: behind its end psycopg sends a flush, at which PostgreSQL 15 forgets
# to end transactions that stand idle.  LOCK takes no snapshot; the first SELECT does.
_BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ; "
    "SET LOCAL idle_in_transaction_session_timeout = {hesitation}; "
    "LOCK TABLE {lock} IN EXCLUSIVE MODE; "
    f"SELECT CASE WHEN pg_try_advisory_lock({LOCK_CLASS}, {{oid}}::oid::int4) "
    f"THEN NOT pg_advisory_unlock({LOCK_CLASS}, {{oid}}::oid::int4) ELSE true END"
)
_LATER = "; SET LOCAL synchronous_commit = off"
_GUARDS = "; SELECT guarded.key FROM (VALUES "
_GUARDS_END = (
    ") AS guarded (key, value) LEFT JOIN {table} AS found USING (key) "
    "WHERE found.value IS DISTINCT FROM guarded.value LIMIT 1"
)


@attrs.frozen
class _Statements:
    begin: str
    guards_end: str
    delete_range: sql.Composed
    delete: sql.Composed
    put: sql.Composed
    number: sql.Composed
    enter: sql.Composed
    forget: sql.Composed
    leave: sql.Composed
    last: sql.Composed

    @classmethod
    def over(cls, table: Table, oid: int, *, patience_s: float) -> _Statements:
        hesitation = sql.Literal(round(min(_HESITATION_S, patience_s / 2) * 1000))
        begin = table.query(_BEGIN, oid=sql.Literal(oid), hesitation=hesitation)
        return cls(
            begin=begin.as_string(),
            guards_end=table.query(_GUARDS_END).as_string(),
            delete_range=table.query(
                "WITH gone AS (DELETE FROM {table} WHERE key >= %b AND key < %b RETURNING key) "
                "SELECT key FROM gone WHERE %b"
            ),
            delete=table.query(
                "WITH gone AS (DELETE FROM {table} WHERE key = ANY(%b) RETURNING key) "
                "SELECT key FROM gone WHERE %b"
            ),
            put=table.query(
                "INSERT INTO {table} SELECT * FROM unnest(%b, %b) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value"
            ),
            number=table.query("UPDATE {writers} SET number = %b WHERE id = %b"),
            enter=table.query("INSERT INTO {writers} (id, number) VALUES (%b, 0)"),
            forget=table.query(
                "DELETE FROM {writers} WHERE since < now() - interval '" + _FORGOTTEN + "'"
            ),
            leave=table.query("DELETE FROM {writers} WHERE id = ANY(%b)"),
            last=table.query(
                "UPDATE {writers} AS now SET number = was.number + 1 "
                "FROM (SELECT id, number FROM {writers} WHERE id = %b FOR UPDATE) AS was "
                "WHERE now.id = was.id RETURNING was.number"
            ),
        )


class Committer:
    """Applies batches to one store.  Thread-safe."""

    def __init__(self, pool: Pool, table: Table, oid: int) -> None:
        self._pool = pool
        self._oid = oid
        self._statements = _Statements.over(table, oid, patience_s=pool.settings.timeout)
        self._writers: list[str] = []

    def commit(self, batch: Batch, durability: Durability) -> None:
        """Apply a batch, as often as it is certain that it was not applied.

        :raises Conflict: a guard does not hold.
        :raises Unavailable: there was no time left; ``unapplied`` says whether it is certain.
        """
        deadline = Deadline(self._pool.settings)
        is_first = True
        while True:
            try:
                with self._pool.lent() as connection:
                    writer = connection.writer or self._enter(connection)
                    attempt = _Attempt(self, connection, writer, batch, durability)
                    try:
                        attempt.run()
                        return
                    except psycopg.Error as error:
                        if not is_lost(error, connection):
                            raise self._refused(error) from error
                        raise
            except psycopg.Error as error:
                if attempt.is_sent and self._was_applied(attempt, deadline, error):
                    return
                if is_first and not attempt.is_sent:
                    # The server may have ended it while this process stood still, and its time went
                    # by: it has not waited for anything yet.
                    deadline, is_first = Deadline(self._pool.settings), False
                deadline.pause(self._lost(error, unapplied=True))
            except Unavailable as error:
                if not error.unapplied:
                    raise
                deadline.pause(error)

    def _refused(self, error: psycopg.Error) -> KVFSError:
        """The error for what the server refused, and so rolled back."""
        if isinstance(error, psycopg.errors.LockNotAvailable):
            return Unavailable(
                f"{self._pool.name}: commit: other writers held the store for "
                f"{self._pool.settings.timeout:g} s: nothing was applied",
                unapplied=True,
            )
        ours = from_postgres(error, self._pool.name)
        if isinstance(ours, Unavailable):
            ours.unapplied = True
        return ours

    def _lost(self, error: BaseException, *, unapplied: bool) -> Unavailable:
        became = "nothing was applied" if unapplied else "whether the batch was applied is unknown"
        lost = Unavailable(
            f"{self._pool.name}: commit: the connection was lost, {became}: {error}",
            unapplied=unapplied,
        )
        lost.__cause__ = error
        return lost

    def _enter(self, connection: Connection) -> WriterRecord:
        """Give the connection its row."""
        writer = WriterRecord(str(uuid.uuid4()))
        connection.execute(self._statements.enter, (uuid.UUID(writer.identity),))
        connection.execute(self._statements.forget)
        self._writers.append(writer.identity)
        connection.writer = writer
        return writer

    def _was_applied(self, attempt: _Attempt, deadline: Deadline, error: BaseException) -> bool:
        """What became of a transaction whose answer was lost; it is over then in any case.

        :raises Unavailable: it cannot be found out in time.
        """
        unknown = self._lost(error, unapplied=False)
        identity = uuid.UUID(attempt.writer.identity)
        while True:
            try:
                with self._pool.lent() as connection:
                    row = connection.execute(self._statements.last, (identity,)).fetchone()
                if row is None:
                    raise unknown
                return bool(row[0] == attempt.writer.number)
            except (psycopg.Error, KVFSError):
                deadline.pause(unknown)

    def leave(self) -> None:
        """Take the rows of this store's connections away."""
        if self._writers:
            identities = [uuid.UUID(identity) for identity in self._writers]
            with self._pool.lent() as connection:
                connection.execute(self._statements.leave, (identities,))


def _hex(value: bytes | None) -> str:
    """Bytes within a statement."""
    return "NULL::bytea" if value is None else f"decode('{value.hex()}', 'hex')"


@attrs.define
class _Attempt:
    """One transaction on one connection."""

    _committer: Committer
    _connection: Connection
    writer: WriterRecord
    _batch: Batch
    _durability: Durability
    is_sent: bool = False
    """Was COMMIT on its way when it failed?"""

    def run(self) -> None:
        """Two round trips, and a third if something was removed and somebody watches."""
        watched = self._begin()
        gone: set[bytes] = set()
        if watched and (self._batch.deletes or self._batch.range_deletes):
            with self._connection.pipeline():
                cursors = self._remove(tell=True)
            gone.update(row[0] for cursor in cursors for row in cursor.fetchall())
        self.writer.number += 1
        statements = self._committer._statements
        number = (self.writer.number, uuid.UUID(self.writer.identity))
        with self._connection.pipeline():
            if not watched:
                self._remove(tell=False)
            self._put()
            self._connection.execute(statements.number, number, prepare=True)
            if watched:
                self._tell(sorted(gone | self._batch.puts.keys()))
            self.is_sent = True
            self._connection.execute("COMMIT")

    def _begin(self) -> bool:
        """Begin, and compare the guards; does somebody watch?

        :raises Conflict: one does not hold.
        """
        statements, guards = self._committer._statements, self._batch.guards
        text = statements.begin
        if self._durability == Durability.MEMORY:
            text += _LATER
        if guards:
            pairs = ", ".join(f"({_hex(key)}, {_hex(value)})" for key, value in guards.items())
            text += f"{_GUARDS}{pairs}{statements.guards_end}"
        cursor = self._connection.execute(text.encode())
        rows = []
        is_more: bool | None = True
        while is_more:
            if cursor.description is not None:
                rows.append(cursor.fetchone())
            is_more = cursor.nextset()
        if guards and (broken := rows[1]) is not None:
            # The end of nothing; at a ROLLBACK psycopg would forget what it has prepared.
            self._connection.execute("COMMIT")
            name = self._committer._pool.name
            raise Conflict(f"{name}: the guard on {broken[0].hex()} does not hold")
        return rows[0] is not None and bool(rows[0][0])

    def _remove(self, *, tell: bool) -> list[psycopg.Cursor[TupleRow]]:
        connection, statements = self._connection, self._committer._statements
        cursors = [
            connection.execute(statements.delete_range, (*bounds, tell), prepare=True, binary=True)
            for bounds in self._batch.range_deletes
        ]
        if self._batch.deletes:
            keys = ByteaArray(sorted(self._batch.deletes))
            cursors.append(
                connection.execute(statements.delete, (keys, tell), prepare=True, binary=True)
            )
        return cursors

    def _put(self) -> None:
        # In key order neighbours fall on the same pages, and batches do not lock each other out.
        puts = self._batch.puts
        keys = sorted(puts)
        for start, stop in batches(keys, [len(puts[key]) for key in keys], _STATEMENT_BYTES):
            part = keys[start:stop]
            arrays = ByteaArray(part), ByteaArray([puts[key] for key in part])
            self._connection.execute(self._committer._statements.put, arrays, prepare=True)

    def _tell(self, keys: Sequence[bytes]) -> None:
        channel = channel_of(self._committer._oid)
        self._connection.execute(
            "SELECT pg_notify(%s, payload) FROM unnest(%s::text[]) AS payload",
            (channel, payloads(keys)),
        )
