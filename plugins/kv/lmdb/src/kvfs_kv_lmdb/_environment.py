"""One LMDB environment on disk, opened once in this process however many drivers use it.

LMDB forbids opening an environment twice in one process (its file locks belong to the process), so
drivers of the same store share one :class:`Environment`, counted.

Beside ``data.mdb`` lies ``kvfs-lmdb.json``: with which LMDB version the store was made, and how it
is being written.  One process that does not sync makes the commits of all others unsafe, so every
process that has the store open holds a shared ``flock`` on its directory, and the way of writing
changes only under an exclusive one.

Writing never goes through the map (``MDB_WRITEMAP``), although that is LMDB's advice for speed.  It
was measured to gain nothing in bulk (README.md); a full disk would be a SIGBUS, which allocating
ahead can only avoid by refusing batches that would fit into free pages; and LMDB 1.0.2 aborts the
process in ``mdb_freelist_save`` when a batch empties a store of which a reader is open.  Unsynced
writes to the page cache survive a killed process all the same.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

import attrs
import lmdb

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Conflict, Corrupt, Exhausted, Invalid, Unavailable
from kvfs.kv import Batch
from kvfs_kv_lmdb._ballast import NAME as BALLAST_NAME
from kvfs_kv_lmdb._ballast import Ballast
from kvfs_kv_lmdb._commit import apply
from kvfs_kv_lmdb._errors import from_lmdb, from_os
from kvfs_kv_lmdb._resident import Resident
from kvfs_kv_lmdb._settings import LMDBSettings, capability_of

RECORD_NAME = "kvfs-lmdb.json"
ENGINES = {"0.9": 0, "1.0": 1}
"""LMDB versions by the name in the settings, with py-lmdb's ``lib_version``."""


_FULL_BYTES = 16 << 20
"""A file system with less room than this is full: some keep the last blocks to themselves, as ext4
does with up to 4096, and what could not be written whole may be many pages."""


@attrs.frozen(kw_only=True)
class Record:
    """What ``kvfs-lmdb.json`` holds."""

    format: int = 1
    lib_version: str
    durability: str
    """``power``: each commit is synced.  ``process``: none is."""

    @classmethod
    def read(cls, directory: Path, name: str) -> Record | None:
        """The record in ``directory``, or ``None`` if there is none.

        :raises Corrupt: it is not a record.
        :raises Invalid: a later version of this driver wrote it.
        """
        path = directory / RECORD_NAME
        try:
            table = json.loads(path.read_bytes())
            if table["format"] > 1:
                raise Invalid(f"{name}: {path} is of format {table['format']}: update the driver")
            return cls(lib_version=table["lib_version"], durability=table["durability"])
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os(error, name, f"reading {path}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{name}: {path} is damaged: {error!r}") from error

    def write(self, directory: Path) -> None:
        """Replace the record in ``directory``, durably."""
        path = directory / RECORD_NAME
        draft = path.with_suffix(".tmp")
        with draft.open("w") as file:
            json.dump(attrs.asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)


