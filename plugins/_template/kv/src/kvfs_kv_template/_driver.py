"""The engine: the interface over the log and the records."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock

from kvfs.capability import Durability
from kvfs.errors import Closed
from kvfs.kv import Batch, KVDriver, KVStats, ReadView
from kvfs_kv_template._log import Log, decode, encode, remove_log
from kvfs_kv_template._records import Records
from kvfs_kv_template._settings import CAPABILITY, TemplateSettings

_COMPACTED_RECORDS = 1000
"""How many records one batch of a compacted log holds."""


class TemplateView(ReadView):
    """One table of a :class:`TemplateDriver`."""

    def __init__(self, driver: TemplateDriver) -> None:
        self._driver = driver
        self._records: Records | None = driver.records()

    def _open(self) -> Records:
        if self._records is None:
            raise Closed("template: this view is closed")
        return self._records

    def get(self, key: bytes) -> bytes | None:
        return self._open().values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._open().get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._open().scan(start, stop, reverse=reverse, limit=limit)

    def refresh(self) -> None:
        self._open()
        self._records = self._driver.records()

    def close(self) -> None:
        self._records = None


class TemplateDriver(KVDriver):
    """Reads come from memory, commits go to the log first.  Thread-safe."""

    capability = CAPABILITY

    def __init__(self, log: Log) -> None:
        self._log = log
        self._lock = Lock()
        self._records: Records | None = Records.replayed(map(decode, log.replay()))

    def records(self) -> Records:
        """The table of this instant."""
        if self._records is None:
            raise Closed("template: the store is closed")
        return self._records

    def get(self, key: bytes) -> bytes | None:
        return self.records().values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self.records().get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self.records().scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        with self._lock:
            records = self.records()
            records.check(batch)
            if payload := encode(batch):
                # Made first: if memory runs out here, the log does not have it either.
                changed = records.applied(batch)
                self._log.append(payload, sync=durability is Durability.POWER)
                self._records = changed

    def snapshot(self) -> TemplateView:
        return TemplateView(self)

    def stats(self) -> KVStats:
        records = self.records()
        used = sum(map(len, records.values)) + sum(map(len, records.values.values()))
        free = shutil.disk_usage(self._log.path.parent).free
        return KVStats(
            keys=len(records.keys), bytes_used=used, bytes_on_disk=self._log.size, bytes_free=free
        )

    def compact(self) -> None:
        """Write a log of the present records alone, and put it in place of the old one."""
        with self._lock:
            records = self.records().scan(b"", None, reverse=False, limit=None)
            self._log.replace(_payloads(records))

    def close(self) -> None:
        with self._lock:
            self._records = None
            self._log.close()


def _payloads(records: Iterator[tuple[bytes, bytes]]) -> Iterator[bytes]:
    while some := dict(islice(records, _COMPACTED_RECORDS)):
        yield encode(Batch(puts={**some}))


def _path(settings: TemplateSettings, store: str) -> Path:
    return settings.path / f"{store}.log"


def open_store(settings: TemplateSettings, *, store: str, durability: Durability) -> TemplateDriver:
    """Open or make the log of a store; every level of durability is there at every commit."""
    log = Log(_path(settings, store))
    try:
        return TemplateDriver(log)
    except BaseException:
        log.close()
        raise


def remove_store(settings: TemplateSettings, *, store: str) -> None:
    """Remove the log of a store that is not open; no error if there is none."""
    remove_log(_path(settings, store))
