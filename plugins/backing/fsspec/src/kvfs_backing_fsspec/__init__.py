"""Whatever fsspec can open as a backing store of KVFS: SFTP, HTTP, archives, and more."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_backing_fsspec._settings import CAPABILITY, FsspecSettings

DRIVER = DriverInfo(
    name="fsspec",
    kind="backing",
    summary="files at any URL that fsspec can open: SFTP, HTTP, archives, ...",
    settings=FsspecSettings,
    factory="kvfs_backing_fsspec._driver:open_store",
    capability=CAPABILITY,
    schemes=("sftp", "ssh", "http", "https", "memory", "zip", "tar", "s3", "gs", "az"),
)

__all__ = ["DRIVER", "FsspecSettings"]
