"""The portable type that users of a key-value engine hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kvfs.capability import Durability
from kvfs.closing import Closing
from kvfs.errors import Invalid, Unsupported
from kvfs.kv.driver import Batch, Buffer, KVDriver


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key after all keys that start with ``prefix``; ``None`` if there is none."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes((stripped[-1] + 1,))


class KVStore(Closing):
    """A key-value store: any driver, with what is common to all engines written once.

    Reads are bound straight to the driver's methods, so this type costs them nothing.  Writes are
    checked against the capability record before any I/O.
    """

    def __init__(self, driver: KVDriver, *, name: str) -> None:
        """:param name: what errors call this store, as ``lmdb (sealed)``."""
        self.driver = driver
        self.name = name
        self.capability = driver.capability
        self.committed = False
        """Was anything written through this object?"""
        self.get = driver.get
        self.get_many = driver.get_many
        self.scan = driver.scan
        self.snapshot = driver.snapshot
        self.watch = driver.watch
        self.stats = driver.stats
        self.compact = driver.compact

    def commit(self, batch: Batch, durability: Durability | None = None) -> None:
        """Apply ``batch`` atomically; by default as durable as the engine can.

        :raises Unsupported: the engine cannot take the batch or reach the durability; nothing was
            sent to it.
        :raises Invalid: a key is empty.
        :raises Conflict: a guard does not hold.
        """
        if durability is None:
            durability = self.capability.durability
        self._check(batch, durability)
        self.committed = True
        self.driver.commit(batch, durability)

    def put(self, key: bytes, value: Buffer, durability: Durability | None = None) -> None:
        """Store one record."""
        self.commit(Batch().put(key, value), durability)

    def create(self, key: bytes, value: Buffer, durability: Durability | None = None) -> None:
        """Store one record if the key is absent; :class:`~kvfs.errors.Conflict` otherwise."""
        self.commit(Batch().guard(key, None).put(key, value), durability)

    def delete(self, key: bytes, durability: Durability | None = None) -> None:
        """Remove one record; no error if it is absent."""
        self.commit(Batch().delete(key), durability)

    def scan_prefix(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every record whose key starts with ``prefix``, in order."""
        return self.driver.scan(prefix, prefix_end(prefix))

    def clear_range(
        self,
        start: bytes,
        stop: bytes,
        *,
        step: int = 20_000,
        guards: Mapping[bytes, bytes | None] | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Remove every key in ``[start, stop)`` in batches of ``step`` keys, with these guards.

        Not atomic as a whole: callers mark what they are about to clear first.  The range is
        cleared from its low end, so it can be taken up again after a crash.

        :raises Conflict: a guard does not hold, or does not any more.
        """
        while True:
            with self.snapshot() as view:
                keys = [bytes(key) for key, _ in view.scan(start, stop, limit=step)]
            if not keys:
                return
            batch = Batch(guards={**(guards or {})}).delete_range(start, keys[-1] + b"\0")
            self.commit(batch, durability)
            start = keys[-1]

    def close(self) -> None:
        """Let go of the engine.  Idempotent."""
        self.driver.close()

    def _check(self, batch: Batch, durability: Durability) -> None:
        capability = self.capability
        if not capability.writable:
            raise Unsupported(f"{self.name}: commit: the store is read-only")
        if durability > capability.durability:
            self._refuse(
                f"durability {durability.name.lower()}", capability.durability.name.lower(), "level"
            )
        if capability.batch_ops_max is not None and batch.ops > capability.batch_ops_max:
            self._refuse(f"a batch of {batch.ops} operations", capability.batch_ops_max, "most")
        if b"" in batch.puts or b"" in batch.deletes or b"" in batch.guards:
            raise Invalid(f"{self.name}: commit: a key is empty")
        longest = max(
            max(map(len, batch.puts), default=0),
            max(map(len, batch.deletes), default=0),
            max(map(len, batch.guards), default=0),
        )
        if longest > capability.key_bytes_max:
            self._refuse(f"a key of {longest} bytes", capability.key_bytes_max, "longest")
        largest = max(map(len, batch.puts.values()), default=0)
        if largest > capability.value_bytes_max:
            self._refuse(f"a value of {largest} bytes", capability.value_bytes_max, "largest")
        if capability.batch_bytes_max is not None:
            total = batch.total_bytes
            if total > capability.batch_bytes_max:
                self._refuse(f"a batch of {total} bytes", capability.batch_bytes_max, "most")

    def _refuse(self, what: str, limit: object, word: str) -> None:
        raise Unsupported(f"{self.name}: commit: {what} (the {word} it takes: {limit})")


__all__ = ["KVStore", "prefix_end"]
