"""Is there room in the pool?

An OSD looks at the data that a write adds, not at its omap, so a full pool would go on to take
records until its disks refuse everything, deletes too.  So batches that put records ask the
monitors first, whose mark comes earlier (``mon_osd_full_ratio``); not each, but every few seconds.
"""

from __future__ import annotations

import time

from kvfs.errors import Exhausted
from kvfs_kv_rados._cluster import Cluster

_TRUSTED_S = 2.0


class Room:
    """Remembers for a while what the monitors said."""

    def __init__(self, cluster: Cluster, *, what: str) -> None:
        self._cluster = cluster
        self._what = what
        self._asked_s = float("-inf")

    def check(self) -> None:
        """Within :meth:`Cluster.using`.

        :raises Exhausted: the pool is full, or has reached its quota.
        """
        now_s = time.monotonic()
        if now_s - self._asked_s < _TRUSTED_S:
            return
        flags = self._cluster.pool_state().get("flags_names", "").split(",")
        if "full" in flags or "full_quota" in flags:
            raise Exhausted(f"{self._what}: the pool is full: add disks, or delete")
        self._asked_s = now_s


__all__ = ["Room"]
