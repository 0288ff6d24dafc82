"""The S3 store against the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from kvfs.backing import BackingStore
from kvfs.backing.remote.probing import Conditions, Delete, Put, probe
from kvfs.capability import BackingCapability
from kvfs.errors import Unavailable
from kvfs.testing import BackingConformance, BackingHarness, needs
from kvfs.testing.backing.base import whole
from kvfs.testing.servers.radosgw import Radosgw
from kvfs.testing.servers.rclone import Rclone
from kvfs_backing_s3._settings import CAPABILITY

from .support import Bucket


class TestMoto(BackingConformance):
    driver = "s3"

    @pytest.fixture
    def harness(self, bucket: Bucket) -> BackingHarness:
        # What moto keeps to is found out in test_conditions.py; every test would ask it again.
        settings = bucket.table(conditional="yes")
        return BackingHarness("s3", settings, raw_read=bucket.read, raw_write=bucket.write)


@pytest.fixture(scope="class")
def found_out_once() -> Iterator[None]:
    """What the server keeps to, which is found out by twenty requests, is asked by one test."""
    known: list[Conditions] = []

    def probe_once(put: Put, delete: Delete, *, put_parts: Put | None = None) -> Conditions:
        if not known:
            known.append(probe(put, delete, put_parts=put_parts))
        return known[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kvfs_backing_s3._driver.probe", probe_once)
        yield


@pytest.mark.usefixtures("found_out_once")
class TestRadosgw(BackingConformance):
    driver = "s3"

    @classmethod
    def announced(cls) -> BackingCapability:
        """It ignores the condition of a delete."""
        return attrs.evolve(CAPABILITY, conditional_replace=False)

    @pytest.fixture
    def harness(self, radosgw: Radosgw) -> BackingHarness:
        bucket = Bucket.new(radosgw)
        return BackingHarness("s3", bucket.table(), raw_read=bucket.read, raw_write=bucket.write)


@pytest.mark.usefixtures("found_out_once")
class TestRclone(BackingConformance):
    driver = "s3"

    @classmethod
    def announced(cls) -> BackingCapability:
        """It overwrites in silence."""
        return attrs.evolve(CAPABILITY, conditional_create=False, conditional_replace=False)

    @pytest.fixture
    def harness(self, rclone: Rclone) -> BackingHarness:
        bucket = Bucket.new(rclone)
        # Its 500 are for good, but who reads while it overwrites gets part of a body.
        settings = bucket.table(attempts=3)
        return BackingHarness(
            "s3", settings, raw_read=bucket.read, raw_write=bucket.write, mixes=True
        )

    @needs("writable")
    def test_delete_of_nothing(self, store: BackingStore) -> None:
        """Of the name of a directory that is behind it, it answers 500."""
        store.write("directory/object", b"data")
        store.delete("absent")
        with pytest.raises(Unavailable, match="500"):
            store.delete("directory")
        assert whole(store, "directory/object") == b"data"

    @needs("writable")
    def test_name_below_that_of_an_object(self, store: BackingStore) -> None:
        """It has directories behind it, and answers 500."""
        store.write("a", b"above")
        with pytest.raises(Unavailable, match="500"):
            store.write("a/b", b"below")
        assert whole(store, "a") == b"above"
