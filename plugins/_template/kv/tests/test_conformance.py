"""The engine against the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.testing import KVConformance, KVHarness


class TestTemplate(KVConformance):
    driver = "template"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> KVHarness:
        return KVHarness("template", {"path": str(tmp_path)})
