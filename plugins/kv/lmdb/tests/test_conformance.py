"""Both versions of LMDB against the conformance kit.

Its state machine opens the stores unsynced, all else synced.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.capability import Durability, KVCapability
from kvfs.testing import KVBenchmarks, KVConformance, KVHarness
from kvfs_kv_lmdb._settings import capability_of


class TestLMDB(KVConformance, KVBenchmarks):
    driver = "lmdb"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("lmdb", {"path": str(tmp_path)})


class TestLMDB10(KVConformance, KVBenchmarks):
    driver = "lmdb"

    @classmethod
    def announced(cls) -> KVCapability:
        return capability_of("1.0", Durability.POWER)  # its page headers are longer

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("lmdb", {"path": str(tmp_path), "lib_version": "1.0"})
