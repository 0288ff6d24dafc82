"""Reading at one instant: a revision of etcd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvfs.errors import Closed
from kvfs.kv import ReadView
from kvfs_kv_etcd._reading import Instant, Reader, Record


class EtcdView(ReadView):
    """One revision.  It holds back compaction by this process, not by others or by the servers:
    once these have compacted it, reads raise :class:`~kvfs.errors.Stale` until it is refreshed.
    """

    def __init__(self, reader: Reader, *, name: str) -> None:
        self._reader = reader
        self._name = name
        self._instant: Instant | None = reader.now()

    def _open(self) -> Instant:
        if self._instant is None:
            raise Closed(f"{self._name}: this view is closed")
        return self._instant

    def get(self, key: bytes) -> bytes | None:
        return self._reader.get(key, self._open())

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._reader.get_many(keys, self._open())

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Record]:
        return self._reader.scan(start, stop, reverse=reverse, limit=limit, at=self._open())

    def refresh(self) -> None:
        self._open()
        self._instant = self._reader.now()

    def close(self) -> None:
        self._instant = None
