"""The folder of a store: whose it is, who has it open, and how it is removed.

Beside RocksDB's files lie ``kvfs-rocksdb.json``, which says that the folder is of KVFS and of which
format, and ``kvfs-rocksdb.lock``.  Whoever has the store open holds an exclusive ``flock`` on the
latter and has written the number of its process there, so that others can say whom to ask.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path

import attrs
from rocksdict import Options, Rdict

from kvfs.errors import Corrupt, Invalid, Unavailable
from kvfs_kv_rocksdb._errors import from_os, from_rocksdb
from kvfs_kv_rocksdb._settings import RocksDBSettings

RECORD_NAME = "kvfs-rocksdb.json"
LOCK_NAME = "kvfs-rocksdb.lock"
FORMAT = 1


@attrs.define
class Directory:
    """A folder that is locked, until it is closed."""

    path: Path
    name: str
    """What errors call the store."""
    _lock_fd: int

    def free_bytes(self) -> int:
        """What the file system can still give."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def close(self) -> None:
        """Let others open it.  Idempotent."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def claim(settings: RocksDBSettings, *, store: str) -> Directory:
    """Make the folder if it is not there, and lock it.

    :raises Unavailable: it is open, here or in another process; says in which.
    :raises Invalid: what is there is not of KVFS, or of a later version.
    :raises Corrupt: the record is damaged.
    :raises PermissionDenied: it cannot be written.
    """
    path, name = _place(settings, store)
    try:
        path.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(path, name)
        lock_fd = _lock(path, name)
    except OSError as error:
        raise from_os(error, name, f"opening {path}") from error
    try:
        if _format(path, name) is None:
            _write_record(path)
    except BaseException as error:
        os.close(lock_fd)
        if isinstance(error, OSError):
            raise from_os(error, name, f"writing {path / RECORD_NAME}") from error
        raise
    return Directory(path, name, lock_fd)


def remove_store(settings: RocksDBSettings, *, store: str) -> None:
    """Remove a store and its folder; no error if there is none, or if it is not of KVFS.

    :raises Invalid: it is open, here or in another process.
    """
    path, name = _place(settings, store)
    try:
        if _format(path, name) is None:
            return
        try:
            lock_fd = _lock(path, name)
        except Unavailable as error:
            raise Invalid(f"{error}; it cannot be removed") from error
        try:
            Rdict.destroy(os.fspath(path), Options(raw_mode=True))
            # The record last: while it is there, a removal that broke off can be made again.
            for file in ("rocksdict-config.json", RECORD_NAME, LOCK_NAME):
                (path / file).unlink(missing_ok=True)
            path.rmdir()
        finally:
            os.close(lock_fd)
    except OSError as error:
        raise from_os(error, name, f"removing {path}") from error
    except Exception as error:
        if (ours := from_rocksdb(error, name)) is None:
            raise
        raise ours from error


def _place(settings: RocksDBSettings, store: str) -> tuple[Path, str]:
    path = settings.path / store
    name = f"rocksdb {path}"
    if not store or "/" in store or "\0" in store or store in (".", ".."):
        raise Invalid(f"{name}: {store!r} is not the name of a store")
    return path, name


def _refuse_foreign(path: Path, name: str) -> None:
    if _format(path, name) is None and (path / "CURRENT").exists():
        raise Invalid(f"{name}: the RocksDB database there is not of KVFS: use another path")


def _format(path: Path, name: str) -> int | None:
    """The format that the record says, or ``None`` if there is no record."""
    try:
        found = json.loads((path / RECORD_NAME).read_bytes())["format"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{name}: {path / RECORD_NAME} is damaged: {error!r}") from error
    if found != FORMAT:
        raise Invalid(f"{name}: it is of format {found}: update the driver")
    return FORMAT


def _write_record(path: Path) -> None:
    draft = path / f"{RECORD_NAME}.tmp"
    with draft.open("w") as file:
        json.dump({"format": FORMAT}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path / RECORD_NAME)
    # RocksDB syncs the folder when it makes its files there; the folder's own name is ours to do.
    for directory in (path, path.parent):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _lock(path: Path, name: str) -> int:
    """The descriptor that holds the lock."""
    lock_fd = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(lock_fd, 20).decode("ascii", "replace").strip()
        os.close(lock_fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        where = "in this process" if owner == str(os.getpid()) else f"in process {owner or '?'}"
        raise Unavailable(
            f"{name}: it is open {where}, and RocksDB is for one process: use that one's mount "
            "or end it, or choose an engine that several processes may open"
        ) from error
    with suppress(OSError):  # on a full disk others can do without the number
        os.ftruncate(lock_fd, 0)
        os.pwrite(lock_fd, b"%d\n" % os.getpid(), 0)
    return lock_fd
