"""From what rocksdict and the operating system raise to the errors of KVFS.

rocksdict raises plain ``Exception`` with RocksDB's status as text, so that is what is looked at.
"""

from __future__ import annotations

import errno
import os

from rocksdict import DbClosedError

from kvfs.errors import (
    Closed,
    Corrupt,
    Exhausted,
    Invalid,
    KVFSError,
    PermissionDenied,
    Unavailable,
)

# The first that is found in the text counts.
_KINDS: tuple[tuple[str, type[KVFSError], str], ...] = (
    (
        "No space left on device",
        Exhausted,
        "no space left on the device; nothing is lost: make room",
    ),
    ("Disk quota exceeded", Exhausted, "the disk quota is used up; nothing is lost: raise it"),
    ("File too large", Exhausted, "a file has the largest size that is allowed here"),
    ("Too many open files", Exhausted, "too many open files: set a smaller open_files_max"),
    ("Cannot allocate memory", Exhausted, "out of memory"),
    ("lock hold by current process", Unavailable, "the store is still being closed"),
    ("While lock file", Unavailable, "another program has it open: let that end first"),
    ("previous error", Unavailable, "an earlier write failed: close the store and open it again"),
    ("Permission denied", PermissionDenied, "the files may not be read and written"),
    ("Read-only file system", PermissionDenied, "the file system is read-only"),
    ("Shutdown in progress", Closed, "the store is closed"),
    ("unsupported format_version", Invalid, "a later version of RocksDB made it: update rocksdict"),
    ("Corruption", Corrupt, "the files are damaged"),
    ("Not implemented", Invalid, "another version of RocksDB made it: update rocksdict"),
    ("Invalid argument", Invalid, "RocksDB does not take this"),
    ("No such file or directory", Corrupt, "a file is missing"),
)

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


def from_rocksdb(error: BaseException, name: str) -> KVFSError | None:
    """The KVFS error for one of rocksdict's; the caller raises it ``from error``.

    :param name: what to call the store.
    :returns: ``None`` if it is none of rocksdict's.
    """
    text = str(error)
    # "Already mutably borrowed": another thread is closing it.
    if isinstance(error, DbClosedError) or (isinstance(error, RuntimeError) and "borrow" in text):
        return Closed(f"{name}: the store is closed")
    if type(error) is not Exception:
        return None
    for part, kind, advice in _KINDS:
        if part in text:
            return kind(f"{name}: {advice} ({text})")
    return Unavailable(f"{name}: {text}")


def from_os(error: OSError, name: str, what: str) -> KVFSError:
    """The KVFS error for one of the operating system's."""
    number = error.errno or errno.EIO
    return _ERRNOS.get(number, Unavailable)(f"{name}: {what}: {os.strerror(number)}")
