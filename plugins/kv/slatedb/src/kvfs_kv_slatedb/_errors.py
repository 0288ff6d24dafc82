"""From what SlateDB and the operating system raise to the errors of KVFS."""

from __future__ import annotations

import errno
import os

from slatedb.uniffi import CloseReason, Error

from kvfs.errors import (
    Closed,
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
)

FENCED = (
    "another process has opened this store, which closed it here: "
    "let one process use it, and open it there again"
)

_CAUSES: tuple[tuple[str, type[KVFSError], str], ...] = (
    ("NoSuchBucket", NotFound, "there is no such bucket: check url and endpoint"),
    ("InvalidAccessKeyId", PermissionDenied, "the access key is unknown"),
    ("SignatureDoesNotMatch", PermissionDenied, "the secret does not fit the access key"),
    ("AccessDenied", PermissionDenied, "the credentials may not do this"),
    ("403 Forbidden", PermissionDenied, "the credentials are refused"),
    ("401 Unauthorized", PermissionDenied, "the credentials are refused"),
    ("No space left on device", Exhausted, "no space left on the device"),
    ("Permission denied", PermissionDenied, "the directory may not be written"),
    ("Read-only file system", PermissionDenied, "the file system is read-only"),
    ("Not a directory", Invalid, "a part of the path is a file"),
    (
        "transactional object",
        Corrupt,
        "the manifest is missing, damaged or of another version of SlateDB",
    ),
    ("501 Not Implemented", Invalid, "the object store cannot do what SlateDB needs of it"),
)
"""What the object store said, which SlateDB hands on as text alone."""

_ERRNOS: dict[int, type[KVFSError]] = {
    errno.ENOSPC: Exhausted,
    errno.EDQUOT: Exhausted,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EEXIST: Invalid,
    errno.ENOTDIR: Invalid,
    errno.ENAMETOOLONG: Invalid,
}


def from_slatedb(error: Error, name: str) -> KVFSError:
    """The KVFS error for one of SlateDB's; the caller raises it ``from error``.

    :param name: what to call the store.
    """
    message: str = error.message
    brief = message.partition("\n")[0][:300]
    for text, kind, advice in _CAUSES:
        if text in message:
            return kind(f"{name}: {advice}")
    if isinstance(error, Error.Closed):
        if error.reason is CloseReason.FENCED:
            return Closed(f"{name}: {FENCED}")
        if error.reason is CloseReason.CLEAN:
            return Closed(f"{name}: the store is closed")
        return Closed(f"{name}: SlateDB gave up, open the store again ({brief})")
    if isinstance(error, Error.Data):
        return Corrupt(f"{name}: what is stored is damaged or of another version ({brief})")
    if isinstance(error, Error.Invalid):
        return Invalid(f"{name}: {brief}")
    return Unavailable(f"{name}: {brief}", retryable=isinstance(error, Error.Unavailable))


def from_os(error: OSError, name: str, what: str) -> KVFSError:
    """The KVFS error for one of the operating system's."""
    number = error.errno or errno.EIO
    return _ERRNOS.get(number, Unavailable)(f"{name}: {what}: {os.strerror(number)}")
