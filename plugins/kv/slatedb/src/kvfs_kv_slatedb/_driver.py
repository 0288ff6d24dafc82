"""The SlateDB engine: :class:`SlateDBDriver` over one open database.

Threads: any.  Reads wait for nobody.  Commits are put in order by one lock, which is held while
guards are looked at and until the batch can be read; it is not held while a batch is uploaded, so
commits of several threads share an upload.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from threading import Lock

from slatedb.uniffi import (
    CloseOptions,
    Db,
    DbIterator,
    DbSnapshot,
    DurabilityLevel,
    FlushOptions,
    FlushType,
    IterationOrder,
    KeyRange,
    ScanOptions,
    WriteBatch,
)

from kvfs.capability import Durability
from kvfs.errors import Closed, Conflict, Invalid, Unavailable
from kvfs.kv import Batch, KVDriver, KVStats, ReadView
from kvfs_kv_slatedb._binding import quicken
from kvfs_kv_slatedb._calls import Calls
from kvfs_kv_slatedb._errors import from_os
from kvfs_kv_slatedb._opening import open_database, remove_database
from kvfs_kv_slatedb._place import Place, place_of
from kvfs_kv_slatedb._settings import SlateDBSettings

_READ_AHEAD_BYTES = 256 << 10
_FETCHES = 4
_PAGE_RECORDS_FIRST = 16
_PAGE_RECORDS_MAX = 1024
_PAGE_BYTES = 256 << 10
"""A scan holds about so much at once, or one record."""

quicken()

_open: set[tuple[str | None, str]] = set()
_open_lock = Lock()


class _Reads:
    """Reading from a database or from a snapshot of it, which have the same methods."""

    def __init__(self, calls: Calls, source: Db | DbSnapshot) -> None:
        self._calls = calls
        self._source = source

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self._calls.call(self._source.get(key))
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._calls.call_all([self._source.get(key) for key in keys])

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """As :meth:`kvfs.kv.driver.Readable.scan`; the instant is that of the call."""
        empty = limit == 0 or (stop is not None and start >= stop)
        bounds = KeyRange(
            start=start or None,
            start_inclusive=True,
            end=None if empty else stop,
            end_inclusive=False,
        )
        options = ScanOptions(
            durability_filter=DurabilityLevel.MEMORY,
            dirty=False,
            read_ahead_bytes=_READ_AHEAD_BYTES,
            cache_blocks=True,
            max_fetch_tasks=_FETCHES,
            order=IterationOrder.DESCENDING if reverse else IterationOrder.ASCENDING,
        )
        # Asked for an empty range too: what is closed has to say so.
        found = self._calls.call(self._source.scan_with_options(bounds, options))
        return iter(()) if empty else self._records(found, limit)

    def _records(self, found: DbIterator, limit: int | None) -> Iterator[tuple[bytes, bytes]]:
        count, left = _PAGE_RECORDS_FIRST, limit
        while left is None or left > 0:
            wanted = count if left is None else min(count, left)
            page = self._calls.call(found.next_batch(wanted))
            yield from ((record.key, record.value) for record in page)
            if len(page) < wanted:
                return
            if left is not None:
                left -= wanted
            mean = sum(len(record.key) + len(record.value) for record in page) // wanted + 1
            count = max(1, min(2 * count, _PAGE_BYTES // mean, _PAGE_RECORDS_MAX))


class SlateDBView(ReadView):
    """A snapshot.  It holds back nothing but the removal of old objects."""

    def __init__(self, make: Callable[[], _Reads], name: str) -> None:
        self._make = make
        self._name = name
        self._reads: _Reads | None = make()

    def _opened(self) -> _Reads:
        if self._reads is None:
            raise Closed(f"{self._name}: this view is closed")
        return self._reads

    def get(self, key: bytes) -> bytes | None:
        return self._opened().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._opened().get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._opened().scan(start, stop, reverse=reverse, limit=limit)

    def refresh(self) -> None:
        self._opened()
        self._reads = self._make()

    def close(self) -> None:
        self._reads = None


class SlateDBDriver(KVDriver):
    """One store, open for writing here and nowhere else.  Thread-safe."""

    def __init__(self, database: Db, place: Place, calls: Calls) -> None:
        self.capability = place.capability
        self._place = place
        self._calls = calls
        self._database = database
        self._reads = _Reads(calls, database)
        self._write_lock = Lock()
        self._closed = False
        self._unflushed = False
        """May the last commit be in memory alone?"""

    def _opened(self) -> Db:
        if self._closed:
            raise Closed(f"{self._place.name}: the store is closed")
        return self._database

    def get(self, key: bytes) -> bytes | None:
        return self._reads.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._opened()
        return self._reads.get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._reads.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        """As :meth:`KVDriver.commit`.

        :raises Unavailable: the object store does not answer.  The batch can be read here, and is
            uploaded when the store answers again, if this process lives so long.
        :raises Closed: another process has opened the store.  Unless it was durable before, the
            batch is not applied.
        """
        database, call = self._opened(), self._calls.call
        if batch.puts:
            self._place.require_room(batch.total_bytes)
        with self._write_lock:
            self._check_guards(batch)
            writes = self._writes(batch)
            if writes is None:
                return
            handle = call(database.write(writes))
            self._unflushed = durability is Durability.MEMORY
        if durability > Durability.MEMORY:
            # Not to wait for flush_interval.
            call(database.flush_with_options(FlushOptions(flush_type=FlushType.WAL)))
            call(handle.await_durable())

    def _check_guards(self, batch: Batch) -> None:
        if not batch.guards:
            return
        found = self._reads.get_many([*batch.guards])
        for (key, expected), value in zip(batch.guards.items(), found, strict=True):
            if value != expected:
                raise Conflict(f"{self._place.name}: the guard on {key.hex()} does not hold")

    def _writes(self, batch: Batch) -> WriteBatch | None:
        """The batch as SlateDB's, in which the last word on a key counts; ``None``: nothing."""
        writes = WriteBatch()
        any_write = False
        for start, stop in batch.range_deletes:
            for key, _ in self._reads.scan(start, stop, reverse=False, limit=None):
                writes.delete(key)
                any_write = True
        for key in batch.deletes:
            writes.delete(key)
        for key, value in batch.puts.items():
            writes.put(key, bytes(value))
        return writes if any_write or batch.deletes or batch.puts else None

    def snapshot(self) -> SlateDBView:
        self._opened()
        return SlateDBView(self._pin, self._place.name)

    def _pin(self) -> _Reads:
        return _Reads(self._calls, self._calls.call(self._database.snapshot()))

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`: what a directory has left; SlateDB counts nothing cheaply."""
        self._opened()
        return KVStats(bytes_free=self._place.bytes_free())

    def compact(self) -> None:
        """Write out what is only in the log as a table.

        Tables are merged, and objects that are out of date removed, in the background.
        """
        self._calls.call(
            self._opened().flush_with_options(FlushOptions(flush_type=FlushType.MEM_TABLE))
        )

    def close(self) -> None:
        """As :meth:`KVDriver.close`.

        :raises Closed: another process has opened the store, and commits that nobody waited for
            are lost.
        :raises Unavailable: the object store does not answer; the same.
        """
        with self._write_lock:
            if self._closed:
                return
            self._closed = True
        try:
            # The log is enough: the next writer reads it back.
            options = CloseOptions(flush_type=FlushType.WAL)
            # Not through what remembers that the store was taken away: there is much to let go of.
            last = Calls(self._calls.name, self._calls.timeout_s)
            last.call(self._database.shutdown_with_options(options))
            if self._place.directory is not None:
                _sync_file_system(self._place)
        except Closed:
            if self._unflushed:
                raise
        finally:
            with _open_lock:
                _open.discard(self._place.identity)


def _sync_file_system(place: Place) -> None:
    """Make all files of a directory survive a power cut; SlateDB does not."""
    assert place.directory is not None
    try:
        descriptor = os.open(place.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise from_os(error, place.name, "flushing the disk") from error


def open_store(settings: SlateDBSettings, *, store: str, durability: Durability) -> SlateDBDriver:
    """Open the store, or make it.

    Every level that the place has is there at every commit, whatever ``durability`` says.

    :param store: a folder below ``settings.url``.
    :raises KVFSError: see :func:`kvfs_kv_slatedb._opening.open_database`.
    :raises Unavailable: the store is open in this process.
    """
    place = place_of(settings, store)
    with _open_lock:
        if place.identity in _open and place.capability.persistent:
            raise Unavailable(f"{place.name}: is open in this process: close it there first")
        _open.add(place.identity)
    calls = Calls(place.name, settings.timeout)
    try:
        return SlateDBDriver(open_database(settings, place, calls), place, calls)
    except BaseException:
        with _open_lock:
            _open.discard(place.identity)
        raise


def remove_store(settings: SlateDBSettings, *, store: str) -> None:
    """Remove every object of the store; no error if there is none.

    :raises Invalid: it is open in this process; of others nothing is known.
    """
    place = place_of(settings, store)
    with _open_lock:
        if place.identity in _open and place.capability.persistent:
            raise Invalid(f"{place.name}: is open, and cannot be removed: close it first")
    remove_database(place, Calls(place.name, settings.timeout))
