"""A real server against the conformance kit; it syncs as in production."""

from __future__ import annotations

import pytest

from kvfs.testing import KVBenchmarks, KVConformance, KVHarness
from kvfs.testing.servers.postgres import Postgres


class TestPostgres(KVConformance, KVBenchmarks):
    driver = "postgres"
    machine_examples = 10  # each makes a table, and opens it several times

    @pytest.fixture
    def harness(self, server: Postgres, namespace: str) -> KVHarness:
        return KVHarness("postgres", server.settings(namespace) | {"sslmode": "disable"})
