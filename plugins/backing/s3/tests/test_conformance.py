"""The S3 store against the conformance kit."""

from __future__ import annotations

import attrs
import pytest

from kvfs.capability import BackingCapability
from kvfs.testing import BackingConformance, BackingHarness
from kvfs.testing.servers.radosgw import Radosgw
from kvfs.testing.servers.rclone import Rclone
from kvfs_backing_s3._settings import CAPABILITY

from .support import Bucket, bucket_of


class TestMoto(BackingConformance):
    driver = "s3"

    @pytest.fixture
    def harness(self, bucket: Bucket) -> BackingHarness:
        # What moto keeps to is found out in test_conditions.py; every test would ask it again.
        settings = bucket.table(conditional="yes")
        return BackingHarness("s3", settings, raw_read=bucket.read, raw_write=bucket.write)


class TestRadosgw(BackingConformance):
    driver = "s3"

    @classmethod
    def announced(cls) -> BackingCapability:
        """It ignores the condition of a delete."""
        return attrs.evolve(CAPABILITY, conditional_replace=False)

    @pytest.fixture
    def harness(self, radosgw: Radosgw) -> BackingHarness:
        bucket = bucket_of(radosgw)
        return BackingHarness("s3", bucket.table(), raw_read=bucket.read, raw_write=bucket.write)


class TestRclone(BackingConformance):
    driver = "s3"

    @classmethod
    def announced(cls) -> BackingCapability:
        """It overwrites in silence."""
        return attrs.evolve(CAPABILITY, conditional_create=False, conditional_replace=False)

    @pytest.fixture
    def harness(self, rclone: Rclone) -> BackingHarness:
        bucket = bucket_of(rclone)
        return BackingHarness("s3", bucket.table(), raw_read=bucket.read, raw_write=bucket.write)
