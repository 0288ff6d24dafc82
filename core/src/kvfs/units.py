"""Sizes and durations as people write them: ``200 GiB``, ``1.5s``."""

from __future__ import annotations

import re

from kvfs.errors import Invalid

_BYTES = {"": 1, "B": 1} | {
    prefix + suffix: base**power
    for power, prefix in enumerate("KMGTP", start=1)
    for suffix, base in (("", 1024), ("iB", 1024), ("B", 1000))
}
_SECONDS = {"": 1.0, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def _parse(text: str | int | float, table: dict[str, float], what: str) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        return text
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    unit = None
    if match is not None:
        unit = next((u for u in table if u.lower() == match[2].lower()), None)
    if match is None or unit is None:
        known = ", ".join(unit for unit in table if unit)
        raise Invalid(f"{text!r} is not a {what}: write a number and a unit of {known}")
    return float(match[1]) * table[unit]


def parse_bytes(text: str | int) -> int:
    """``"200 GiB"`` or a plain number as bytes.  K, M, ... mean 1024; KB, MB, ... mean 1000."""
    if isinstance(text, int) and not isinstance(text, bool):
        return text
    return round(_parse(text, {unit: float(n) for unit, n in _BYTES.items()}, "size"))


def parse_seconds(text: str | int | float) -> float:
    """``"50 ms"``, ``"1.5s"`` or a plain number of seconds."""
    return float(_parse(text, _SECONDS, "duration"))


def format_bytes(count: float) -> str:
    """A size for people: three significant digits and a binary unit."""
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    for unit in units:
        if abs(count) < 1024 or unit == units[-1]:
            break
        count /= 1024
    whole = unit == "B" or abs(count) >= 100
    return f"{count:.0f} {unit}" if whole else f"{count:.3g} {unit}"


def format_seconds(seconds: float) -> str:
    """A duration for people: ``850 us``, ``12.3 ms``, ``4.56 s``, ``3m07s``, ``2h05m``."""
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1, 1e3, "ms"), (60, 1, "s")):
        if seconds < limit:
            count = seconds * factor
            return f"{count:.0f} {unit}" if count >= 100 else f"{count:.3g} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
