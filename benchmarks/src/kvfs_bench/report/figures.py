"""Numbers as they stand in reports."""

from __future__ import annotations

from typing import Any


def seconds(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def count(value: float) -> str:
    """A count or rate, grouped by thousands, of three or four digits that mean something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def mib(size: int) -> str:
    """Bytes in MiB."""
    return f"{size / (1 << 20):.0f}"


def spread(item: dict[str, Any]) -> str:
    """The best and the worst time."""
    return f"{seconds(min(item['wall_s']))} - {seconds(max(item['wall_s']))}"


def requests(item: dict[str, Any]) -> str:
    """Requests to user space for each file or entry; with ~ where they were not counted."""
    each = item["requests_each"]
    if each is None:
        return ""
    return f"{'~' if item['requests_are'] == 'replies' else ''}{each:.3g}"


def reference_of(item: dict[str, Any], result: dict[str, Any]) -> str:
    """The contestant that a row is compared with: in a second pass what was warm before, else what
    starts on the same footing."""
    footing, warm = result["references"][0], result["references"][-1]
    is_second = any(
        other["state"] == "again" and other["work"] == item["work"]
        for other in result["measurements"]
    )
    if is_second or footing not in item["speeds"]:
        return str(warm)
    return str(footing)


def ratio(item: dict[str, Any], result: dict[str, Any]) -> dict[str, float] | None:
    """The row's speed beside that contestant."""
    found: dict[str, float] | None = item["speeds"].get(reference_of(item, result))
    return found


def by_work(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The measurements, those of one work together."""
    works = dict.fromkeys(item["work"] for item in result["measurements"])
    order = {work: number for number, work in enumerate(works)}
    return sorted(result["measurements"], key=lambda item: order[item["work"]])
