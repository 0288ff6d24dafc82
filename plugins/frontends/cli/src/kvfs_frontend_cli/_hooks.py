"""The CLI's own part in the broadcasts: its commands and checks, as any plugin adds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvfs.hooks import Check, hookimpl

if TYPE_CHECKING:
    from cyclopts import App


@hookimpl
def kvfs_commands(app: App) -> None:
    """Every command of the table, imported when it is used."""
    from kvfs_frontend_cli._app import add

    add(app)


@hookimpl
def kvfs_doctor_checks() -> Iterable[Check]:
    """What every machine needs."""
    from kvfs_frontend_cli._checks import checks

    return checks()
