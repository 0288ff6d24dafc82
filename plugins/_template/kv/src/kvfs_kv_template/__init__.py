"""A complete, tiny engine for KVFS, to copy from: a log in one file, records in memory."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_kv_template._settings import CAPABILITY, TemplateSettings

DRIVER = DriverInfo(
    name="template",
    kind="kv",
    summary="a log in one file, all records in memory: to copy from, and for small volumes",
    settings=TemplateSettings,
    factory="kvfs_kv_template._driver:open_store",
    capability=CAPABILITY,
    remove="kvfs_kv_template._driver:remove_store",
)

__all__ = ["DRIVER", "TemplateSettings"]
