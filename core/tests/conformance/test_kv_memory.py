"""The memory engine, bare and in every layer, against the whole kit."""

from __future__ import annotations

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness


class TestMemory(KVConformance, KVBenchmarks):
    """The executable specification itself."""

    driver = "memory"

    @pytest.fixture
    def harness(self) -> KVHarness:
        return KVHarness("memory", layers=self.layers)


class _Layered(TestMemory):
    machine_examples = 10


class TestPrefix(_Layered):
    layers = ({"name": "prefix", "prefix": "team-a/"},)


class TestMetrics(_Layered):
    layers = ({"name": "metrics"},)


class TestReadonly(_Layered):
    layers = ({"name": "readonly"},)


class TestLatency(_Layered):
    layers = ({"name": "latency", "delay": "1 us", "bytes_per_s": "100 GB"},)


class TestRetryOverFaults(_Layered):
    """Reads fail all the time, and nobody above notices."""

    layers = (
        {
            "name": "faults",
            "seed": 1,
            "faults": [
                {"operation": operation, "action": "unavailable", "probability": 0.02}
                for operation in ("get", "get_many", "snapshot", "refresh", "stats")
            ],
        },
        {"name": "retry", "attempts": 20, "delay_first": "1 us", "delay_max": "1 us"},
    )


class TestSeveralLayers(_Layered):
    layers = (
        {"name": "prefix", "prefix": "\u00ff"},
        {"name": "prefix", "prefix": "inner"},
        {"name": "metrics"},
        {"name": "retry"},
    )
