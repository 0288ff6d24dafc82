"""From what the server and its client library raise to the errors of KVFS."""

from __future__ import annotations

import ssl

import redis.exceptions as theirs

from kvfs.errors import (
    Exhausted,
    Invalid,
    KVFSError,
    PermissionDenied,
    Unavailable,
    Unsupported,
)

_CLUSTER = (theirs.AskError, theirs.ClusterDownError, theirs.ClusterCrossSlotError)
_CREDENTIALS = (theirs.AuthenticationError, theirs.AuthorizationError)
_REPLIES = (theirs.ResponseError, theirs.BusyLoadingError, *_CREDENTIALS)


def from_redis(error: theirs.RedisError, what: str, *, sent: bool) -> KVFSError:
    """The KVFS error for one of the client library's; the caller raises it ``from error``.

    :param what: the store and where it is.
    :param sent: the request may have reached the server.
    """
    text = str(error)
    if isinstance(error, _REPLIES):
        return _from_reply(error, text, what)
    if _is_about_tls(error):
        return Invalid(f"{what}: no connection with TLS: {text}; look at url, ca and certificate")
    if isinstance(error, theirs.ConnectionError | theirs.TimeoutError):
        if not sent:
            return Unavailable(f"{what}: the server cannot be reached: {text}", unapplied=True)
        return Unavailable(f"{what}: the connection broke before the answer: {text}")
    return Unavailable(f"{what}: {text}", retryable=False)


def _from_reply(error: theirs.RedisError, text: str, what: str) -> KVFSError:
    """What the server answered instead of doing anything."""
    if isinstance(error, theirs.OutOfMemoryError) or text.startswith("OOM"):
        return Exhausted(f"{what}: the server has reached its maxmemory: set more, or delete")
    if isinstance(error, _CREDENTIALS) or text.startswith(("WRONGPASS", "NOAUTH")):
        return PermissionDenied(f"{what}: wrong username or password, or none given ({text})")
    if isinstance(error, theirs.NoPermissionError):
        return PermissionDenied(f"{what}: the user lacks a right: {text}")
    if isinstance(error, _CLUSTER):
        return Unsupported(f"{what}: clusters are not supported: use a single server ({text})")
    if "MISCONF" in text and "AOF" in text:
        return Exhausted(f"{what}: the server cannot write its log: is its disk full? ({text})")
    if isinstance(error, theirs.ReadOnlyError):
        return Unavailable(f"{what}: the server is a replica: give the primary", unapplied=True)
    if isinstance(error, theirs.BusyLoadingError):
        return Unavailable(f"{what}: the server is still loading its data", unapplied=True)
    if text.startswith(("BUSY", "MISCONF", "NOREPLICAS", "max number of clients")):
        return Unavailable(f"{what}: the server refuses for now: {text}", unapplied=True)
    if "WRONGTYPE" in text:
        return Invalid(f"{what}: its keys hold something that is not of KVFS: other namespace?")
    return Invalid(f"{what}: the server refuses: {text}")


def _is_about_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


__all__ = ["from_redis"]
