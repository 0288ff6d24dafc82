"""The memory store, bare and in every layer, against the whole kit."""

from __future__ import annotations

import pytest

from kvfs.testing import BackingBenchmarks, BackingConformance, BackingHarness


class TestMemory(BackingConformance, BackingBenchmarks):
    """The executable specification itself."""

    driver = "memory"

    @pytest.fixture
    def harness(self) -> BackingHarness:
        return BackingHarness("memory", layers=self.layers)


class TestPrefix(TestMemory):
    layers = ({"name": "prefix", "prefix": "team-a/"},)


class TestPrefixWithinAName(TestMemory):
    layers = ({"name": "prefix", "prefix": "\u00e9-"},)


class TestMetrics(TestMemory):
    layers = ({"name": "metrics"},)


class TestReadonly(TestMemory):
    layers = ({"name": "readonly"},)


class TestLatency(TestMemory):
    layers = ({"name": "latency", "delay": "1 us", "bytes_per_s": "100 GB"},)


class TestRetryOverFaults(TestMemory):
    """Reads fail all the time, and nobody above notices."""

    layers = (
        {
            "name": "faults",
            "seed": 1,
            "faults": [
                {"operation": operation, "action": "unavailable", "probability": 0.05}
                for operation in ("stat", "list", "list.next", "read", "open_reader", "free_space")
            ],
        },
        {"name": "retry", "attempts": 20, "delay_first": "1 us", "delay_max": "1 us"},
    )
