"""Ordered key-value engines: the portable :class:`KVStore` over the :class:`KVDriver` interface."""

from kvfs.kv.driver import Batch, Buffer, KVDriver, KVStats, Readable, ReadView, Watch
from kvfs.kv.store import KVStore, prefix_end

__all__ = [
    "Batch",
    "Buffer",
    "KVDriver",
    "KVStats",
    "KVStore",
    "ReadView",
    "Readable",
    "Watch",
    "prefix_end",
]
