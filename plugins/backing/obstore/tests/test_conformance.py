"""The obstore store against the conformance kit."""

from __future__ import annotations

import pytest

from kvfs.testing import BackingConformance, BackingHarness
from kvfs.testing.servers.s3 import Bucket


class TestMoto(BackingConformance):
    driver = "obstore"

    @pytest.fixture
    def harness(self, bucket: Bucket) -> BackingHarness:
        # What moto keeps to is found out in test_conditions.py; every test would ask it again.
        settings = bucket.table(conditional="yes")
        return BackingHarness("obstore", settings, raw_read=bucket.read, raw_write=bucket.write)
