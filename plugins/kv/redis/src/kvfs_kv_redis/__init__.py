"""Redis or Valkey as an engine of KVFS: records in the memory of a server.

This module is importable without the client library; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_redis._settings import CAPABILITY, RedisSettings

DRIVER = DriverInfo(
    name="redis",
    kind="kv",
    summary="Redis or Valkey: records in the memory of a server, shared by many machines",
    settings=RedisSettings,
    factory="kvfs_kv_redis._driver:open_store",
    remove="kvfs_kv_redis._driver:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "RedisSettings"]
