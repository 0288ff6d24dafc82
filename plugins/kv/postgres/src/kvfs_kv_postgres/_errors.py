"""From what PostgreSQL and libpq say to the errors of KVFS.

SQLSTATEs: PostgreSQL's manual, appendix A.  For a refused connection libpq has none, only the text,
so those are told apart by their (untranslated) words.
"""

from __future__ import annotations

import psycopg

from kvfs.errors import (
    Conflict,
    Corrupt,
    Exhausted,
    KVFSError,
    NotFound,
    PermissionDenied,
    Stale,
    Unavailable,
    Unsupported,
)

_STATES: dict[str, tuple[type[KVFSError], str]] = {
    "25006": (Unsupported, "the server takes no writes: connect to the primary"),
    "3F000": (Stale, "the namespace was removed: open the store again"),
    "42501": (PermissionDenied, "the role may not do that: grant it the schema or the database"),
    "42P01": (Stale, "the store was removed: open it again"),
    "53100": (Exhausted, "the disk of the server is full: nothing was applied"),
    "53200": (Exhausted, "the server is out of memory: commit in smaller batches"),
    "53300": (Exhausted, "the server has no connection left: raise its max_connections"),
    "53400": (Exhausted, "a limit of the server is reached"),
    "54000": (Exhausted, "a limit of the server is reached"),
    "55P03": (Conflict, "somebody else holds it: a view, a scan or another process"),
    "57014": (Unavailable, "the server did not finish in time"),
    "XX001": (Corrupt, "the server found damaged data"),
    "XX002": (Corrupt, "the server found a damaged index"),
}

_REFUSALS: tuple[tuple[str, type[KVFSError], str], ...] = (
    ("password", PermissionDenied, "set user and password"),
    ("authentication failed", PermissionDenied, "set user and password"),
    ("no pg_hba.conf entry", PermissionDenied, "let this host in, in the server's pg_hba.conf"),
    ("is not permitted to log in", PermissionDenied, "set another user"),
    ("permission denied for database", PermissionDenied, "grant CONNECT to the role"),
    ('role "', PermissionDenied, "set another user"),
    ('database "', NotFound, "create it: createdb NAME"),
    ("too many", Exhausted, "raise the server's max_connections"),
    ("remaining connection slots", Exhausted, "raise the server's max_connections"),
    ("certificate", PermissionDenied, "see sslmode and sslrootcert"),
    ("SSL", PermissionDenied, "see sslmode"),
)
"""A word of the text, what it means, and what to do."""

_FOR_A_WHILE = ("the database system is",)
"""Starting up, shutting down, in recovery, not yet accepting connections."""


def _words(error: BaseException) -> str:
    """The first line of what was said: those that follow repeat it, or are hints."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].removeprefix("connection failed: ")


def from_postgres(error: psycopg.Error, name: str) -> KVFSError:
    """The KVFS error for one of an open connection; the caller raises it ``from error``.

    :param name: what to call the store.
    """
    state = error.sqlstate or ""
    kind, advice = _STATES.get(state, (Unavailable, "the server refused"))
    ours = kind(f"{name}: {advice} ({_words(error)})")
    # Without a state it was the connection; 08 is that too, 57P an operator.
    is_passing = state[:3] in ("080", "57P", "570") or not state
    ours.retryable = (
        kind is Unavailable and is_passing and isinstance(error, psycopg.OperationalError)
    )
    return ours


def from_connecting(error: psycopg.Error, name: str) -> KVFSError:
    """The KVFS error for a connection that was not made: retryable if it may be made later."""
    text = _words(error)
    if not any(words in text for words in _FOR_A_WHILE):
        said = text.partition("failed: ")[2] or text
        for words, kind, advice in _REFUSALS:
            if words in said:
                return kind(f"{name}: {text}: {advice}")
    return Unavailable(f"{name}: the server does not answer: {text}", unapplied=True)


def is_lost(error: BaseException, connection: psycopg.Connection[object]) -> bool:
    """Is the connection gone, rather than a statement refused?"""
    return isinstance(error, psycopg.Error) and (connection.closed or connection.broken)


__all__ = ["from_connecting", "from_postgres", "is_lost"]
