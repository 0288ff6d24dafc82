"""An S3 bucket, or a part of it, as a backing store of KVFS, through s3fs."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_backing_s3._settings import CAPABILITY, S3Settings

DRIVER = DriverInfo(
    name="s3",
    kind="backing",
    summary="objects of an S3 bucket, through s3fs (aiobotocore)",
    settings=S3Settings,
    factory="kvfs_backing_s3._driver:open_store",
    capability=CAPABILITY,
    schemes=("s3",),
)

__all__ = ["DRIVER", "S3Settings"]
