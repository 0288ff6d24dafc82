"""A bucket of S3, Google or Azure as a backing store of KVFS, through obstore."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_backing_obstore._settings import CAPABILITY, ObstoreSettings

DRIVER = DriverInfo(
    name="obstore",
    kind="backing",
    summary="objects of a bucket of S3, Google or Azure, through obstore (Rust)",
    settings=ObstoreSettings,
    factory="kvfs_backing_obstore._driver:open_store",
    capability=CAPABILITY,
    schemes=("s3", "gs", "az"),
)

__all__ = ["DRIVER", "ObstoreSettings"]
