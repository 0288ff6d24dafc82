"""The folder of a store: its database, who has it open, and how it is removed.

``data.sqlite`` is marked as ours by SQLite's ``application_id``, and its ``user_version`` is our
format.  Whoever has a store open holds a shared ``flock`` on its folder; it is made, and removed,
under an exclusive one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from threading import Lock

import apsw
import attrs

from kvfs.errors import Invalid, Unavailable
from kvfs_kv_sqlite._errors import from_os, from_sqlite
from kvfs_kv_sqlite._settings import SQLiteSettings

DATA_NAME = "data.sqlite"
APPLICATION_ID = int.from_bytes(b"KVFS", "big")
FORMAT = 1
PAGE_BYTES = 16 << 10
"""Chosen from a sweep over values of 100 bytes to 64 KiB and pages of 4 to 32 KiB: smaller pages
make longer chains of overflow pages, larger ones are written for too little."""

_APPLICATION_ID_AT = 68
"""In the header of the file: https://www.sqlite.org/fileformat2.html#the_database_header"""

# A rowid table with an index rather than WITHOUT ROWID: the tree that is searched holds keys only,
# and not a quarter page of each value.
_SCHEMA = "create table kv (k blob not null unique, v blob not null)"


@attrs.define
class Directory:
    """A folder that is locked against removal, until it is closed."""

    path: Path
    name: str
    """What errors call the store."""
    _fd: int
    _log_fd: int = -1
    _log_lock: Lock = attrs.field(factory=Lock)

    @property
    def data(self) -> Path:
        """The database."""
        return self.path / DATA_NAME

    def free_bytes(self) -> int:
        """What the file system can still give."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def on_disk(self) -> int:
        """Bytes of the blocks that the database and its log have."""
        blocks = 0
        for file in (self.data, self.path / f"{DATA_NAME}-wal"):
            try:
                blocks += file.stat().st_blocks
            except FileNotFoundError:
                pass  # the log comes with the first commit
        return blocks * 512

    def sync_log(self) -> None:
        """Have all that was committed on the disk, by whomever.

        :raises KVFSError: that failed; what was committed may or may not survive a power cut.
        """
        # Stays open: SQLite removes the log with its last connection.  Its bytes are not locked, so
        # opening and closing it lets go of no lock of SQLite's.
        try:
            with self._log_lock:
                if self._log_fd < 0:
                    log = self.path / f"{DATA_NAME}-wal"
                    self._log_fd = os.open(log, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                    os.fsync(self._fd)  # the log's name
            os.fsync(self._log_fd)
        except OSError as error:
            raise from_os(error, self.name, "syncing the log") from error

    def close(self) -> None:
        """Allow its removal.  Idempotent."""
        for fd in (self._log_fd, self._fd):
            if fd >= 0:
                os.close(fd)
        self._log_fd = self._fd = -1


def claim(settings: SQLiteSettings, *, store: str) -> Directory:
    """Make the folder and its database if they are not there; lock them against removal.

    :raises Invalid: the database is not of KVFS, or of a later version.
    :raises Corrupt: it is damaged, or no database.
    :raises PermissionDenied: it cannot be written.
    """
    path, name = _place(settings, store)
    try:
        path.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise from_os(error, name, f"opening {path}") from error
    try:
        if _lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            _prepare(path)
        # Waits only while another process is between these two locks.
        _lock(fd, fcntl.LOCK_SH)
        _check(path, name)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, OSError):
            raise from_os(error, name, f"opening {path / DATA_NAME}") from error
        if (ours := from_sqlite(error, name)) is not None:
            raise ours from error
        raise
    return Directory(path, name, fd)


def remove_store(settings: SQLiteSettings, *, store: str) -> None:
    """Remove a store and its folder; no error if there is none, or if it is not of KVFS.

    :raises Invalid: it is open, here or in another process.
    """
    path, name = _place(settings, store)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os(error, name, f"opening {path}") from error
    try:
        if not _lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise Invalid(f"{name}: it is open, and cannot be removed")
        if _application_id(path) not in (None, APPLICATION_ID):
            return
        # The log first: without it nothing of it can get into a store that is made here later.
        for suffix in ("-wal", "-shm", "-journal", ""):
            (path / f"{DATA_NAME}{suffix}").unlink(missing_ok=True)
        path.rmdir()
    except OSError as error:
        raise from_os(error, name, f"removing {path}") from error
    finally:
        os.close(fd)


def _place(settings: SQLiteSettings, store: str) -> tuple[Path, str]:
    path = settings.path / store
    name = f"sqlite {path}"
    if not store or "/" in store or "\0" in store or store in (".", ".."):
        raise Invalid(f"{name}: {store!r} is not the name of a store")
    return path, name


def _lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _application_id(path: Path) -> int | None:
    """Whose database it says it is; ``None``: there is none, or it is still empty.

    Only where this process does not have it open: closing a file lets go of all the locks that
    SQLite has on it.
    """
    try:
        with (path / DATA_NAME).open("rb") as file:
            header = file.read(_APPLICATION_ID_AT + 4)
    except FileNotFoundError:
        return None
    return int.from_bytes(header[_APPLICATION_ID_AT:], "big") if header else None


def _prepare(path: Path) -> None:
    """Make the database if it is not there.  Nobody else has it open."""
    data = path / DATA_NAME
    # SQLite would not say why it cannot.
    os.close(os.open(data, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
    connection = apsw.Connection(os.fspath(data))
    try:
        if _is_empty(connection):
            connection.pragma("page_size", PAGE_BYTES)
            connection.pragma("auto_vacuum", 2)  # incremental: compact() gives pages back
            with connection:
                connection.execute(_SCHEMA)
                connection.pragma("application_id", APPLICATION_ID)
                connection.pragma("user_version", FORMAT)
            _sync(path, path.parent)
        if connection.pragma("application_id") == APPLICATION_ID:
            connection.pragma("journal_mode", "wal")
    finally:
        connection.close()


def _check(path: Path, name: str) -> None:
    """Is it a database of ours, and of this format?"""
    connection = apsw.Connection(os.fspath(path / DATA_NAME), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        if _is_empty(connection):
            raise Unavailable(f"{name}: another process is setting it up or removing it")
        if connection.pragma("application_id") != APPLICATION_ID:
            raise Invalid(f"{name}: {DATA_NAME} there is not of KVFS: use another path")
        if (version := connection.pragma("user_version")) != FORMAT:
            raise Invalid(f"{name}: it is of format {version}: update the driver")
    finally:
        connection.close()


def _is_empty(connection: apsw.Connection) -> bool:
    (tables,) = connection.execute("select count(*) from sqlite_schema").fetchall()[0]
    return not tables and not connection.pragma("application_id")


def _sync(*directories: Path) -> None:
    """Have the names of new files on the disk."""
    for directory in directories:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
