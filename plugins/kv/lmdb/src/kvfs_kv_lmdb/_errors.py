"""From what LMDB and the operating system raise to the errors of KVFS."""

from __future__ import annotations

import errno
import os

import lmdb

from kvfs.errors import (
    Closed,
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    PermissionDenied,
    Unavailable,
)

_KINDS: tuple[tuple[type[lmdb.Error], type[KVFSError], str], ...] = (
    (lmdb.MapFullError, Exhausted, "the store has reached its map_size: set a larger one"),
    (lmdb.TxnFullError, Exhausted, "the batch changes too many pages: commit in smaller ones"),
    (lmdb.ReadersFullError, Exhausted, "too many read views are open: set a larger max_readers"),
    (lmdb.BadValsizeError, Invalid, "a key is empty or too long"),
    (lmdb.VersionMismatchError, Invalid, "the file is of an LMDB version that this build lacks"),
    (lmdb.InvalidError, Corrupt, "data.mdb is not an LMDB file, or of another LMDB version"),
    (lmdb.CorruptedError, Corrupt, "a page of the file is damaged"),
    (lmdb.PageNotFoundError, Corrupt, "a page of the file is missing: it was cut short"),
    (lmdb.PanicError, Unavailable, "an update failed in the middle: close and open the store"),
    (lmdb.MapResizedError, Unavailable, "another process grew the map: open the store again"),
    (lmdb.BadRslotError, Invalid, "a read view is used wrongly (after a fork?)"),
)

_ERRNOS: dict[int, type[KVFSError]] = {
    errno.ENOSPC: Exhausted,
    errno.EDQUOT: Exhausted,
    errno.EFBIG: Exhausted,
    errno.ENOMEM: Exhausted,
    errno.EMFILE: Exhausted,
    errno.ENFILE: Exhausted,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EEXIST: Invalid,
    errno.ENOTDIR: Invalid,
    errno.EISDIR: Invalid,
    errno.EINVAL: Invalid,
    errno.ENAMETOOLONG: Invalid,
}


def from_lmdb(error: lmdb.Error, name: str) -> KVFSError:
    """The KVFS error for one of LMDB's; the caller raises it ``from error``.

    :param name: what to call the store.
    """
    for kind, ours, advice in _KINDS:
        if isinstance(error, kind):
            return ours(f"{name}: {advice} ({error})")
    if "closed" in str(error):
        return Closed(f"{name}: it was closed")
    return _ERRNOS.get(error.code, Unavailable)(f"{name}: {error}")


def from_os(error: OSError, name: str, what: str) -> KVFSError:
    """The KVFS error for one of the operating system's."""
    number = error.errno or errno.EIO
    return _ERRNOS.get(number, Unavailable)(f"{name}: {what}: {os.strerror(number)}")
