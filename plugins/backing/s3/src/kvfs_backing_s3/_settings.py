"""What can be set in the ``[backing]`` table, and what the store can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.backing.remote.settings import RemoteSettings
from kvfs.capability import BackingCapability
from kvfs.config import Bytes, setting
from kvfs.errors import Invalid

KEY_BYTES_MAX = 1024
"""Of S3; the prefix of the store counts."""
PART_BYTES_MIN = 5 << 20
"""Of S3, for all parts but the last."""

CAPABILITY = BackingCapability(
    conditional_create=True,
    conditional_replace=True,
    strong_version=True,
    is_network=True,
    name_bytes_max=KEY_BYTES_MAX,
    object_bytes_max=5 << 40,
)
"""At its best; the open store's record has what was seen to hold."""


@attrs.frozen(kw_only=True)
class S3Settings(RemoteSettings):
    """Settings of the S3 store."""

    url: str = setting(help="the bucket and what all names begin with, as s3://bucket/prefix")
    endpoint: str | None = setting(
        None, help="URL of the server; by default AWS_ENDPOINT_URL, or Amazon's"
    )
    region: str | None = setting(None, help="by default that of the AWS configuration")
    profile: str | None = setting(None, help="of the AWS configuration files")
    access_key: str | None = setting(
        None, secret=True, help="by default the usual chain: environment, files, instance role"
    )
    secret_key: str | None = setting(None, secret=True, help="belongs to the access key")
    session_token: str | None = setting(
        None, secret=True, help="belongs to an access key that is temporary"
    )
    anonymous: bool = setting(False, help="without credentials, for public buckets")
    path_style: bool = setting(
        False, help="the bucket stands in the path of URLs, not in the name of the host"
    )
    ca: Path | None = setting(
        None, help="certificates to trust, as a PEM file; by default AWS_CA_BUNDLE or the system's"
    )
    part: Bytes = setting(
        Bytes(PART_BYTES_MIN), help="larger objects are sent in parts of this size, later in larger"
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not PART_BYTES_MIN <= self.part <= 1 << 30:
            raise Invalid("s3: parts have at least 5 MiB (S3's rule) and at most 1 GiB")
        if (self.access_key is None) != (self.secret_key is None):
            raise Invalid("s3: access_key and secret_key belong together")
        if self.anonymous and self.access_key is not None:
            raise Invalid("s3: anonymous access has no access_key")
        self.place()

    def place(self) -> tuple[str, str]:
        """The bucket, and the prefix with a slash at its end, or empty."""
        scheme, _, rest = self.url.partition("://")
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.rstrip("/")
        parts = prefix.split("/") if prefix else []
        if scheme != "s3" or not bucket or any(part in ("", ".", "..") for part in parts):
            raise Invalid(f"s3: {self.url!r} is not s3://bucket or s3://bucket/prefix")
        if len(prefix.encode()) > KEY_BYTES_MAX - 2:
            raise Invalid(f"s3: the prefix of {self.url!r} leaves no room for names")
        return bucket, f"{prefix}/" if prefix else ""
