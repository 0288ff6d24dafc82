"""The S3 servers that the drivers are tested with, and what is known of them."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import attrs

from kvfs.backing import BackingStore
from kvfs.config import structure
from kvfs.registry import find
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
_NUMBERS = count()


@attrs.frozen
class Bucket:
    """A new bucket of a running server, and a side door to it."""

    server: S3Server
    client: Any
    name: str

    def table(self, driver: str, **settings: Any) -> dict[str, Any]:
        """A table ``[backing]`` for the bucket."""
        return {
            "driver": driver,
            "url": f"s3://{self.name}",
            "endpoint": self.server.endpoint,
            "region": self.server.region,
            "access_key": self.server.access_key,
            "secret_key": self.server.secret_key,
            "path_style": True,
            **settings,
        }

    def open(self, driver: str, **settings: Any) -> BackingStore:
        """The bucket, through a driver."""
        table = self.table(driver, **settings)
        del table["driver"]
        info = find("backing", driver)
        opened = info.load()(structure(table, info.settings, where="[backing]"))
        return BackingStore(opened, name=driver)

    def write(self, key: str, data: bytes) -> None:
        """Store an object, by another client than the driver's."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def upload(self, key: str, path: Path) -> None:
        """Store a file."""
        self.write(key, path.read_bytes())

    def read(self, key: str) -> bytes:
        """An object."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def clear(self) -> None:
        """Delete all objects."""
        for listed in self.client.list_objects_v2(Bucket=self.name).get("Contents", ()):
            self.client.delete_object(Bucket=self.name, Key=listed["Key"])


def new_bucket(server: S3Server) -> Bucket:
    """An empty one."""
    client = server.client()
    name = f"bucket-{next(_NUMBERS)}"
    client.create_bucket(Bucket=name)
    return Bucket(server, client, name)
