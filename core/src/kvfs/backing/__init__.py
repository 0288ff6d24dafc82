"""Stores of objects: the portable :class:`BackingStore` over :class:`BackingDriver`."""

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.backing.store import BackingStore

__all__ = ["BackingDriver", "BackingStore", "ObjectInfo"]
