"""PostgreSQL as an engine of KVFS: a table a store, in a server that several hosts share.

This module is importable without psycopg; :data:`DRIVER` names the factory.
"""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_postgres._settings import CAPABILITY, PostgresSettings

DRIVER = DriverInfo(
    name="postgres",
    kind="kv",
    summary="a table in a PostgreSQL server: several hosts, real transactions, watches",
    settings=PostgresSettings,
    factory="kvfs_kv_postgres._driver:open_store",
    remove="kvfs_kv_postgres._driver:remove_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "PostgresSettings"]
