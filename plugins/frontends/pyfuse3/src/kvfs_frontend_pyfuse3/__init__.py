"""KVFS as a mounted file system over libfuse: the adapter to pyfuse3."""

from __future__ import annotations

from kvfs.capability import FrontendCapability
from kvfs.registry import DriverInfo
from kvfs_frontend_pyfuse3._settings import Pyfuse3Settings

DRIVER = DriverInfo(
    name="pyfuse3",
    kind="frontend",
    summary="a mounted file system, through libfuse and pyfuse3",
    settings=Pyfuse3Settings,
    factory="kvfs_frontend_pyfuse3._frontend:open_frontend",
    capability=FrontendCapability(needs_target=True, writable=False, platforms=("linux",)),
)

__all__ = ["DRIVER", "Pyfuse3Settings"]
