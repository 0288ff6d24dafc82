"""RADOS against the conformance kit: one cluster, a namespace for each test."""

from __future__ import annotations

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness
from kvfs.testing.servers.ceph import Ceph


class TestRados(KVConformance, KVBenchmarks):
    driver = "rados"

    @pytest.fixture
    def harness(self, cluster: Ceph, namespace: str) -> KVHarness:
        return KVHarness("rados", cluster.settings(namespace))
