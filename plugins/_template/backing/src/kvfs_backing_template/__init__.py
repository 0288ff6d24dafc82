"""A complete, tiny backing store for KVFS, to copy from: contents in files, names in SQLite."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_backing_template._settings import CAPABILITY, TemplateSettings

DRIVER = DriverInfo(
    name="template",
    kind="backing",
    summary="contents in files, names in an SQLite index: to copy from",
    settings=TemplateSettings,
    factory="kvfs_backing_template._driver:open_store",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "TemplateSettings"]
