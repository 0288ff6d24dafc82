"""Engines with one mistake each, and the kit on them; run by ``test_the_kit_itself``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import attrs
import pytest

from kvfs.capability import Durability
from kvfs.errors import Closed, Conflict
from kvfs.kv import Batch
from kvfs.kv.memory import DRIVER, MemoryDriver, MemoryView
from kvfs.testing import KVBenchmarks, KVConformance, KVHarness


class ScanOfASnapshotIsLive(MemoryDriver):
    """rocksdict: point reads of a snapshot are old, scans of it are new."""

    def snapshot(self) -> MemoryView:
        driver = self

        class View(MemoryView):
            def scan(self, *bounds: Any, **options: Any) -> Iterator[tuple[bytes, bytes]]:
                super().scan(b"", None)  # raises Closed
                return driver.scan(*bounds, **options)

        return View(self)


class GuardsAreForgotten(MemoryDriver):
    def commit(self, batch: Batch, durability: Durability) -> None:
        super().commit(attrs.evolve(batch, guards={}), durability)


class GuardsAreCheckedOutsideTheLock(MemoryDriver):
    def commit(self, batch: Batch, durability: Durability) -> None:
        for key, expected in batch.guards.items():
            if self.get(key) != expected:
                raise Conflict("no")
        time.sleep(0.0002)
        super().commit(attrs.evolve(batch, guards={}), durability)


class EmptyIsAbsent(MemoryDriver):
    def get(self, key: bytes) -> bytes | None:
        return super().get(key) or None


class PutsComeBeforeRangeDeletes(MemoryDriver):
    def commit(self, batch: Batch, durability: Durability) -> None:
        puts = {
            key: value
            for key, value in batch.puts.items()
            if not any(start <= key < stop for start, stop in batch.range_deletes)
        }
        super().commit(attrs.evolve(batch, puts=puts), durability)


class ConflictAppliesHalf(MemoryDriver):
    def commit(self, batch: Batch, durability: Durability) -> None:
        super().commit(Batch(deletes=set(batch.deletes)), durability)
        super().commit(batch, durability)


class StopIsIncluded(MemoryDriver):
    def scan(
        self, start: bytes, stop: bytes | None, **options: Any
    ) -> Iterator[tuple[bytes, bytes]]:
        return super().scan(start, None if stop is None else stop + b"\0", **options)


class ScanIsAList(MemoryDriver):
    def scan(self, *bounds: Any, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        records = super().scan(*bounds, **options)
        return iter([(bytes(bytearray(key)), bytes(bytearray(value))) for key, value in records])


class LimitCutsBeforeReversing(MemoryDriver):
    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        records = islice(super().scan(start, stop), limit)
        return reversed([*records]) if reverse else records


class ClosedIsStillOpen(MemoryDriver):
    def close(self) -> None:
        pass


class BuffersAreNotCopied(MemoryDriver):
    """As if the engine kept a pointer: what it is given is read when it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[bytes, Any] = {}

    def commit(self, batch: Batch, durability: Durability) -> None:
        super().commit(batch, durability)
        self._given.update(batch.puts)

    def get(self, key: bytes) -> bytes | None:
        super().get(key)
        return bytes(self._given[key]) if key in self._given else None


class BatchIsAppliedInSteps(MemoryDriver):
    def commit(self, batch: Batch, durability: Durability) -> None:
        super().commit(attrs.evolve(batch, puts={}), durability)
        time.sleep(0.0002)
        super().commit(Batch(puts=dict(batch.puts)), durability)


class RefreshDoesNothing(MemoryDriver):
    def snapshot(self) -> MemoryView:
        class View(MemoryView):
            def refresh(self) -> None:
                if self._state is None:
                    raise Closed("closed")

        return View(self)


class GetManySorts(MemoryDriver):
    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return super().get_many(sorted(keys))


_MISTAKEN = [cls for cls in MemoryDriver.__subclasses__() if cls.__module__ == __name__]

for _cls in _MISTAKEN:
    _name = _cls.__name__

    def _open(settings: object, *, store: str, durability: Durability, cls: Any = _cls) -> Any:
        return cls()

    globals()[f"open_{_name}"] = _open
    globals()[f"{_name}_DRIVER"] = attrs.evolve(
        DRIVER, name=_name, factory=f"mistaken_kv:open_{_name}"
    )

    class _Conformance(KVConformance, KVBenchmarks):
        driver = _name
        machine_examples = 60

        @pytest.fixture
        def harness(self) -> KVHarness:
            return KVHarness(self.driver)

    _Conformance.__name__ = _Conformance.__qualname__ = f"Test{_name}"
    globals()[f"Test{_name}"] = _Conformance
del _Conformance
