"""What can be set in the ``[kv]`` table, and what the engine can do."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import Seconds, setting
from kvfs.errors import Invalid

CAPABILITY = KVCapability(
    durability=Durability.POWER,
    key_bytes_max=4096,
    value_bytes_max=8 << 20,
    batch_ops_max=20_000,
    batch_bytes_max=16 << 20,
    scan_can_reverse=True,
    thread_safe=True,
    multi_process_read=True,
    multi_process_write=True,
    fork_safe=True,
    watch=True,
    is_network=True,
    inline_bytes_best=16 << 10,
    extent_bytes_best=128 << 10,
    commit_bytes_best=2 << 20,
)
"""At its best: with a server that syncs its log at every write.

The limits of batches are there for the other users of the server, which serves nobody else while it
applies one.
"""

_SCHEMES = ("redis", "rediss", "unix")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@attrs.frozen(kw_only=True)
class RedisSettings:
    """Settings of the Redis engine."""

    url: str = setting(
        "redis://localhost:6379/0",
        help="redis://HOST:PORT/DATABASE, rediss:// with TLS, or unix:///SOCKET",
    )
    namespace: str = setting("kvfs", help="what tells the volumes of one server apart")
    username: str = setting("", help="user of the server's access control list; empty: default")
    password: str = setting("", help="password of the user", secret=True)
    ca: Path | None = setting(
        None, help="certificate authorities of the server, a PEM file; default: the system's"
    )
    certificate: Path | None = setting(None, help="certificate of this client, a PEM file")
    key: Path | None = setting(None, help="key of the client's certificate, a PEM file")
    timeout: Seconds = setting(
        Seconds(10), help="longest wait for an answer, and for a server that went away"
    )
    replicas: int = setting(0, help="how many replicas must have a commit before it returns")
    durability: Durability = setting(
        Durability.MEMORY, help="what writes survive, where the server forbids to ask it (CONFIG)"
    )

    def __attrs_post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in _SCHEMES or parts.query or not (parts.hostname or parts.path):
            raise Invalid(
                "redis: url has the form redis://HOST:PORT/DATABASE, rediss://... or unix:///SOCKET"
            )
        if parts.username is not None or parts.password is not None:
            raise Invalid("redis: url: put user and password into settings of their own")
        if not _NAME.fullmatch(self.namespace):
            raise Invalid(
                f"redis: namespace {self.namespace!r} is not made of letters, digits, '.', '_', '-'"
            )
        if self.timeout <= 0 or self.replicas < 0:
            raise Invalid("redis: timeout must be positive, and replicas not negative")
