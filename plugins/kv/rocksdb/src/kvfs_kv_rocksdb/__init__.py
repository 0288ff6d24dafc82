"""RocksDB as an engine of KVFS: a log-structured merge tree in a folder, for one process.

This module is importable without the native library; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_rocksdb._settings import CAPABILITY, RocksDBSettings

DRIVER = DriverInfo(
    name="rocksdb",
    kind="kv",
    summary="log-structured merge tree in a folder: compressed, steady writes, one process",
    settings=RocksDBSettings,
    factory="kvfs_kv_rocksdb._driver:open_store",
    remove="kvfs_kv_rocksdb._directory:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "RocksDBSettings"]
