"""Buckets of real servers, opened by the driver."""

from __future__ import annotations

from typing import Any

from kvfs.backing import BackingStore
from kvfs.config import structure
from kvfs.testing.servers import s3
from kvfs_backing_s3 import S3Settings
from kvfs_backing_s3._driver import open_store


class Bucket(s3.Bucket):
    """A new bucket of a server."""

    def open(self, **settings: Any) -> BackingStore:
        """The bucket as a store, that soon gives up."""
        table = self.table(**({"attempts": 4, "retry_total": "10 s"} | settings))
        return BackingStore(open_store(structure(table, S3Settings, where="test")), name="s3")
