"""From the errors of the operating system to those of KVFS."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from kvfs.errors import (
    AlreadyExists,
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)

_KINDS: dict[int, tuple[type[KVFSError], str]] = {
    errno.ENOENT: (NotFound, "there is no such object"),
    errno.ENOTDIR: (NotFound, "part of the name is not a directory"),
    errno.ELOOP: (NotFound, "part of the name is a symbolic link, which is not followed"),
    errno.EEXIST: (AlreadyExists, "it exists"),
    errno.EACCES: (PermissionDenied, "permission denied"),
    errno.EPERM: (PermissionDenied, "not permitted"),
    errno.EROFS: (PermissionDenied, "the file system is read-only"),
    errno.ENOSPC: (Exhausted, "no space left on the device"),
    errno.EDQUOT: (Exhausted, "the disk quota is exhausted"),
    errno.EFBIG: (Exhausted, "larger than the file system allows"),
    errno.EMFILE: (Exhausted, "too many open files in this process"),
    errno.ENFILE: (Exhausted, "too many open files in the system"),
    errno.ENAMETOOLONG: (Unsupported, "a part of the name is longer than the file system allows"),
    errno.EXDEV: (Unsupported, "it lies on another file system than the store's directory"),
    errno.EISDIR: (Unsupported, "there is a directory of that name"),
    errno.EINVAL: (Invalid, "the file system refuses the name or the operation"),
    errno.EILSEQ: (Invalid, "the file system refuses the name"),
    errno.ESTALE: (Unavailable, "stale file handle: the server forgot it"),
}


def translated(error: OSError, what: str) -> KVFSError:
    """The KVFS error; the caller raises it ``from error``.  Anything unknown is unavailability."""
    number = error.errno or errno.EIO
    kind, text = _KINDS.get(number, (Unavailable, os.strerror(number)))
    return kind(f"posix: {what}: {text}")


@contextmanager
def translating(what: str) -> Iterator[None]:
    """Raise the body's operating system errors as KVFS errors."""
    try:
        yield
    except OSError as error:
        raise translated(error, what) from error
