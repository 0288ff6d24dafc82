"""The whole kit around a queue: nothing of it is in the engine yet, or all is on its way."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kvfs.capability import Durability, KVCapability
from kvfs.kv.driver import KVDriver
from kvfs.kv.memory import CAPABILITY
from kvfs.layers import writebehind
from kvfs.layers.writebehind import WriteBehind
from kvfs.testing import KVConformance, KVHarness

from .support import (
    NEVER_S,
    barrier,
)


@attrs.define
class _Harness(KVHarness):
    """The memory engine, with limits, behind a queue."""

    interval_s: float = NEVER_S
    queue_bytes: int = writebehind.QUEUE_BYTES
    limits: dict[str, Any] = attrs.field(factory=dict)

    def open(self, store: str = "main", *, durability: Durability | None = None) -> KVDriver:
        inner = super().open(store, durability=durability)
        inner.capability = attrs.evolve(inner.capability, **self.limits)
        layer = WriteBehind(
            inner,
            durability=inner.capability.durability,
            guards={b"\0fence": None},
            interval_s=self.interval_s,
            queue_bytes=self.queue_bytes,
        )
        self._opened[-1] = layer
        return layer

    def fill(self, driver: KVDriver, records: Any) -> None:
        super().fill(driver, records)
        if len(records) > writebehind.GROUP_KEYS:
            barrier(driver)  # so many are not all in a queue


def _announced(capability: KVCapability) -> KVCapability:
    return attrs.evolve(
        capability,
        snapshot=False,
        multi_process_read=False,
        multi_process_write=False,
        fork_safe=False,
        watch=False,
    )


class TestAllIsQueued(KVConformance):
    """Nothing that is read here has reached the engine, unless it was very much."""

    driver = "memory"
    machine_examples = 10

    @classmethod
    def announced(cls) -> KVCapability:
        return _announced(CAPABILITY)

    @pytest.fixture
    def harness(self) -> KVHarness:
        return _Harness("memory")


class TestAllIsOnItsWay(KVConformance):
    """An engine that takes little at a time, a queue that is often full: all is read half way."""

    driver = "memory"
    machine_examples = 10

    @classmethod
    def announced(cls) -> KVCapability:
        return attrs.evolve(
            _announced(CAPABILITY),
            value_bytes_max=1 << 19,
            batch_ops_max=128 - 1,
            batch_bytes_max=(1 << 20) - len(b"\0fence"),
        )

    @pytest.fixture
    def harness(self) -> KVHarness:
        limits = {"batch_ops_max": 128, "batch_bytes_max": 1 << 20, "value_bytes_max": 1 << 19}
        return _Harness("memory", interval_s=0.0, queue_bytes=64 << 10, limits=limits)