def _lock(directory_fd: int, how: int) -> bool:
    try:
        fcntl.flock(directory_fd, how)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _claim(directory: Path, directory_fd: int, wanted: Record, name: str) -> None:
    """Leave a shared lock on the directory, and a record there that agrees with ``wanted``."""
    if _lock(directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
        found = Record.read(directory, name)
        if found is None and (directory / "data.mdb").exists():
            raise Invalid(f"{name}: {directory} holds an LMDB environment that is not of KVFS")
        if found is None or (found.lib_version == wanted.lib_version and found != wanted):
            wanted.write(directory)
        _lock(directory_fd, fcntl.LOCK_SH)
    else:
        # Blocks only while another process is between the two locks above.
        _lock(directory_fd, fcntl.LOCK_SH)
    found = Record.read(directory, name)
    if found is None:
        raise Unavailable(f"{name}: {directory} is being set up by another process")
    if found.lib_version != wanted.lib_version:
        raise Invalid(
            f"{name}: {directory} was made with LMDB {found.lib_version}, the settings say "
            f'{wanted.lib_version}: set lib_version = "{found.lib_version}", or use another path'
        )
    if found.durability != wanted.durability:
        raise Invalid(
            f"{name}: {directory} is open elsewhere with durability {found.durability}, and cannot "
            f"be opened with {wanted.durability} beside it"
        )


@attrs.define(eq=False)
class Environment:
    """An open environment, what guards it, and how many drivers use it."""

    directory: Path
    name: str
    durability: Durability
    capability: KVCapability
    env: lmdb.Environment
    ballast: Ballast
    resident: Resident | None
    page_bytes: int
    _directory_fd: int
    _write_lock: Lock = attrs.field(factory=Lock)
    _dirty: bool = False
    users: int = 1

    def commit(self, batch: Batch) -> None:
        """Apply ``batch`` in one transaction.

        :raises Conflict: a guard does not hold.
        :raises Exhausted: disk, map or transaction are full.
        """
        with self._write_lock:
            try:
                try:
                    self._apply(batch)
                except Exhausted:
                    if batch.puts or not self.ballast.drop():
                        raise
                    self._apply(batch)
            except Conflict as error:
                raise Conflict(f"{self.name}: {error}") from None
            self.check()

    def _apply(self, batch: Batch) -> None:
        try:
            with self.env.begin(write=True) as txn:
                if batch.puts:
                    self.ballast.fill(self.bytes_end())
                apply(txn, batch, check=self.check)
                self._dirty = True
        except lmdb.Error as error:
            # LMDB makes EIO of a write that was cut short, which is how a disk fills up.
            if error.code == errno.EIO and self.free_on_disk() < _FULL_BYTES:
                message = f"{self.name}: no space left on the device ({error})"
                raise Exhausted(message) from error
            raise from_lmdb(error, self.name) from error

    def bytes_end(self) -> int:
        """Where the pages that were ever used end, as of the last commit."""
        return (self.env.info()["last_pgno"] + 1) * self.page_bytes

    def check(self) -> None:
        """Bound the resident memory."""
        if self.resident is not None:
            self.resident.check()

    def close(self) -> None:
        """Flush what was committed here, and let go of everything."""
        with self._write_lock:
            try:
                if self._dirty and self.durability < Durability.POWER:
                    self.env.sync(True)
            except lmdb.Error as error:
                raise from_lmdb(error, self.name) from error
            finally:
                if self.resident is not None:
                    self.resident.stop()
                self.env.close()
                self.ballast.close()
                os.close(self._directory_fd)

    def on_disk(self) -> int:
        """Bytes of the blocks that the data file has."""
        return (self.directory / "data.mdb").stat().st_blocks * 512

    def free_on_disk(self) -> int:
        """Bytes that the file system can still give."""
        disk = os.statvfs(self.directory)
        return disk.f_bavail * disk.f_frsize


_open: dict[tuple[int, int], Environment] = {}
_open_lock = Lock()


def acquire(settings: LMDBSettings, *, store: str, durability: Durability) -> Environment:
    """The environment of ``store`` below ``settings.path``, made if it is not there.

    :param durability: POWER syncs each commit; less does not sync.
    :raises Invalid: the settings do not fit what is on disk, or how it is open already.
    :raises PermissionDenied: the directory cannot be written.
    :raises Corrupt: the files are damaged.
    """
    directory, name = _place(settings, store)
    level = Durability.POWER if durability is Durability.POWER else Durability.PROCESS
    if settings.lib_version not in ENGINES:
        known = " or ".join(ENGINES)
        raise Invalid(f"{name}: lib_version {settings.lib_version!r} is not {known}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        identity = directory.stat()
    except OSError as error:
        raise from_os(error, name, f"making the directory {error.filename}") from error
    with _open_lock:
        present = _open.get((identity.st_dev, identity.st_ino))
        if present is not None:
            if present.durability is not level:
                raise Invalid(
                    f"{name}: is open in this process with durability "
                    f"{present.durability.name.lower()}, and cannot be opened with "
                    f"{level.name.lower()} beside it"
                )
            present.users += 1
            return present
        opened = _open_new(directory, settings, level, name)
        _open[identity.st_dev, identity.st_ino] = opened
        return opened


def release(environment: Environment) -> None:
    """One user less; the last one closes the environment."""
    with _open_lock:
        environment.users -= 1
        if environment.users:
            return
        for key, value in _open.items():
            if value is environment:
                del _open[key]
                break
        environment.close()


def remove(settings: LMDBSettings, *, store: str) -> None:
    """Remove the files of a store, the record last, and its directory.

    :raises Invalid: it is open, here or in another process.
    """
    directory, name = _place(settings, store)
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os(error, name, f"opening {directory}") from error
    try:
        if not _lock(directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB):
            raise Invalid(f"{name}: {directory} is open, and cannot be removed")
        if Record.read(directory, name) is not None:
            for file in ("data.mdb", "lock.mdb", BALLAST_NAME, RECORD_NAME):
                (directory / file).unlink(missing_ok=True)
            directory.rmdir()
    except OSError as error:
        raise from_os(error, name, f"removing {directory}") from error
    finally:
        os.close(directory_fd)


def _place(settings: LMDBSettings, store: str) -> tuple[Path, str]:
    """The directory of a store, and what to call it."""
    directory = settings.path / store
    name = f"lmdb {directory}"
    if not store or "/" in store or "\0" in store or store in (".", ".."):
        raise Invalid(f"{name}: {store!r} is not the name of a store")
    return directory, name


def _open_new(directory: Path, settings: LMDBSettings, level: Durability, name: str) -> Environment:
    directory_fd = -1
    try:
        directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        record = Record(lib_version=settings.lib_version, durability=level.name.lower())
        _claim(directory, directory_fd, record, name)
        environment = _open_lmdb(directory, directory_fd, settings, level, name)
        directory_fd = -1
        return environment
    except OSError as error:
        raise from_os(error, name, f"opening {directory}") from error
    except OverflowError as error:
        raise Invalid(f"{name}: map_size or max_readers is out of range: {error}") from error
    finally:
        if directory_fd >= 0:
            os.close(directory_fd)


def _open_lmdb(
    directory: Path, directory_fd: int, settings: LMDBSettings, level: Durability, name: str
) -> Environment:
    synced = level is Durability.POWER
    with ExitStack() as undo:
        try:
            env = lmdb.open(
                os.fspath(directory),
                map_size=settings.map_size,
                max_readers=settings.max_readers,
                max_spare_txns=1,
                sync=synced,
                metasync=synced,
                lib_version=ENGINES[settings.lib_version],
            )
            undo.callback(env.close)
            # Readers that were killed would hold back the reuse of pages for ever.
            env.reader_check()
            if synced:
                # It may have been written unsynced until now.
                env.sync(True)
        except lmdb.Error as error:
            raise from_lmdb(error, name) from error
        ballast = Ballast.open(directory)
        undo.callback(ballast.close)
        data = directory / "data.mdb"
        environment = Environment(
            directory=directory,
            name=name,
            durability=level,
            capability=capability_of(settings.lib_version, level),
            env=env,
            ballast=ballast,
            resident=Resident.watch(data.resolve(), bytes_max=settings.resident_bytes_max),
            page_bytes=env.stat()["psize"],
            directory_fd=directory_fd,
        )
        undo.pop_all()
        return environment
