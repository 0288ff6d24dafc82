"""The S3 servers that the drivers are tested with, and what is known of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvfs.backing import BackingStore
from kvfs.config import structure
from kvfs.registry import find
from kvfs.testing.servers import s3
from kvfs.testing.servers.localstack import Localstack
from kvfs.testing.servers.moto import Moto
from kvfs.testing.servers.radosgw import Radosgw
from kvfs.testing.servers.rclone import Rclone
from kvfs.testing.servers.s3 import S3Server
from kvfs.testing.servers.swift import Swift

ALWAYS: tuple[type[S3Server], ...] = (Moto, Radosgw, Rclone)
"""One that is missing is a failure."""
WHERE_POSSIBLE: tuple[type[S3Server], ...] = (Localstack, Swift)
"""A run says which of them it had."""
SERVERS = [*ALWAYS, *(server for server in WHERE_POSSIBLE if server.missing() is None)]
DRIVERS = ("obstore", "s3")


class Bucket(s3.Bucket):
    """A new bucket of a running server."""

    def table_of(self, driver: str, **settings: Any) -> dict[str, Any]:
        """A table ``[backing]`` for the bucket; for reading, if nothing else is said."""
        return {"driver": driver, **self.table(**({"writable": False} | settings))}

    def open(self, driver: str, **settings: Any) -> BackingStore:
        """The bucket, through a driver."""
        table = self.table(**({"writable": False} | settings))
        info = find("backing", driver)
        opened = info.load()(structure(table, info.settings, where="[backing]"))
        return BackingStore(opened, name=driver)

    def upload(self, key: str, path: Path) -> None:
        """Store a file."""
        self.write(key, path.read_bytes())

    def clear(self) -> None:
        """Delete all objects."""
        for key in self.names():
            self.client.delete_object(Bucket=self.name, Key=key)
