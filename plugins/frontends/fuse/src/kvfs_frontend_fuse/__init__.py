"""KVFS as a mounted file system: the FUSE protocol over /dev/fuse, in pure Python."""

from __future__ import annotations

from kvfs.capability import FrontendCapability
from kvfs.registry import DriverInfo
from kvfs_frontend_fuse._settings import FuseSettings, ReadDirPlus
from kvfs_frontend_fuse.mounting.mountinfo import MountInfo, mounts

DRIVER = DriverInfo(
    name="fuse",
    kind="frontend",
    summary="a mounted file system, through /dev/fuse without libfuse",
    settings=FuseSettings,
    factory="kvfs_frontend_fuse._frontend:open_frontend",
    capability=FrontendCapability(needs_target=True, writable=True, platforms=("linux",)),
)

__all__ = ["DRIVER", "FuseSettings", "MountInfo", "ReadDirPlus", "mounts"]
