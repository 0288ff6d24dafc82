"""Drivers that pass every call on to another driver; a layer overrides what it changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.capability import Durability
from kvfs.kv.driver import Batch, Buffer, KVDriver, KVStats, ReadView, Watch


class ViewLayer(ReadView):
    """A view that passes every call on."""

    def __init__(self, inner: ReadView) -> None:
        self.inner = inner

    def get(self, key: bytes) -> Buffer | None:
        return self.inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        return self.inner.get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Buffer, Buffer]]:
        return self.inner.scan(start, stop, reverse=reverse, limit=limit)

    def refresh(self) -> None:
        self.inner.refresh()

    def close(self) -> None:
        self.inner.close()


class KVLayer(KVDriver):
    """An engine that passes every call on."""

    def __init__(self, inner: KVDriver) -> None:
        self.inner = inner
        self.capability = inner.capability

    def get(self, key: bytes) -> bytes | None:
        return self.inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return self.inner.get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self.inner.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.inner.commit(batch, durability)

    def snapshot(self) -> ReadView:
        return self.inner.snapshot()

    def watch(self, start: bytes, stop: bytes | None) -> Watch:
        return self.inner.watch(start, stop)

    def stats(self) -> KVStats:
        return self.inner.stats()

    def compact(self) -> None:
        self.inner.compact()

    def close(self) -> None:
        self.inner.close()


class BackingLayer(BackingDriver):
    """A store of objects that passes every call on."""

    def __init__(self, inner: BackingDriver) -> None:
        self.inner = inner
        self.capability = inner.capability

    def stat(self, name: str) -> ObjectInfo:
        return self.inner.stat(name)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        return self.inner.list(prefix, after=after)

    def read(self, name: str, start: int, stop: int) -> bytes:
        return self.inner.read(name, start, stop)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        return self.inner.open_reader(name, start)

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        return self.inner.open_writer(name, if_absent=if_absent, if_match=if_match)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self.inner.delete(name, if_match=if_match)

    def free_space(self) -> int | None:
        return self.inner.free_space()

    def close(self) -> None:
        self.inner.close()
