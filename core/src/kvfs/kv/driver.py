"""What the author of a key-value engine implements: :class:`KVDriver` and :class:`ReadView`.

Users hold a :class:`~kvfs.kv.store.KVStore` instead, which does validation, durability checks and
conveniences once for all engines.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Self

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.closing import Closing
from kvfs.errors import Unsupported

Buffer = bytes | bytearray | memoryview
"""Bytes that somebody may own: a view's buffers are valid until it is refreshed or closed."""


@attrs.define
class Batch:
    """The one write primitive: applied whole, or refused whole.

    The order in which things were added does not matter.  An engine checks every guard first,
    then deletes the ranges, then the keys, then puts.  A key is put or deleted, not both: what was
    said last counts.
    """

    guards: dict[bytes, bytes | None] = attrs.field(factory=dict)
    """Key -> the exact value it must have, or ``None``: it must be absent."""
    range_deletes: list[tuple[bytes, bytes]] = attrs.field(factory=list)
    """Half-open ranges ``[start, stop)``."""
    deletes: set[bytes] = attrs.field(factory=set)
    puts: dict[bytes, Buffer] = attrs.field(factory=dict)

    def guard(self, key: bytes, value: bytes | None) -> Self:
        """Apply the batch only if ``key`` holds exactly ``value`` (``None``: is absent)."""
        self.guards[key] = value
        return self

    def put(self, key: bytes, value: Buffer) -> Self:
        """Store ``value`` under ``key``, replacing what is there."""
        self.deletes.discard(key)
        self.puts[key] = value
        return self

    def delete(self, key: bytes) -> Self:
        """Remove ``key``; no error if it is absent."""
        self.puts.pop(key, None)
        self.deletes.add(key)
        return self

    def delete_range(self, start: bytes, stop: bytes) -> Self:
        """Remove every key in ``[start, stop)`` that was there before the batch."""
        self.range_deletes.append((start, stop))
        return self

    def clear(self) -> None:
        """Forget everything, to fill the batch anew."""
        self.guards.clear()
        self.range_deletes.clear()
        self.deletes.clear()
        self.puts.clear()

    @property
    def ops(self) -> int:
        """How many guards, ranges, deletes and puts there are."""
        return len(self.guards) + len(self.range_deletes) + len(self.deletes) + len(self.puts)

    @property
    def total_bytes(self) -> int:
        """How many bytes all keys, bounds and values have together."""
        total = sum(map(len, self.puts)) + sum(map(len, self.puts.values()))
        total += sum(map(len, self.deletes)) + sum(map(len, self.guards))
        total += sum(len(value) for value in self.guards.values() if value is not None)
        return total + sum(len(start) + len(stop) for start, stop in self.range_deletes)


@attrs.frozen(kw_only=True)
class KVStats:
    """What an engine says about itself.  ``None``: it does not know."""

    keys: int | None = None
    bytes_used: int | None = None
    """Bytes that the live records take, with the engine's overhead."""
    bytes_on_disk: int | None = None
    bytes_free: int | None = None
    """How much more it can take: disk, map or quota, whichever ends first."""


class Readable(ABC):
    """Point reads and ordered scans; both an engine and a view of it have them.

    A key has 1 to ``key_bytes_max`` bytes.  Reading one that has none, or more, is a programmer's
    error, which this hot path does not look for.  The bounds of scans and range deletes are no
    keys: they may be empty, or one byte longer than a key, so that ``key + b"\0"`` always works.
    """

    @abstractmethod
    def get(self, key: bytes) -> Buffer | None:
        """The value of ``key``, or ``None``."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        """The values of ``keys``, in their order, ``None`` where absent; one round trip."""

    @abstractmethod
    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Buffer, Buffer]]:
        """(key, value) with ``start <= key < stop`` (``None``: to the end) in byte order.

        ``reverse``: the same range from its high end.  ``limit``: at most so many.  Lazy: memory
        does not grow with the range.

        :raises Unsupported: ``reverse``, without capability ``scan_can_reverse``; at the call or
            at the first record.
        """


class ReadView(Readable, Closing):
    """The store as it was at one instant, if the capability says ``snapshot``.

    Used by one thread at a time.  Values may be the engine's own memory (capability ``buffers``)
    and are valid until :meth:`refresh` or :meth:`close`.  A view that stays unrefreshed may hold
    back the engine's space reclamation.
    """

    @abstractmethod
    def refresh(self) -> None:
        """Move to the present instant.  Ends running scans and invalidates buffers."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the instant.  Idempotent."""


class Watch(Closing):
    """The changes of a range of keys, from the instant of :meth:`KVDriver.watch` on.

    Used by one thread at a time; :meth:`close` may be called from any.
    """

    @abstractmethod
    def wait(self, timeout_s: float | None = None) -> Sequence[bytes]:
        """The keys that were written or removed since the last call; waits until there are some.

        In the order of the commits, whoever made them; a key may come more than once.  What is read
        afterwards shows the change, or a later one.  Empty: ``timeout_s`` seconds went by.

        :raises Stale: changes may have been missed.  The watch goes on from before this was raised:
            whoever now looks at everything anew misses nothing.
        :raises Closed: the watch or the store was closed, before or during the call.
        """

    @abstractmethod
    def close(self) -> None:
        """End the watch, and a :meth:`wait` that is under way.  Idempotent."""


class KVDriver(Readable):
    """An ordered key-value engine.  Synchronous; keys and values are bytes, keys compare bytewise.

    Errors are those of :mod:`kvfs.errors`, with the engine's own chained.  After :meth:`close`
    every method raises :class:`~kvfs.errors.Closed`.  If the capability says ``thread_safe``, any
    method may be called from any thread.
    """

    capability: KVCapability

    @abstractmethod
    def get(self, key: bytes) -> bytes | None:
        """The value of ``key`` now, or ``None``.  The bytes are the caller's own."""

    @abstractmethod
    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        """As :meth:`Readable.get_many`; the bytes are the caller's own."""

    @abstractmethod
    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """As :meth:`Readable.scan`; the bytes are the caller's own.

        With capability ``snapshot`` the scan shows the instant at which it began; writes may go on
        beside it, from the same thread too.
        """

    @abstractmethod
    def commit(self, batch: Batch, durability: Durability) -> None:
        """Apply ``batch`` atomically, and return when it is as durable as asked.

        :raises Conflict: a guard does not hold; nothing was applied.
        :raises Exhausted: no room; nothing was applied.
        :raises Unavailable: the answer was lost: the batch was applied whole or not at all, and it
            is not known which, unless the error says ``unapplied``.
        """

    @abstractmethod
    def snapshot(self) -> ReadView:
        """A view of this instant.  Close it before the driver is closed."""

    def watch(self, start: bytes, stop: bytes | None) -> Watch:
        """Changes of keys with ``start <= key < stop`` (``None``: to the end), from now on.

        :raises Unsupported: without capability ``watch``.
        """
        raise Unsupported("watch: the engine does not tell of changes")

    @abstractmethod
    def stats(self) -> KVStats:
        """Cheap to ask (under a millisecond for an embedded engine)."""

    @abstractmethod
    def compact(self) -> None:
        """Give space back and reorder, as far as the engine can while it is open."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the engine.  What a persistent engine committed, at whatever level, survives a
        power cut once this has returned.  Idempotent."""


__all__ = ["Batch", "Buffer", "KVDriver", "KVStats", "ReadView", "Readable", "Watch"]
