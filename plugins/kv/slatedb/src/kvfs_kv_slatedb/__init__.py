"""SlateDB as an engine of KVFS: an LSM tree whose only disk is an object store.

This module is importable without the native library; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_slatedb._settings import CAPABILITY, SlateDBSettings

DRIVER = DriverInfo(
    name="slatedb",
    kind="kv",
    summary="LSM tree in the bucket itself: no disk, no server, one machine at a time",
    settings=SlateDBSettings,
    factory="kvfs_kv_slatedb._driver:open_store",
    remove="kvfs_kv_slatedb._driver:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "SlateDBSettings"]
