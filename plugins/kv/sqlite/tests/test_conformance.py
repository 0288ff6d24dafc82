"""SQLite against the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness


class TestSQLite(KVConformance, KVBenchmarks):
    driver = "sqlite"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("sqlite", {"path": str(tmp_path)})
