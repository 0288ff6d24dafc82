"""SQLite against the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.testing import KVConformance, KVHarness


class TestSQLite(KVConformance):
    driver = "sqlite"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("sqlite", {"path": str(tmp_path)})
