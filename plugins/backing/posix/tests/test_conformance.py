"""The posix store against the conformance kit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvfs.testing import BackingBenchmarks, BackingConformance, BackingHarness


def _harness(path: Path, **settings: Any) -> BackingHarness:
    return BackingHarness(
        "posix",
        {"path": str(path), **settings},
        raw_read=lambda name: (path / name).read_bytes(),
        raw_write=lambda name, data: (path / name).write_bytes(data),
    )


class TestPosix(BackingConformance, BackingBenchmarks):
    driver = "posix"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> BackingHarness:
        return _harness(tmp_path)


class TestPosixDirect(BackingConformance, BackingBenchmarks):
    driver = "posix"

    @pytest.fixture
    def harness(self, tmp_path: Path) -> BackingHarness:
        return _harness(tmp_path, direct=True, fsync=False)
