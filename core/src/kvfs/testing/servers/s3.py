"""What the servers of the S3 protocol have in common."""

from __future__ import annotations

import os
import shutil
import sys
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Self

import attrs

from kvfs.testing.servers.base import Server

_NUMBERS = count()
SERVERS = Path(sys.prefix, "servers")
"""Virtual environments of servers in Python, whose requirements exclude those of the drivers;
``.ci/setup dev`` makes them."""


def program(name: str, environment: str | None = None) -> str | None:
    """Where a command is: on PATH, beside this Python, or in the environment of a server."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    if environment is not None:
        places.insert(0, str(SERVERS / environment / "bin"))
    return shutil.which(name, path=os.pathsep.join(places))


class S3Server(Server):
    """A server of the S3 protocol on loopback, over plain HTTP."""

    region = "us-east-1"
    access_key = "test"
    secret_key = "testtest"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.port = 0

    @property
    def endpoint(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """A plain client, for set-up and as a side door.  Needs botocore, which s3fs brings."""
        from botocore.config import Config
        from botocore.session import Session

        return Session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": 1},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def bucket(self, name: str) -> str:
        """Make a bucket; its name."""
        self.client().create_bucket(Bucket=name)
        return name

    def answers(self) -> bool:
        """Does it answer an S3 request?"""
        try:
            self.client().list_buckets()
        except Exception:
            return False
        return True


@attrs.frozen
class Bucket:
    """A bucket of a server, and a side door to it: another client than a driver's."""

    server: S3Server
    client: Any
    name: str

    @classmethod
    def new(cls, server: S3Server) -> Self:
        """An empty one, of a running server."""
        client = _client_of(server.endpoint, server)
        name = f"bucket-{next(_NUMBERS)}"
        client.create_bucket(Bucket=name)
        return cls(server, client, name)

    def table(self, **settings: Any) -> dict[str, Any]:
        """A table ``[backing]`` for the bucket, without the name of a driver."""
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

    def read(self, key: str) -> bytes:
        """An object."""
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data

    def write(self, key: str, data: bytes) -> None:
        """Store an object."""
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def names(self) -> list[str]:
        """Of all objects, at most 1,000."""
        listed = self.client.list_objects_v2(Bucket=self.name)
        return [found["Key"] for found in listed.get("Contents", ())]

    def uploads(self) -> list[str]:
        """Keys of uploads that were neither completed nor aborted."""
        listed = self.client.list_multipart_uploads(Bucket=self.name)
        return [found["Key"] for found in listed.get("Uploads", ())]


@cache
def _client_of(endpoint: str, server: S3Server) -> Any:
    """Making one takes longer than a test does; one that is started anew may be elsewhere."""
    return server.client()


__all__ = ["SERVERS", "Bucket", "S3Server", "program"]
