"""Buckets of real servers, with side doors."""

from __future__ import annotations

from itertools import count
from typing import Any

import attrs

from kvfs.backing import BackingStore
from kvfs.config import structure
from kvfs.testing.servers.s3 import S3Server
from kvfs_backing_s3 import S3Settings
from kvfs_backing_s3._driver import open_store

_NUMBERS = count()


@attrs.frozen
class Bucket:
    """A new bucket of a server, and a side door to it."""

    server: S3Server
    client: Any
    name: str

    def table(self, **settings: Any) -> dict[str, Any]:
        """A table ``[backing]`` for the bucket."""
        return {
            "url": f"s3://{self.name}",
            "endpoint": self.server.endpoint,
            "region": self.server.region,
            "access_key": self.server.access_key,
            "secret_key": self.server.secret_key,
            "path_style": True,
            "writable": True,
            **settings,
        }

    def open(self, **settings: Any) -> BackingStore:
        """The bucket as a store, that soon gives up."""
        table = self.table(**({"attempts": 4, "retry_total": "10 s"} | settings))
        return BackingStore(open_store(structure(table, S3Settings, where="test")), name="s3")

    def read(self, key: str) -> bytes:
        """An object, by another client than the driver's."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def listed(self) -> list[str]:
        """The keys of all objects, at most 1,000."""
        listed = self.client.list_objects_v2(Bucket=self.name)
        return [found["Key"] for found in listed.get("Contents", ())]

    def uploads(self) -> list[str]:
        """Keys of uploads that were neither completed nor aborted."""
        listed = self.client.list_multipart_uploads(Bucket=self.name)
        return [found["Key"] for found in listed.get("Uploads", ())]


_CLIENTS: dict[str, Any] = {}


def bucket_of(server: S3Server) -> Bucket:
    """A new bucket."""
    if server.endpoint not in _CLIENTS:
        _CLIENTS[server.endpoint] = server.client()
    client = _CLIENTS[server.endpoint]
    name = f"bucket-{next(_NUMBERS)}"
    client.create_bucket(Bucket=name)
    return Bucket(server, client, name)
