"""From what SQLite and the operating system raise to the errors of KVFS."""

from __future__ import annotations

import errno
import os

import apsw

from kvfs.errors import (
    Closed,
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    PermissionDenied,
    Unavailable,
)

_KINDS: tuple[tuple[type[apsw.Error], type[KVFSError], str], ...] = (
    (apsw.BusyError, Unavailable, "another process holds the lock; busy_timeout_s has passed"),
    (apsw.LockedError, Unavailable, "another connection of this process holds the lock"),
    (apsw.FullError, Exhausted, "no space left on the device; nothing was applied: make room"),
    (apsw.NoMemError, Exhausted, "out of memory"),
    (apsw.TooBigError, Invalid, "a key or value is too long for SQLite"),
    (apsw.CorruptError, Corrupt, "the database is damaged"),
    (apsw.NotADBError, Corrupt, "the file is not an SQLite database"),
    (apsw.ReadOnlyError, PermissionDenied, "the files may not be written"),
    (apsw.PermissionsError, PermissionDenied, "the files may not be read and written"),
    (
        apsw.CantOpenError,
        Unavailable,
        "the files cannot be opened: look at their permissions, and for too many open files",
    ),
    (apsw.ConnectionClosedError, Closed, "the store is closed"),
    (apsw.CursorClosedError, Closed, "the view was refreshed or closed"),
)

_FULL = (apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMMAP, apsw.SQLITE_IOERR_TRUNCATE)
"""Where making room in a file fails, what SQLite says is not that the disk is full."""

_ERRNOS: dict[int, type[KVFSError]] = {
    errno.ENOSPC: Exhausted,
    errno.EDQUOT: Exhausted,
    errno.EMFILE: Exhausted,
    errno.ENFILE: Exhausted,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.EEXIST: Invalid,
    errno.ENOTDIR: Invalid,
    errno.EISDIR: Invalid,
    errno.ENAMETOOLONG: Invalid,
    errno.ENOTEMPTY: Invalid,
}


def from_sqlite(error: BaseException, name: str) -> KVFSError | None:
    """The KVFS error for one of SQLite's; the caller raises it ``from error``.

    :param name: what to call the store.
    :returns: ``None`` if it is none of SQLite's.
    """
    if not isinstance(error, apsw.Error):
        return None
    for kind, ours, advice in _KINDS:
        if isinstance(error, kind):
            return ours(f"{name}: {advice} ({error})")
    if getattr(error, "extendedresult", None) in _FULL:
        return Exhausted(f"{name}: no space left on the device ({error})")
    return Unavailable(f"{name}: {error}")


def from_os(error: OSError, name: str, what: str) -> KVFSError:
    """The KVFS error for one of the operating system's."""
    number = error.errno or errno.EIO
    return _ERRNOS.get(number, Unavailable)(f"{name}: {what}: {os.strerror(number)}")
