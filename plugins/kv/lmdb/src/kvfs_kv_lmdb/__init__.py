"""LMDB as an engine of KVFS: a memory-mapped B+tree in one file.

This module is importable without the native library; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_lmdb._settings import CAPABILITY, LMDBSettings

DRIVER = DriverInfo(
    name="lmdb",
    kind="kv",
    summary="memory-mapped B+tree in one file: the fastest reads, several processes",
    settings=LMDBSettings,
    factory="kvfs_kv_lmdb._driver:open_store",
    remove="kvfs_kv_lmdb._driver:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "LMDBSettings"]
