"""The layer ``readonly``: refuses every write before it reaches the store."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import BinaryIO

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.capability import BackingCapability, Durability, KVCapability
from kvfs.errors import Unsupported
from kvfs.kv.driver import Batch, KVDriver
from kvfs.layers.passing import BackingLayer, KVLayer


@attrs.frozen
class ReadonlySettings:
    """There is nothing to set."""


def kv_capability(capability: KVCapability, settings: ReadonlySettings) -> KVCapability:
    """Nothing can be written, by no process that goes through this layer."""
    return attrs.evolve(capability, writable=False, multi_process_write=False)


def backing_capability(
    capability: BackingCapability, settings: ReadonlySettings
) -> BackingCapability:
    """Nothing can be written, on no condition."""
    return attrs.evolve(
        capability, writable=False, conditional_create=False, conditional_replace=False
    )


class ReadonlyKV(KVLayer):
    """An engine that can only be read."""

    def __init__(self, inner: KVDriver, settings: ReadonlySettings) -> None:
        super().__init__(inner)
        self.capability = kv_capability(inner.capability, settings)

    def commit(self, batch: Batch, durability: Durability) -> None:
        raise Unsupported("readonly: commit: the store is read-only")

    def compact(self) -> None:
        raise Unsupported("readonly: compact: the store is read-only")


class ReadonlyBacking(BackingLayer):
    """A store of objects that can only be read."""

    def __init__(self, inner: BackingDriver, settings: ReadonlySettings) -> None:
        super().__init__(inner)
        self.capability = backing_capability(inner.capability, settings)

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        raise Unsupported(f"readonly: open_writer: {name!r}: the store is read-only")

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        raise Unsupported(f"readonly: delete: {name!r}: the store is read-only")
