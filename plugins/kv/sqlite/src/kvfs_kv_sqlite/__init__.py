"""SQLite as an engine of KVFS: a B-tree in one file with a write-ahead log, for many processes.

This module is importable without the native library; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_sqlite._settings import CAPABILITY, SQLiteSettings

DRIVER = DriverInfo(
    name="sqlite",
    kind="kv",
    summary="B-tree in one file with a write-ahead log: everywhere, several processes",
    settings=SQLiteSettings,
    factory="kvfs_kv_sqlite._driver:open_store",
    remove="kvfs_kv_sqlite._directory:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "SQLiteSettings"]
