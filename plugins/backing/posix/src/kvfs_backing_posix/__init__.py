"""A directory of a local or network file system as a backing store of KVFS."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_backing_posix._settings import CAPABILITY, PosixSettings

DRIVER = DriverInfo(
    name="posix",
    kind="backing",
    summary="files below a directory of a local or network file system",
    settings=PosixSettings,
    factory="kvfs_backing_posix._driver:open_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "PosixSettings"]
