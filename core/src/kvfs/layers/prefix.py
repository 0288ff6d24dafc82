"""The layer ``prefix``: a part of a store, as if it were all of it.

Several volumes may live in one engine or one bucket, each under its own prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import BinaryIO

import attrs

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.capability import BackingCapability, Durability, KVCapability
from kvfs.config import setting
from kvfs.errors import Invalid
from kvfs.kv.driver import Batch, Buffer, KVDriver, KVStats, ReadView, Watch
from kvfs.kv.store import KVStore, prefix_end
from kvfs.layers.passing import BackingLayer, KVLayer, ViewLayer


@attrs.frozen
class PrefixSettings:
    """Where in the store the part is."""

    prefix: str = setting(help="what every key or object name begins with, as 'team-a/'")

    def __attrs_post_init__(self) -> None:
        if not self.prefix:
            raise Invalid("the layer prefix needs a prefix that is not empty")


def kv_capability(capability: KVCapability, settings: PrefixSettings) -> KVCapability:
    """Keys are shorter by the prefix; so is a batch, by that of every operation in it."""
    length = len(settings.prefix.encode())
    key_bytes_max = capability.key_bytes_max - length
    if key_bytes_max < 1:
        raise Invalid(f"a prefix of {length} bytes leaves no room for keys")
    batch_bytes_max = capability.batch_bytes_max
    if batch_bytes_max is not None:
        batch_bytes_max -= length * (capability.batch_ops_max or 1)
    return attrs.evolve(capability, key_bytes_max=key_bytes_max, batch_bytes_max=batch_bytes_max)


def backing_capability(
    capability: BackingCapability, settings: PrefixSettings
) -> BackingCapability:
    """Names are shorter by the prefix."""
    name_bytes_max = capability.name_bytes_max - len(settings.prefix.encode())
    if name_bytes_max < 1:
        raise Invalid(f"the prefix {settings.prefix!r} leaves no room for names")
    return attrs.evolve(capability, name_bytes_max=name_bytes_max)


@attrs.frozen
class _Keys:
    """Keys as the engine has them, and back."""

    prefix: bytes

    def bounds(self, start: bytes, stop: bytes | None) -> tuple[bytes, bytes | None]:
        return self.prefix + start, prefix_end(self.prefix) if stop is None else self.prefix + stop


class _PrefixView(ViewLayer):
    def __init__(self, inner: ReadView, keys: _Keys) -> None:
        super().__init__(inner)
        self._keys = keys

    def get(self, key: bytes) -> Buffer | None:
        return self.inner.get(self._keys.prefix + key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        return self.inner.get_many([self._keys.prefix + key for key in keys])

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Buffer, Buffer]]:
        bounds, length = self._keys.bounds(start, stop), len(self._keys.prefix)
        records = self.inner.scan(*bounds, reverse=reverse, limit=limit)
        return ((key[length:], value) for key, value in records)


class _PrefixWatch(Watch):
    def __init__(self, inner: Watch, keys: _Keys) -> None:
        self._inner = inner
        self._length = len(keys.prefix)

    def wait(self, timeout_s: float | None = None) -> Sequence[bytes]:
        return [key[self._length :] for key in self._inner.wait(timeout_s)]

    def close(self) -> None:
        self._inner.close()


class PrefixKV(KVLayer):
    """The records of an engine whose keys begin with a prefix, without it.

    :meth:`stats` tells nothing about the records: the engine counts those of others too.
    """

    def __init__(self, inner: KVDriver, settings: PrefixSettings) -> None:
        super().__init__(inner)
        self.capability = kv_capability(inner.capability, settings)
        self._keys = _Keys(settings.prefix.encode())
        # A batch of many short records can outgrow the engine's limit by the prefixes alone: the
        # engine's own portable type refuses it then.
        self._checked = KVStore(inner, name=f"prefix {settings.prefix!r}")

    def get(self, key: bytes) -> bytes | None:
        return self.inner.get(self._keys.prefix + key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return self.inner.get_many([self._keys.prefix + key for key in keys])

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        bounds, length = self._keys.bounds(start, stop), len(self._keys.prefix)
        records = self.inner.scan(*bounds, reverse=reverse, limit=limit)
        return ((key[length:], value) for key, value in records)

    def commit(self, batch: Batch, durability: Durability) -> None:
        prefix = self._keys.prefix
        moved = Batch(
            guards={prefix + key: value for key, value in batch.guards.items()},
            range_deletes=[(prefix + start, prefix + stop) for start, stop in batch.range_deletes],
            deletes={prefix + key for key in batch.deletes},
            puts={prefix + key: value for key, value in batch.puts.items()},
        )
        self._checked.commit(moved, durability)

    def snapshot(self) -> ReadView:
        return _PrefixView(self.inner.snapshot(), self._keys)

    def watch(self, start: bytes, stop: bytes | None) -> Watch:
        return _PrefixWatch(self.inner.watch(*self._keys.bounds(start, stop)), self._keys)

    def stats(self) -> KVStats:
        return attrs.evolve(self.inner.stats(), keys=None, bytes_used=None)


class PrefixBacking(BackingLayer):
    """The objects of a store whose names begin with a prefix, without it."""

    def __init__(self, inner: BackingDriver, settings: PrefixSettings) -> None:
        super().__init__(inner)
        self._prefix = settings.prefix
        parts = self._prefix.removesuffix("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in self._prefix:
            raise Invalid(f"the prefix {self._prefix!r} cannot begin an object's name")
        self.capability = backing_capability(inner.capability, settings)

    def _strip(self, info: ObjectInfo) -> ObjectInfo:
        return attrs.evolve(info, name=info.name[len(self._prefix) :])

    def stat(self, name: str) -> ObjectInfo:
        return self._strip(self.inner.stat(self._prefix + name))

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        floor = None if after is None else self._prefix + after
        return map(self._strip, self.inner.list(self._prefix + prefix, after=floor))

    def read(self, name: str, start: int, stop: int) -> bytes:
        return self.inner.read(self._prefix + name, start, stop)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        return self.inner.open_reader(self._prefix + name, start)

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        return self.inner.open_writer(self._prefix + name, if_absent=if_absent, if_match=if_match)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self.inner.delete(self._prefix + name, if_match=if_match)
