"""What can be set in the ``[backing]`` table, and what the store can do."""

from __future__ import annotations

from pathlib import Path

import attrs

from kvfs.capability import BackingCapability
from kvfs.config import setting

CAPABILITY = BackingCapability(
    conditional_create=True,
    conditional_replace=True,
    free_space=True,
    name_bytes_max=4095,
)
"""At its best; a directory that may not be written says so in the open store's record."""


@attrs.frozen(kw_only=True)
class PosixSettings:
    """Settings of the posix store."""

    path: Path = setting(help="the directory whose files are the objects")
    direct: bool = setting(
        False, help="drop what was read from the page cache, so that it does not push out the rest"
    )
    fsync: bool = setting(True, help="a written object is on the disk before it appears")
