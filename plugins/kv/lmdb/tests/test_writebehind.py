"""A real engine behind a queue: its buffers, its levels, and what is there when it is opened again.

Nothing is committed before its time, so much of what the kit reads is still queued.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs.capability import Durability, KVCapability
from kvfs.kv.driver import Batch, KVDriver
from kvfs.layers.writebehind import GROUP_KEYS, WriteBehind
from kvfs.testing import KVConformance, KVHarness
from kvfs_kv_lmdb._settings import CAPABILITY


class _Harness(KVHarness):
    def open(self, store: str = "main", *, durability: Durability | None = None) -> KVDriver:
        inner = super().open(store, durability=durability)
        layer = WriteBehind(inner, durability=inner.capability.durability, interval_s=3600)
        self._opened[-1] = layer
        return layer

    def fill(self, driver: KVDriver, records: Any) -> None:
        super().fill(driver, records)
        if len(records) > GROUP_KEYS:
            driver.commit(Batch(), Durability.PROCESS)  # so many are not all in a queue


class TestLMDBBehindAQueue(KVConformance):
    driver = "lmdb"
    machine_examples = 10

    @classmethod
    def announced(cls) -> KVCapability:
        return attrs.evolve(
            CAPABILITY,
            snapshot=False,
            multi_process_read=False,
            multi_process_write=False,
            fork_safe=False,
            watch=False,
        )

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return _Harness("lmdb", {"path": str(tmp_path)})
