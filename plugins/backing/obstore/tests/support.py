"""Settings out of tables."""

from __future__ import annotations

from typing import Any, TypeVar

from kvfs.config import structure

T = TypeVar("T")


def structured(settings: type[T], table: dict[str, Any]) -> T:
    """A table as the settings that it stands for."""
    given = {name: value for name, value in table.items() if value is not None}
    return structure(given, settings, where="[backing]")
