"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Seconds, setting
from kvfs.errors import Invalid

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    # A B-tree entry takes at most a third of a page of 8 KiB: 2704 bytes.
    key_bytes_max=2048,
    # bytea ends at 1 GiB; server and client hold a value several times over while it is on its way.
    value_bytes_max=64 << 20,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    multi_process_read=True,
    multi_process_write=True,
    watch=True,
    is_network=True,
    # A round trip costs more than reading 64 KiB beside the inode.
    inline_bytes_best=64 << 10,
    extent_bytes_best=128 << 10,
    commit_bytes_best=8 << 20,
)
"""At its best; an open store has a record of its own."""

SSL_MODES = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""libpq's."""
NAME_BYTES_MAX = 56
"""Of a namespace and of a store's name: an identifier has 63 bytes, and what is longer PostgreSQL
cuts off in silence."""


@attrs.frozen(kw_only=True)
class PostgresSettings:
    """Settings of the PostgreSQL engine."""

    host: str = setting("localhost", help="server, or the directory of its socket")
    port: int = setting(5432, help="TCP port")
    user: str | None = setting(None, help="role to log in as; by default the name of the user")
    password: str | None = setting(
        None, help="password of the role; by default that of passfile", secret=True
    )
    passfile: Path | None = setting(
        None, help="file of passwords as psql has them; by default ~/.pgpass"
    )
    database: str = setting("kvfs", help="database, which has to exist")
    namespace: str = setting("kvfs", help="schema of the volume: one for each volume of a database")
    sslmode: str = setting(
        "prefer", help="TLS: disable, prefer, require, verify-ca or verify-full (checks the name)"
    )
    sslrootcert: Path | None = setting(None, help="certificates that the server's is verified with")
    sslcert: Path | None = setting(None, help="certificate that this client shows")
    sslkey: Path | None = setting(None, help="its private key")
    timeout: Seconds = setting(
        Seconds(30), help="how long a call may take before it fails, reconnecting included"
    )
    view_idle: Seconds = setting(
        Seconds(60), help="how long a view may stand idle before the server ends its transaction"
    )
    connections_max: int = setting(
        24, help="most connections of a store in this process; each open view and scan holds one"
    )

    def __attrs_post_init__(self) -> None:
        if self.sslmode not in SSL_MODES:
            raise Invalid(f"sslmode {self.sslmode!r} is not one of {', '.join(SSL_MODES)}")
        if self.timeout < 1 or self.view_idle < 1:
            raise Invalid("timeout and view_idle are at least one second")
        if self.connections_max < 2:
            raise Invalid("connections_max is at least 2: a view holds one while another writes")
        check_name(self.namespace, "namespace")


def check_name(name: str, what: str) -> None:
    """:raises Invalid: it cannot be a part of an identifier."""
    # psycopg would take a percent sign for the place of a parameter.
    if not name or {*"\0%"} & {*name} or len(name.encode("utf-8", "replace")) > NAME_BYTES_MAX:
        raise Invalid(
            f"{name!r} is not the name of a {what}: 1 to {NAME_BYTES_MAX} bytes, no NUL, no %"
        )
    if what == "namespace" and (name.startswith("pg_") or name == "public"):
        raise Invalid(f"the namespace {name!r} is PostgreSQL's own: choose another")
