"""The closed set of errors.

Every failure that crosses a room's wall is one of these eleven kinds.  A driver translates what its
engine raises, with the original chained as ``__cause__``; a frontend translates a kind into an
errno (:func:`errno_of`).  Whether to try again is a separate answer from what went wrong.

The base class is neither ``ValueError`` nor ``OSError``: code that catches those for its own
reasons must not swallow ours.
"""

from __future__ import annotations

import errno
from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """What went wrong, in terms a caller can act on."""

    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    CONFLICT = "conflict"
    PERMISSION = "permission"
    INVALID = "invalid"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    EXHAUSTED = "exhausted"
    CORRUPT = "corrupt"
    CLOSED = "closed"
    STALE = "stale"


class KVFSError(Exception):
    """Base of every error of KVFS.

    :param message: one sentence for a person: what failed, on what, and what to do about it.
    :param retryable: may the same call succeed if it is simply made again?  Defaults to what is
        usual for the kind.
    """

    kind: ClassVar[Kind] = Kind.INVALID
    retryable_by_default: ClassVar[bool] = False
    errno: int | None = None
    """What a frontend answers with, where that is not the same for all errors of a kind."""

    def __init__(self, message: str, *, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.retryable = self.retryable_by_default if retryable is None else retryable


class NotFound(KVFSError):
    """The named thing does not exist."""

    kind = Kind.NOT_FOUND


class AlreadyExists(KVFSError):
    """The name is taken."""

    kind = Kind.ALREADY_EXISTS


class Conflict(KVFSError):
    """A guard did not hold: somebody else changed the state first.  Read again, then retry."""

    kind = Kind.CONFLICT


class PermissionDenied(KVFSError):
    """The caller, or the credentials configured, may not do this."""

    kind = Kind.PERMISSION


class Invalid(KVFSError):
    """The request makes no sense as asked: a bad argument, setting or name."""

    kind = Kind.INVALID


class Unsupported(KVFSError):
    """The driver declares that it cannot do this."""

    kind = Kind.UNSUPPORTED


class Unavailable(KVFSError):
    """The engine or store cannot be reached or did not answer.

    :param unapplied: a write that failed so has surely not been applied, and never will be: it can
        be made again.  Otherwise only a look at what it was to change can tell.
    """

    kind = Kind.UNAVAILABLE
    retryable_by_default = True

    def __init__(
        self, message: str, *, retryable: bool | None = None, unapplied: bool = False
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.unapplied = unapplied


class Exhausted(KVFSError):
    """A limit is reached: disk, quota, map size, number of records."""

    kind = Kind.EXHAUSTED


class Corrupt(KVFSError):
    """Stored bytes are not what was written, or input is not what it claims to be."""

    kind = Kind.CORRUPT


class Closed(KVFSError):
    """The object was closed."""

    kind = Kind.CLOSED


class Stale(KVFSError):
    """It was replaced or removed since it was found: find it again by its name."""

    kind = Kind.STALE


ERRNO_OF_KIND: dict[Kind, int] = {
    Kind.NOT_FOUND: errno.ENOENT,
    Kind.ALREADY_EXISTS: errno.EEXIST,
    Kind.CONFLICT: errno.EAGAIN,
    Kind.PERMISSION: errno.EACCES,
    Kind.INVALID: errno.EINVAL,
    Kind.UNSUPPORTED: errno.EOPNOTSUPP,
    Kind.UNAVAILABLE: errno.EIO,
    Kind.EXHAUSTED: errno.ENOSPC,
    Kind.CORRUPT: errno.EIO,
    Kind.CLOSED: errno.ENODEV,
    Kind.STALE: errno.ESTALE,
}
"""The one table from kinds to errno."""


def errno_of(error: BaseException) -> int:
    """The errno that a frontend answers with; EIO for anything that is not ours."""
    if isinstance(error, KVFSError):
        return ERRNO_OF_KIND[error.kind] if error.errno is None else error.errno
    return errno.EIO
