"""What the servers of the S3 protocol have in common."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from kvfs.testing.servers.base import Server

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


__all__ = ["SERVERS", "S3Server", "program"]
