"""Volumes over stores that a test holds in its hands.

The memory drivers forget everything when they are closed, as they should.  :class:`Stores` keeps
them, so that a volume can be closed and opened again, by several at once if need be, and so that a
test can put a layer (:mod:`kvfs.layers`) around any of them::

    stores = Stores()
    stores.backing.write("a.tar", data)
    with stores.volume() as volume:
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from kvfs.backing import BackingStore
from kvfs.backing.driver import BackingDriver
from kvfs.backing.memory import DRIVER as MEMORY_BACKING
from kvfs.backing.memory import MemoryDriver as MemoryBacking
from kvfs.backing.memory import MemorySettings as MemoryBackingSettings
from kvfs.capability import Durability, KVCapability
from kvfs.files.records import HASH_BITS
from kvfs.kv.driver import KVDriver
from kvfs.kv.memory import CAPABILITY, MemorySettings
from kvfs.kv.memory import DRIVER as MEMORY_KV
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.layers.passing import BackingLayer, KVLayer
from kvfs.registry import DriverInfo
from kvfs.volume import Choice, Volume, VolumeConfig, from_tables

TINY = KVCapability(
    durability=Durability.MEMORY,
    key_bytes_max=511,
    value_bytes_max=1 << 20,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    persistent=False,
    batch_ops_max=32,
    inline_bytes_best=64,
    extent_bytes_best=128,
    commit_bytes_best=600,
)
"""An engine of which everything takes many batches and extents, for ``Stores(capability=...)``."""


class _KeptKV(KVLayer):
    """An engine that outlives those who close it."""

    def close(self) -> None:
        pass


class _KeptBacking(BackingLayer):
    """A store of objects that outlives those who close it."""

    def close(self) -> None:
        pass


@attrs.frozen(kw_only=True)
class _Info(DriverInfo):
    """Names a driver that is open already."""

    opened: Callable[..., Any]
    removed: Callable[[str], None] = attrs.field(default=lambda store: None)

    def load(self) -> Callable[..., Any]:
        return self.opened

    def remove_store(self, settings: Any, *, store: str) -> None:
        self.removed(store)


def _as_it_is(driver: Any, store: str = "") -> Any:
    return driver


@attrs.define(kw_only=True)
class Stores:
    """The stores of one volume, in memory.

    :param capability: of the engine: smaller batches, inline contents and extents make more of
        everything happen with less data.
    :param around_kv: puts a layer around a store of the engine each time that it is opened; it is
        given the driver and the name of the store.
    :param around_backing: the same for the store of objects.
    """

    capability: KVCapability = CAPABILITY
    around_kv: Callable[[KVDriver, str], KVDriver] = _as_it_is
    around_backing: Callable[[BackingDriver], BackingDriver] = _as_it_is
    kv: dict[str, MemoryKV] = attrs.field(factory=dict, init=False)
    """The stores of the engine by name, as they were opened."""
    objects: MemoryBacking = attrs.field(factory=MemoryBacking, init=False)
    backing: BackingStore = attrs.field(init=False)
    """What the tests fill; no layer is around it."""

    def __attrs_post_init__(self) -> None:
        self.backing = BackingStore(self.objects, name="memory")

    def _open_kv(self, settings: Any, *, store: str, durability: Durability) -> KVDriver:
        if store not in self.kv:
            self.kv[store] = MemoryKV()
            self.kv[store].capability = self.capability
        return self.around_kv(_KeptKV(self.kv[store]), store)

    def _open_backing(self, settings: Any) -> BackingDriver:
        return self.around_backing(_KeptBacking(self.objects))

    def _remove(self, store: str) -> None:
        self.kv.pop(store, None)

    def config(self, tables: Mapping[str, Any] | None = None) -> VolumeConfig:
        """A configuration of a volume over these stores.

        :param tables: further tables, as ``{"ingest": {"workers": 1}}``.
        """
        memory = {"kv": {"driver": "memory"}, "backing": {"driver": "memory"}}
        config = from_tables(memory | dict(tables or {}), where="a test")
        info = _Info(
            **{field: getattr(MEMORY_KV, field) for field in _FIELDS} | {"capability": CAPABILITY},
            opened=self._open_kv,
            removed=self._remove,
        )
        backing = _Info(
            **{field: getattr(MEMORY_BACKING, field) for field in _FIELDS},
            opened=self._open_backing,
        )
        return attrs.evolve(
            config,
            kv=Choice(info, MemorySettings()),
            backing=Choice(backing, MemoryBackingSettings()),
        )

    def volume(
        self,
        tables: Mapping[str, Any] | None = None,
        *,
        hash_bits: int = HASH_BITS,
        refresh: bool = True,
    ) -> Volume:
        """A volume over these stores, its namespace brought in line with the objects.

        :param tables: as for :meth:`config`.
        :param hash_bits: of a volume that is not there yet; few make names collide.
        """
        volume = Volume(self.config(tables), hash_bits=hash_bits)
        if refresh:
            volume.refresh()
        return volume


_FIELDS = tuple(field.name for field in attrs.fields(DriverInfo))

__all__ = ["TINY", "Stores"]
