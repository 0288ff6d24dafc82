"""From the error numbers of librados to the errors of KVFS."""

from __future__ import annotations

import errno
import os

from kvfs.errors import (
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)

_KINDS: dict[int, type[KVFSError]] = {
    errno.ENOENT: NotFound,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.ENOSPC: Exhausted,
    errno.EDQUOT: Exhausted,
    errno.EINVAL: Invalid,
    errno.E2BIG: Invalid,
    errno.EOPNOTSUPP: Unsupported,
}


class RadosError(Exception):
    """What a call of librados answered, as the cause of an error of KVFS."""

    def __init__(self, call: str, number: int) -> None:
        super().__init__(f"{call}: {os.strerror(number)} (errno {number})")
        self.number = number


def from_rados(error: RadosError, what: str) -> KVFSError:
    """The KVFS error for one of librados; the caller raises it ``from error``.

    :param what: the store and where it is.
    """
    if error.number == errno.ETIMEDOUT:
        return Unavailable(f"{what}: the cluster did not answer in time ({error})")
    return _KINDS.get(error.number, Unavailable)(f"{what}: {error}")


__all__ = ["RadosError", "from_rados"]
