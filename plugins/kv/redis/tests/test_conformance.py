"""Redis against the conformance kit: one server, a namespace for each test."""

from __future__ import annotations

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness
from kvfs.testing.servers.redis import Redis


class TestRedis(KVConformance, KVBenchmarks):
    driver = "redis"

    @pytest.fixture
    def harness(self, server: Redis, namespace: str) -> KVHarness:
        return KVHarness("redis", server.settings(namespace))
