"""A complete, tiny way into a volume, to copy from: its files over HTTP, read-only."""

from __future__ import annotations

from kvfs.registry import DriverInfo
from kvfs_frontend_template._settings import CAPABILITY, TemplateSettings

DRIVER = DriverInfo(
    name="template",
    kind="frontend",
    summary="files over HTTP on the loopback interface, read-only: to copy from",
    settings=TemplateSettings,
    factory="kvfs_frontend_template._frontend:open_frontend",
    capability=CAPABILITY,
)

__all__ = ["DRIVER", "TemplateSettings"]
