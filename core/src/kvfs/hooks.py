"""Broadcasts, and nothing but broadcasts, through pluggy.

A plugin registers an object with functions of these names, marked with :data:`hookimpl`, under the
entry-point group ``kvfs.hooks``.  Drivers are not hooks: they are looked up by name in
:mod:`kvfs.registry`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import attrs
import pluggy

if TYPE_CHECKING:
    from kvfs.tarballs.report import IngestReport
    from kvfs.volume import Volume

PROJECT = "kvfs"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Check:
    """One line of ``kvfs doctor``."""

    name: str
    ok: bool
    detail: str
    """What was found."""
    advice: str = ""
    """What to do about it, where it is not ok."""


class Specs:
    """What can be listened to."""

    @hookspec
    def kvfs_commands(self, app: Any) -> None:
        """Register commands on the CLI's cyclopts ``app``."""

    @hookspec
    def kvfs_on_mount(self, volume: Volume, target: str) -> None:
        """A volume began to be served at ``target``."""

    @hookspec
    def kvfs_on_unmount(self, volume: Volume, target: str) -> None:
        """A volume ended to be served at ``target``."""

    @hookspec
    def kvfs_on_ingest(self, volume: Volume, report: IngestReport) -> None:
        """A tarball was ingested; called in the thread that did it."""

    @hookspec
    def kvfs_doctor_checks(self) -> Iterable[Check]:  # type: ignore[empty-body]
        """Look at the machine and say what would keep KVFS from working."""


def plugin_manager() -> pluggy.PluginManager:
    """A manager with every installed hook plugin; a broken one is logged and left out."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Specs)
    for entry in entry_points(group="kvfs.hooks"):
        try:
            manager.register(entry.load(), name=entry.name)
        except Exception:
            log.exception("the hook plugin %s (%s) is broken and left out", entry.name, entry.value)
    return manager
