"""What can be set in the ``[backing]`` table, and what the store can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.backing.remote.settings import RemoteSettings
from kvfs.capability import BackingCapability
from kvfs.config import Bytes, setting
from kvfs.errors import Invalid

KEY_BYTES_MAX = 1024
"""Of all three; the prefix of the store counts."""
PART_BYTES_MIN = 5 << 20
"""Of S3, for all parts but the last."""
PARTS_MAX = 10_000
"""Of S3, for one object."""
SCHEMES = ("s3", "gs", "az")

CAPABILITY = BackingCapability(
    conditional_create=True,
    strong_version=True,
    is_network=True,
    name_bytes_max=KEY_BYTES_MAX,
)
"""At its best; the open store's record has what was seen to hold."""


@attrs.frozen(kw_only=True)
class Place:
    """Where a store is."""

    scheme: str
    bucket: str
    prefix: str
    """Of all keys, with a slash at its end, or empty."""


@attrs.frozen(kw_only=True)
class ObstoreSettings(RemoteSettings):
    """Settings of the obstore store; what is not set is taken from the environment, as each
    provider's own tools have it (``AWS_...``, ``GOOGLE_...``, ``AZURE_...``)."""

    url: str = setting(
        help="the bucket and what all names begin with: s3://bucket/prefix, gs:// or az://"
    )
    endpoint: str | None = setting(
        None, help="URL of the server; by default AWS_ENDPOINT_URL, or the provider's"
    )
    region: str | None = setting(None, help="s3: by default AWS_REGION, or us-east-1")
    account: str | None = setting(None, help="az: the storage account")
    access_key: str | None = setting(
        None, secret=True, help="s3: by default the environment, or the role of the machine"
    )
    secret_key: str | None = setting(
        None, secret=True, help="s3: belongs to the access key; az: the key of the account"
    )
    session_token: str | None = setting(
        None, secret=True, help="s3: belongs to an access key that is temporary"
    )
    service_account: Path | None = setting(
        None, help="gs: a file with the key of a service account"
    )
    anonymous: bool = setting(False, help="without credentials, for public buckets")
    path_style: bool = setting(
        True, help="s3: the bucket stands in the path of URLs, not in the name of the host"
    )
    ca: Path | None = setting(
        None, help="certificates to trust, as a PEM file; by default the system's"
    )
    part: Bytes = setting(
        Bytes(6 << 20), help="larger objects are sent in parts of this size, at most 10,000"
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not PART_BYTES_MIN <= self.part <= 1 << 30:
            raise Invalid("obstore: parts have at least 5 MiB (S3's rule) and at most 1 GiB")
        place = self.place()
        if place.scheme == "s3" and (self.access_key is None) != (self.secret_key is None):
            raise Invalid("obstore: access_key and secret_key belong together")
        if self.anonymous and (self.access_key or self.secret_key or self.service_account):
            raise Invalid("obstore: anonymous access has no credentials")
        if self.endpoint is not None and not self.endpoint.startswith(("http://", "https://")):
            raise Invalid(f"obstore: the endpoint {self.endpoint!r} is no http:// or https:// URL")
        if self.endpoint is not None and not self.endpoint.partition("://")[2].strip("/"):
            raise Invalid(f"obstore: the endpoint {self.endpoint!r} names no host")

    def place(self) -> Place:
        """Bucket and prefix.

        :raises Invalid: it is no such URL.
        """
        scheme, _, rest = self.url.partition("://")
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.rstrip("/")
        parts = prefix.split("/") if prefix else []
        if scheme not in SCHEMES or not bucket or any(part in ("", ".", "..") for part in parts):
            known = ", ".join(f"{each}://bucket/prefix" for each in SCHEMES)
            raise Invalid(f"obstore: {self.url!r} is none of {known}")
        if len(prefix.encode()) > KEY_BYTES_MAX - 2:
            raise Invalid(f"obstore: the prefix of {self.url!r} leaves no room for names")
        return Place(scheme=scheme, bucket=bucket, prefix=f"{prefix}/" if prefix else "")
