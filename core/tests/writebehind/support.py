"""An engine with a queue before it, and engines that can be held up or have limits."""

from __future__ import annotations

import random
from collections.abc import Iterator
from threading import Semaphore
from typing import Any

import attrs

from kvfs.capability import Durability
from kvfs.kv.driver import Batch, KVDriver
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.kv.store import KVStore
from kvfs.layers.passing import KVLayer
from kvfs.layers.writebehind import WriteBehind

PATIENCE_S = 60.0
NEVER_S = 3600.0
"""An interval that no test lives to see the end of: what is queued stays queued."""
FENCE = {b"fence": b"mine"}


def queued(
    inner: KVDriver,
    *,
    durability: Durability = Durability.MEMORY,
    interval_s: float = NEVER_S,
    **more: Any,
) -> WriteBehind:
    """An engine with a queue before it, whose fence holds."""
    raw = inner
    while isinstance(raw, KVLayer):
        raw = raw.inner
    raw.commit(Batch(puts={**FENCE}), Durability.MEMORY)
    return WriteBehind(inner, durability=durability, guards=FENCE, interval_s=interval_s, **more)


def records(driver: KVDriver) -> dict[bytes, bytes]:
    """All that is there, the fence left out."""
    return {key: value for key, value in driver.scan(b"", None) if key not in FENCE}


def barrier(driver: KVDriver, durability: Durability = Durability.PROCESS) -> None:
    """What fsync does."""
    driver.commit(Batch(), durability)


def put(driver: KVDriver, key: bytes, value: bytes = b"value") -> None:
    """One record, acknowledged at once."""
    driver.commit(Batch().put(key, value), Durability.MEMORY)


class Gated(KVLayer):
    """An engine whose commits wait until they are let in; it keeps what it was asked for."""

    def __init__(self, inner: KVDriver) -> None:
        super().__init__(inner)
        self.begun, self.allowed = Semaphore(0), Semaphore(0)
        self.batches: list[tuple[Batch, Durability]] = []

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.batches.append((batch, durability))
        self.begun.release()
        assert self.allowed.acquire(timeout=PATIENCE_S)
        self.inner.commit(batch, durability)

    def reached(self) -> None:
        """Wait until one more commit has begun."""
        assert self.begun.acquire(timeout=PATIENCE_S)

    def open(self) -> None:
        """Let in whatever comes."""
        self.allowed.release(1 << 20)


class Checked(KVLayer):
    """An engine that refuses what is beyond its limits, as a real one."""

    def __init__(
        self, *, batch_ops_max: int | None = None, batch_bytes_max: int | None = None
    ) -> None:
        inner = MemoryKV()
        inner.capability = attrs.evolve(
            inner.capability, batch_ops_max=batch_ops_max, batch_bytes_max=batch_bytes_max
        )
        super().__init__(inner)
        self._store = KVStore(inner, name="checked")
        self.commits = 0

    def commit(self, batch: Batch, durability: Durability) -> None:
        self._store.commit(batch, Durability.MEMORY)
        self.commits += 1


def workload(seed: int, steps: int) -> Iterator[Batch]:
    """Batches of all kinds on few keys; the record ``step`` says which was the last."""
    generator = random.Random(seed)

    def key() -> bytes:
        return b"%03d" % generator.randrange(60)

    for step in range(steps):
        batch = Batch()
        if generator.random() < 0.2:
            low = generator.randrange(60)
            batch.delete_range(b"%03d" % low, b"%03d" % (low + 8))
        for _ in range(generator.randrange(4)):
            batch.delete(key())
        for _ in range(generator.randrange(1, 5)):
            batch.put(key(), b"%d" % generator.randrange(1000))
        yield batch.put(b"step", b"%d" % step)
