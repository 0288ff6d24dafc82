"""etcd as an engine of KVFS: a replicated store that many hosts share.

This module is importable without gRPC; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_etcd._settings import CAPABILITY, EtcdSettings

DRIVER = DriverInfo(
    name="etcd",
    kind="kv",
    summary="replicated and watched: many hosts share one volume; some GiB at most",
    settings=EtcdSettings,
    factory="kvfs_kv_etcd._driver:open_store",
    remove="kvfs_kv_etcd._driver:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "EtcdSettings"]
