"""What the server is, and what it does with what is written to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import redis.exceptions as theirs

from kvfs.capability import Durability
from kvfs.errors import Invalid, Unavailable, Unsupported

_VERSION_MIN = 7
"""The first with scripts that say what they may do (``#!lua flags=...``)."""
_LOGGING = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")


@attrs.frozen
class ServerState:
    """As found on a new connection."""

    info: Mapping[str, str]
    logging: Mapping[str, str] | None
    """``None``: the server does not tell."""

    def durability(self, stated: Durability) -> Durability:
        """What an acknowledged write survives.

        POWER: the log is written and synced before the answer (``appendfsync always``, and no
        exception while the log is rewritten).  Otherwise nothing is certain.  ``everysec`` puts off
        writing the log, not only syncing it, by up to two seconds while a sync takes long, and
        ``no`` and ``everysec`` both acknowledge a write that the log had no room for (Redis,
        ``flushAppendOnlyFile`` in aof.c): a killed server may lose what was acknowledged.

        :param stated: what to believe where the server does not tell.
        """
        if self.logging is None:
            return stated
        expected = {_LOGGING[0]: "yes", _LOGGING[1]: "always", _LOGGING[2]: "no"}
        return Durability.POWER if self.logging == expected else Durability.MEMORY

    def check(self, what: str) -> None:
        """Refuse a server that would not keep what it is given.

        :param what: the store and where it is.
        """
        version = self.info.get("redis_version", "0")
        if int(version.partition(".")[0]) < _VERSION_MIN:
            raise Unsupported(f"{what}: the server has version {version}; 7 is the least")
        if self.info.get("redis_mode") == "cluster":
            raise Unsupported(f"{what}: the server is part of a cluster: use one that is not")
        policy = self.info.get("maxmemory_policy", "noeviction")
        if policy.startswith("allkeys"):
            raise Invalid(
                f"{what}: the server drops records when memory is short (maxmemory-policy "
                f"{policy}): set noeviction"
            )
        if self.info.get("role") == "slave":
            raise Unavailable(f"{what}: the server is a replica: give the primary", unapplied=True)


def observe(connection: Any) -> ServerState:
    """Ask the server at the other end of a connection of the client library."""
    connection.send_command("INFO")
    lines = connection.read_response().decode(errors="replace").splitlines()
    pairs = (line.partition(":") for line in lines if not line.startswith("#"))
    info = {name: value for name, colon, value in pairs if colon}
    try:
        connection.send_command("CONFIG", "GET", *_LOGGING)
        answer = [part.decode() for part in connection.read_response()]
    except (theirs.NoPermissionError, theirs.ResponseError):
        return ServerState(info, None)
    return ServerState(info, dict(zip(answer[::2], answer[1::2], strict=True)))


__all__ = ["ServerState", "observe"]
