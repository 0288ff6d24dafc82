"""SlateDB in a bucket against the whole conformance kit, and in a directory where that differs.

The benchmarks run in the directory: what a pretended S3 takes says nothing.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.capability import KVCapability
from kvfs.testing import KVBenchmarks, KVConformance, KVHarness
from kvfs.testing.kv.guards import Guards
from kvfs.testing.kv.life import Life
from kvfs.testing.kv.model import Model
from kvfs_kv_slatedb._settings import FILE_CAPABILITY


class TestBucket(KVConformance):
    driver = "slatedb"
    machine_examples = 5  # each opening is some forty requests; TestSlateDBFiles tries more

    @pytest.fixture
    def harness(self, bucket: dict[str, str]) -> KVHarness:
        return KVHarness("slatedb", bucket)


class TestSlateDBFiles(Guards, Life, Model, KVBenchmarks):
    driver = "slatedb"

    @classmethod
    def announced(cls) -> KVCapability:
        return FILE_CAPABILITY

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("slatedb", {"url": f"file://{tmp_path}"})
