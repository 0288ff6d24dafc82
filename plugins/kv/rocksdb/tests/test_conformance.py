"""RocksDB against the conformance kit.

Its state machine opens the stores for durability ``memory``, without a log, all else with one.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness


class TestRocksDB(KVConformance, KVBenchmarks):
    driver = "rocksdb"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("rocksdb", {"path": str(tmp_path)})
