"""The store against the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvfs.testing import BackingBenchmarks, BackingConformance, BackingHarness


class TestTemplate(BackingConformance, BackingBenchmarks):
    driver = "template"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> BackingHarness:
        return BackingHarness("template", {"path": str(tmp_path), "sync": False})
