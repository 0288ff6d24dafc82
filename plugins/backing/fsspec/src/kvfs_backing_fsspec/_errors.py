"""From what fsspec and the libraries below it raise to the errors of KVFS."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from kvfs.backing.remote.retries import Throttled
from kvfs.errors import (
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)

_STATUSES: dict[int, tuple[type[KVFSError], str]] = {
    401: (PermissionDenied, "the credentials are refused, or missing"),
    403: (PermissionDenied, "it may not be read"),
    404: (NotFound, "there is no such object"),
    410: (NotFound, "there is no such object any more"),
}
_ERRNOS: dict[int, tuple[type[KVFSError], str]] = {
    errno.ENOENT: (NotFound, "there is no such object"),
    errno.ENOTDIR: (NotFound, "part of the name is not a directory"),
    errno.EISDIR: (Unsupported, "there is a directory of that name"),
    errno.EACCES: (PermissionDenied, "permission denied"),
    errno.EPERM: (PermissionDenied, "not permitted"),
    errno.EROFS: (PermissionDenied, "the file system is read-only"),
    errno.ENOSPC: (Exhausted, "no space left"),
    errno.EDQUOT: (Exhausted, "the quota is exhausted"),
    errno.ENAMETOOLONG: (Unsupported, "the name is longer than the server allows"),
}
_KINDS: tuple[tuple[type[BaseException], type[KVFSError], str], ...] = (
    (IsADirectoryError, *_ERRNOS[errno.EISDIR]),
    (NotADirectoryError, *_ERRNOS[errno.ENOTDIR]),
    (FileExistsError, Unsupported, "a part of the name is the name of an object"),
    (PermissionError, *_ERRNOS[errno.EACCES]),
    (NotImplementedError, Unsupported, "the protocol cannot do it"),
    (UnicodeError, Invalid, "the protocol has no such names"),
)
_BY_NAME: dict[str, tuple[type[KVFSError], str]] = {
    "AuthenticationException": (PermissionDenied, "the credentials are refused, or missing"),
    "BadHostKeyException": (PermissionDenied, "the server has another key than it had"),
}
"""Of libraries that may not be installed."""


def translated(error: BaseException, what: str) -> KVFSError:
    """The KVFS error; the caller raises it ``from error``.  Anything unknown is unavailability."""
    if isinstance(error, KVFSError):
        return error
    status = _status_of(error)
    if status is not None:
        if status in (429, 503):
            return Throttled(f"fsspec: {what}: the server is busy ({status})")
        kind, text = _STATUSES.get(status, (Unavailable, f"the server answered {status}"))
        return kind(f"fsspec: {what}: {text}")
    named = next(
        (_BY_NAME[each.__name__] for each in type(error).__mro__ if each.__name__ in _BY_NAME), None
    )
    if named is not None:
        kind, text = named
        return kind(f"fsspec: {what}: {text}")
    if isinstance(error, FileNotFoundError) and _is_other_failure(error.__cause__):
        assert error.__cause__ is not None
        return translated(error.__cause__, what)
    for raised, kind, text in _KINDS:
        if isinstance(error, raised):
            return kind(f"fsspec: {what}: {text}")
    if isinstance(error, OSError) and error.errno in _ERRNOS:
        kind, text = _ERRNOS[error.errno]
        return kind(f"fsspec: {what}: {text}")
    if isinstance(error, FileNotFoundError):
        return NotFound(f"fsspec: {what}: there is no such object")
    if isinstance(error, ImportError | ValueError | TypeError):
        return Invalid(f"fsspec: {what}: {error}")
    return Unavailable(f"fsspec: {what}: {str(error) or type(error).__name__}")


def _status_of(error: BaseException) -> int | None:
    """Of an answer over HTTP.  fsspec says "not found" of all of them, and why in the cause."""
    for each in (error, error.__cause__):
        status = getattr(each, "status", None)
        if isinstance(status, int) and status >= 400:
            return status
    return None


def _is_other_failure(cause: BaseException | None) -> bool:
    return cause is not None and not isinstance(cause, FileNotFoundError | KeyError)


def is_broken(error: BaseException) -> bool:
    """Has the connection ended, so that a new one is needed?"""
    if isinstance(error, EOFError | ConnectionError | TimeoutError):
        return True
    is_ssh = any(each.__name__ == "SSHException" for each in type(error).__mro__)
    return is_ssh or (isinstance(error, OSError) and str(error) == "Socket is closed")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Raise the body's errors as KVFS errors."""
    try:
        yield
    except Exception as error:
        raise translated(error, what) from error


__all__ = ["is_broken", "translated", "translating"]
