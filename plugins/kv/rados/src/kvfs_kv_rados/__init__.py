"""Ceph as an engine of KVFS: the records of a store are the omap of one RADOS object.

This module is importable without the native library; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_rados._settings import CAPABILITY, RadosSettings

DRIVER = DriverInfo(
    name="rados",
    kind="kv",
    summary="Ceph: the omap of RADOS objects, replicated; for volumes of few records",
    settings=RadosSettings,
    factory="kvfs_kv_rados._driver:open_store",
    remove="kvfs_kv_rados._driver:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "RadosSettings"]
