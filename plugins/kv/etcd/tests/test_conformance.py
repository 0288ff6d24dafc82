"""etcd against the conformance kit."""

from __future__ import annotations

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness
from kvfs.testing.servers.etcd import Etcd


class TestEtcd(KVConformance, KVBenchmarks):
    driver = "etcd"

    @pytest.fixture
    def harness(self, server: Etcd) -> KVHarness:
        return KVHarness("etcd", server.settings())
