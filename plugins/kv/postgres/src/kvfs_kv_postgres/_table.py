"""Where a store is: a table in a schema, and the statements over it.

::

    schema <namespace>     one volume
      kvfs                 one row: the format of the schema
      writers              one row for each connection that writes, see _commit.py
      store_<name>         key bytea PRIMARY KEY, value bytea
      lock_<name>          no rows: locked by whoever writes to the store

``bytea`` compares byte by byte, unsigned, a prefix before what it begins: the order of KVFS.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct

import attrs
import psycopg
from psycopg import sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from kvfs.errors import Conflict, Invalid, Unsupported
from kvfs.kv import Buffer
from kvfs_kv_postgres._connection import Connection
from kvfs_kv_postgres._settings import PostgresSettings, check_name

FORMAT = 1
_MAKING = 0x6B766673
"""An advisory lock: "kvfs".  Two processes that make the same tables at once would fail."""

_HEADER = Struct(">iiIii")
_LENGTH = Struct(">i")
_BYTEA_OID = 17
_BYTEA_ARRAY_OID = 1001
_NULL = _LENGTH.pack(-1)


class ByteaArray:
    """Buffers as one parameter of type ``bytea[]``, which leave this process uncopied but once."""

    def __init__(self, items: Sequence[Buffer | None]) -> None:
        self.items = items


class ByteaArrayDumper(Dumper):
    """The binary form of an array (``array_recv`` in PostgreSQL's arrayfuncs.c)."""

    format = Format.BINARY
    oid = _BYTEA_ARRAY_OID

    def dump(self, obj: ByteaArray) -> bytes:
        items = obj.items
        if not items:
            return _HEADER.pack(0, 0, _BYTEA_OID, 0, 0)[:12]
        parts: list[Buffer] = [_HEADER.pack(1, None in items, _BYTEA_OID, len(items), 1)]
        for item in items:
            if item is None:
                parts.append(_NULL)
            else:
                parts.append(_LENGTH.pack(len(item)))
                parts.append(item)
        return b"".join(parts)


psycopg.adapters.register_dumper(ByteaArray, ByteaArrayDumper)


@attrs.frozen
class Table:
    """The statements over one store, and what it is called."""

    schema: str
    store: str

    @property
    def name(self) -> str:
        """Of the table in its schema."""
        return f"store_{self.store}"

    def query(self, text: str, **parts: sql.Composable) -> sql.Composed:
        """A statement; ``{table}``, ``{lock}``, ``{writers}``, ``{format}``, ``{schema}`` and
        ``parts`` are filled in."""
        return sql.SQL(text).format(
            table=sql.Identifier(self.schema, self.name),
            lock=sql.Identifier(self.schema, f"lock_{self.store}"),
            writers=sql.Identifier(self.schema, "writers"),
            format=sql.Identifier(self.schema, "kvfs"),
            schema=sql.Identifier(self.schema),
            **parts,
        )


def table_of(settings: PostgresSettings, store: str) -> Table:
    """:raises Invalid: no table can have that name."""
    check_name(store, "store")
    return Table(settings.namespace, store)


def _found(connection: Connection, query: str, *arguments: object) -> bool:
    return connection.execute(query.encode(), arguments).fetchone() is not None


_SCHEMA = "SELECT FROM pg_namespace WHERE nspname = %s"
_RELATION = (
    "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = %s AND c.relname = %s"
)
_ANY_RELATION = (
    "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
)


def make(connection: Connection, table: Table, name: str) -> int:
    """Make the store's table if there is none; its number in the database (``oid``).

    :raises Unsupported: the schema was made by another version of this driver.
    :raises Invalid: the schema belongs to somebody else.
    """
    if not _is_made(connection, table, name):
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_MAKING,))
            if not _is_made(connection, table, name):
                _make(connection, table, name)
    row = connection.execute(
        "SELECT %s::regclass::oid::int8", (table.query("{table}").as_string(),)
    ).fetchone()
    assert row is not None
    return int(row[0])


def _is_made(connection: Connection, table: Table, name: str) -> bool:
    if not _found(connection, _RELATION, table.schema, "kvfs"):
        return False
    row = connection.execute(table.query("SELECT version FROM {format}")).fetchone()
    found = None if row is None else row[0]
    if found != FORMAT:
        raise Unsupported(
            f"{name}: the namespace {table.schema!r} has format {found}, this version of the "
            f"driver reads format {FORMAT}: use the version that made it, or another namespace"
        )
    return _found(connection, _RELATION, table.schema, table.name)


def _make(connection: Connection, table: Table, name: str) -> None:
    if not _found(connection, _RELATION, table.schema, "kvfs"):
        if _found(connection, _ANY_RELATION, table.schema):
            raise Invalid(
                f"{name}: the schema {table.schema!r} holds tables that are not of KVFS: "
                "choose another namespace"
            )
        if not _found(connection, _SCHEMA, table.schema):
            connection.execute(table.query("CREATE SCHEMA {schema}"))
        connection.execute(table.query("CREATE TABLE {format} (version integer NOT NULL)"))
        connection.execute(table.query("INSERT INTO {format} VALUES (%s)"), (FORMAT,))
        # Half empty pages: an update then stays on its page, and touches no index.
        connection.execute(
            table.query(
                "CREATE TABLE {writers} (id uuid PRIMARY KEY, number bigint NOT NULL, "
                "since timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)"
            )
        )
    # External: values above 2 KiB are kept beside the table as they are.  Compressing source files
    # of 16 KiB halved the room they take, and writing them took clearly longer.
    connection.execute(
        table.query("CREATE TABLE {table} (key bytea PRIMARY KEY, value bytea NOT NULL)")
    )
    connection.execute(table.query("ALTER TABLE {table} ALTER value SET STORAGE EXTERNAL"))
    connection.execute(table.query("CREATE TABLE {lock} ()"))


def drop(connection: Connection, table: Table, name: str) -> None:
    """Remove the store's table, unread; no error if there is none.

    :raises Conflict: somebody reads or writes it.
    """
    if not _found(connection, _RELATION, table.schema, table.name):
        return
    try:
        connection.execute("SET lock_timeout = 1000")
        connection.execute(table.query("DROP TABLE IF EXISTS {table}, {lock}"))
    except psycopg.errors.LockNotAvailable as error:
        raise Conflict(f"{name}: it cannot be removed: a view or a batch of it is open") from error


def batches(items: Sequence[bytes], sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Bounds of runs of items that have about ``most`` bytes."""
    start = weight = 0
    for index, size in enumerate(sizes):
        if weight and weight + size > most:
            yield start, index
            start, weight = index, 0
        weight += size + len(items[index])
    if start < len(items):
        yield start, len(items)


__all__ = ["ByteaArray", "Table", "batches", "drop", "make", "table_of"]
