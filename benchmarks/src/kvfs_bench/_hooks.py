"""What is added to ``kvfs``: the commands ``kvfs bench ...``, imported when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvfs.hooks import hookimpl

if TYPE_CHECKING:
    from cyclopts import App


@hookimpl
def kvfs_commands(app: App) -> None:
    """The group ``bench``."""
    from kvfs_bench._commands import add

    add(app)
