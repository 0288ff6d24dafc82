"""The RocksDB engine: :class:`RocksDBDriver` over one open database.

Threads: any.  Commits of one store are made one after another, since guards are looked at before a
batch is written; readers wait for nobody.  Several commits that wait for the disk wait together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any
from weakref import WeakSet

import attrs
from rocksdict import Rdict, WriteBatch, WriteOptions

from kvfs.capability import Durability
from kvfs.errors import Conflict, Exhausted, Unsupported
from kvfs.kv import Batch, KVDriver, KVStats
from kvfs.kv.calls import Calls
from kvfs_kv_rocksdb._cursor import Cursor
from kvfs_kv_rocksdb._directory import Directory, claim
from kvfs_kv_rocksdb._errors import from_rocksdb
from kvfs_kv_rocksdb._options import check, options_of
from kvfs_kv_rocksdb._settings import CAPABILITY, RocksDBSettings
from kvfs_kv_rocksdb._view import RocksDBView

_WRITES_PER_BYTE = 2
"""A batch takes disk in the log, and again in the table that it is written out to."""


class RocksDBDriver(KVDriver):
    """One store.  Thread-safe."""

    def __init__(
        self, db: Any, directory: Directory, *, durability: Durability, reserve_bytes: int
    ) -> None:
        """
        :param db: a ``rocksdict.Rdict`` in raw mode.
        :param durability: MEMORY: there is no log.
        :param reserve_bytes: puts end when the disk has less.
        """
        logged = durability > Durability.MEMORY
        self.capability = CAPABILITY if logged else attrs.evolve(CAPABILITY, durability=durability)
        self._db = db
        self._get: Callable[[bytes], bytes | None] = db.get
        self._directory = directory
        self._name = directory.name
        self._reserve_bytes = reserve_bytes
        self._write_options = write_options = WriteOptions()
        write_options.disable_wal = not logged  # type: ignore[method-assign, assignment]
        self._write_lock = Lock()
        self._calls = Calls(directory.name, from_rocksdb)
        self._readers: WeakSet[Cursor | RocksDBView] = WeakSet()

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._get(key)
        except Exception as error:
            if (ours := from_rocksdb(error, self._name)) is None:
                raise
            raise ours from error

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        # Without the interpreter lock, and reading several blocks at once.
        with self._calls:
            found: list[bytes | None] = self._db.get([*keys])
            return found

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._calls:
            cursor = Cursor(self._db.iter(), self._calls, name=self._name)
            self._readers.add(cursor)
            return cursor.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        """As :meth:`KVDriver.commit`.

        :raises Exhausted: also while puts would leave less than the reserve of the disk.
        """
        if durability > self.capability.durability:
            raise Unsupported(
                f"{self._name}: commit: durability {durability.name.lower()} (the store was opened "
                "for memory, without a log)"
            )
        with self._calls:
            written = _batch(batch)
            with self._write_lock:
                self._check_guards(batch)
                if batch.puts:
                    self._check_room(batch)
                if len(written):
                    self._db.write(written, self._write_options)
            if durability is Durability.POWER:
                # Rather than in write(), which would hold the interpreter lock.
                self._db.flush_wal(True)

    def _check_guards(self, batch: Batch) -> None:
        get = self._db.get
        for key, expected in batch.guards.items():
            if get(key) != expected:
                raise Conflict(f"{self._name}: the guard on {key.hex()} does not hold")

    def _check_room(self, batch: Batch) -> None:
        """A RocksDB that runs into a full disk refuses every write from then on."""
        free = self._directory.free_bytes() - _WRITES_PER_BYTE * batch.total_bytes
        if free < self._reserve_bytes:
            raise Exhausted(
                f"{self._name}: no space left on the device but disk_reserve_bytes "
                f"({self._reserve_bytes}): make room, or delete records and compact"
            )

    def snapshot(self) -> RocksDBView:
        with self._calls:
            view = RocksDBView(self._db, self._calls, name=self._name)
            self._readers.add(view)
            return view

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`.

        The number of keys is not known.  Used is what RocksDB takes for live, compressed.
        """
        with self._calls:
            number = self._db.property_int_value
            buffers = number("rocksdb.cur-size-all-mem-tables")
            live_blobs = number("rocksdb.live-blob-file-size")
            return KVStats(
                bytes_used=buffers
                + number("rocksdb.estimate-live-data-size")
                + live_blobs
                - min(number("rocksdb.live-blob-file-garbage-size"), live_blobs),
                # The log holds what the buffers do.
                bytes_on_disk=buffers
                + number("rocksdb.total-sst-files-size")
                + number("rocksdb.total-blob-file-size"),
                bytes_free=max(self._directory.free_bytes() - self._reserve_bytes, 0),
            )

    def compact(self) -> None:
        """Write buffers out and merge everything: afterwards little garbage is left.

        Reads and writes go on beside it; :meth:`close` waits for it.
        """
        with self._calls:
            self._db.flush(True)
            self._db.compact_range(None, None)

    def close(self) -> None:
        if not self._calls.end():
            return
        # The database stays open, and locked, while an iterator or a snapshot is left.
        for reader in list(self._readers):
            reader.close()
        try:
            # Syncs the log and writes the buffers out, which is how unlogged commits survive.
            self._db.close()
        except Exception as error:
            if (ours := from_rocksdb(error, self._name)) is None:
                raise
            raise ours from error
        finally:
            self._directory.close()


def _batch(batch: Batch) -> WriteBatch:
    """What is to be written, in the order that a batch promises."""
    written = WriteBatch(raw_mode=True)
    for start, stop in batch.range_deletes:
        if start < stop:  # RocksDB refuses empty ranges
            written.delete_range(start, stop)
    for key in batch.deletes:
        written.delete(key)
    for key, value in batch.puts.items():
        written.put(key, value if type(value) is bytes else bytes(value))
    return written


def open_store(settings: RocksDBSettings, *, store: str, durability: Durability) -> RocksDBDriver:
    """Open the store, or make it.

    :param store: a folder below ``settings.path``.
    :param durability: MEMORY: there is no log; what was not written out when the process dies is
        lost.  Else each commit is logged, and waits for the disk if it asks for POWER.
    :raises KVFSError: see :func:`kvfs_kv_rocksdb._directory.claim`.
    """
    check(settings)
    directory = claim(settings, store=store)
    try:
        db = Rdict(os.fspath(directory.path), options_of(settings))
    except Exception as error:
        directory.close()
        if (ours := from_rocksdb(error, directory.name)) is None:
            raise
        raise ours from error
    return RocksDBDriver(
        db, directory, durability=durability, reserve_bytes=settings.disk_reserve_bytes
    )
