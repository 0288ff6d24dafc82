"""What can be set in the ``[backing]`` table, and what the store can do."""

from __future__ import annotations

from typing import Any

import attrs

from kvfs.backing.remote.settings import ReadSettings
from kvfs.capability import BackingCapability
from kvfs.config import setting
from kvfs.errors import Invalid

CAPABILITY = BackingCapability(is_network=True, name_bytes_max=1024)
"""At its best; the open store's record has what its protocol can do."""


@attrs.frozen(kw_only=True)
class FsspecSettings(ReadSettings):
    """Settings of the fsspec store."""

    url: str = setting(
        help="the directory, as sftp://host/path, https://host/path or zip://::file:///a.zip"
    )
    writable: bool = setting(
        False, help="objects may be written and deleted, where the protocol can do it safely"
    )
    options: dict[str, Any] = setting(
        factory=dict,
        secret=True,
        help="a table of what fsspec takes for this protocol, as username and password for sftp",
    )

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if "://" not in self.url:
            raise Invalid(f"fsspec: {self.url!r} is not a URL: for a directory there is posix")
