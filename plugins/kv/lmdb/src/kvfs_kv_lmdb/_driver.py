"""The LMDB engine: :class:`LMDBDriver` over a shared environment.

Threads: any.  LMDB has one writer at a time over all threads and processes, and readers that wait
for nobody; a write transaction begins and ends in the call that made it, as it belongs to a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NoReturn
from weakref import WeakSet

import lmdb

from kvfs.capability import Durability
from kvfs.errors import Closed, Unsupported
from kvfs.kv import Batch, KVDriver, KVStats
from kvfs_kv_lmdb._environment import Environment, acquire, release, remove
from kvfs_kv_lmdb._errors import from_lmdb
from kvfs_kv_lmdb._resident import READS_PER_CHECK
from kvfs_kv_lmdb._settings import LMDBSettings
from kvfs_kv_lmdb._view import LMDBView, place

_META_PAGES = 2


class LMDBDriver(KVDriver):
    """One store.  Thread-safe; several drivers of one store in a process share it."""

    def __init__(self, environment: Environment) -> None:
        self.capability = environment.capability
        self._name = environment.name
        self._environment: Environment | None = environment
        self._begin: Any = environment.env.begin
        self._views: WeakSet[LMDBView] = WeakSet()
        self._left = READS_PER_CHECK

    def _refuse(self, *args: object, **options: object) -> NoReturn:
        raise Closed(f"{self._name}: the store is closed")

    def _open(self) -> Environment:
        if self._environment is None:
            self._refuse()
        return self._environment

    def _check(self) -> None:
        environment = self._environment
        if environment is not None:
            environment.check()

    def _count(self, reads: int) -> None:
        self._left -= reads
        if self._left < 0:
            self._left = READS_PER_CHECK
            self._check()

    def get(self, key: bytes) -> bytes | None:
        self._count(1)
        try:
            # Collecting the transaction ends it, which is quicker than a with statement.
            value: bytes | None = self._begin().get(key)
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error
        return value

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self._count(len(keys))
        try:
            get = self._begin().get
            return [*map(get, keys)]
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            txn = self._begin()
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error
        records = self._records(txn, start, stop, reverse)
        return records if limit is None else islice(records, limit)

    def _records(
        self, txn: lmdb.Transaction[bytes], start: bytes, stop: bytes | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        try:
            for record in place(txn.cursor(), start, stop, reverse=reverse):
                self._count(1)
                key = record[0]
                if key < start if reverse else stop is not None and key >= stop:
                    return
                yield record
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error
        finally:
            txn.abort()

    def commit(self, batch: Batch, durability: Durability) -> None:
        environment = self._open()
        if durability > environment.durability:
            raise Unsupported(
                f"{self._name}: commit: durability {durability.name.lower()} (the store was opened "
                f"for {environment.durability.name.lower()})"
            )
        environment.commit(batch)

    def snapshot(self) -> LMDBView:
        self._open()
        view = LMDBView(self._begin, name=self._name, check=self._check)
        self._views.add(view)
        return view

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`.  Free is what disk and map still give, and pages to reuse."""
        environment = self._open()
        try:
            stat = environment.env.stat()
            info = environment.env.info()
        except lmdb.Error as error:
            raise from_lmdb(error, self._name) from error
        page = environment.page_bytes
        pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        end = (info["last_pgno"] + 1) * page
        return KVStats(
            keys=stat["entries"],
            bytes_used=pages * page,
            bytes_on_disk=environment.on_disk(),
            bytes_free=min(info["map_size"] - end, environment.free_on_disk())
            + max(end - (pages + _META_PAGES) * page, 0),
        )

    def compact(self) -> None:
        """Do nothing.

        LMDB reuses the pages of deleted records at once, but does not move records while the store
        is open: the file keeps the size of its fullest time.  ``mdb_copy -c`` makes a compact copy.
        """
        self._open()

    def close(self) -> None:
        environment = self._environment
        if environment is None:
            return
        self._environment = None
        self._begin = self._refuse
        for view in list(self._views):
            view.forget()
        release(environment)


def open_store(settings: LMDBSettings, *, store: str, durability: Durability) -> LMDBDriver:
    """Open the store, or make it.

    :param store: a folder below ``settings.path``.
    :param durability: POWER: each commit is synced.  Less: commits survive a killed process, and
        are several times faster.
    :raises KVFSError: see :func:`kvfs_kv_lmdb._environment.acquire`.
    """
    return LMDBDriver(acquire(settings, store=store, durability=durability))


def remove_store(settings: LMDBSettings, *, store: str) -> None:
    """Remove the store's files and its folder; no error if there is none.

    :raises Invalid: it is open, here or in another process.
    """
    remove(settings, store=store)
