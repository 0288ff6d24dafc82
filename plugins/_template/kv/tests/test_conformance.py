"""The engine against the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness


class TestTemplate(KVConformance, KVBenchmarks):
    driver = "template"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("template", {"path": str(tmp_path)})
