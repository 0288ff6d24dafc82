"""Results as Markdown.  Works on the JSON form, so that an old result can be shown again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def seconds(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def count(value: float) -> str:
    """A count or rate, grouped by thousands, of three or four digits that mean something."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def environment(record: dict[str, Any]) -> str:
    """The machine and the versions, one line each."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [
        f"- {record['date']}; {record['cpu']}, {record['cores']} cores, "
        f"{record['memory_gib']} GiB; Linux {record['kernel']}; {record['filesystem']} on the "
        "local disk",
        f"- {versions}",
        f"- all processes on the CPUs {record['cpus']}"
        if record["cpus"]
        else "- processes on whichever core the kernel chose",
        "- kernel caches were dropped where a state below says so"
        if record["caches_dropped"]
        else "- kernel caches were NOT dropped (that takes root): what a new mount does not "
        "hold may still be in them",
    ]
    return "\n".join(lines)


def full(report: dict[str, Any]) -> str:
    """All that was measured."""
    parts = [environment(report["environment"])]
    parts += [suite(result) for result in report["suites"]]
    return "\n\n".join(parts)


def suite(result: dict[str, Any]) -> str:
    """One suite: its inputs, everything that was measured, and the legend."""
    parts = [f"## {result['title']}", _inputs(result), _measurements(result)]
    memory = _memory(result)
    if memory:
        parts += ["Peaks of the resident memory of the process at work:", memory]
    parts.append(_legend(result))
    return "\n\n".join(parts) + "\n"


def brief(report: dict[str, Any]) -> str:
    """The report in short, for the README: medians, speeds, peaks, and what they hold for."""
    parts = [environment(report["environment"])]
    for result in report["suites"]:
        parts += [f"### {result['title']}", _inputs(result), _brief(result), _legend(result)]
    return "\n\n".join(parts)


def _brief(result: dict[str, Any]) -> str:
    reference = result["reference"]
    head = [
        "work",
        "contestant",
        "caches",
        "durability",
        "median s",
        "best - worst s",
        "per second",
    ]
    head += [f"speed, {reference} = 1"] if reference else []
    head += ["peak MiB (anonymous)"]
    rows = []
    for item in _by_work(result):
        peak = item["peak_bytes"]
        row = [item["work"], item["contestant"], item["state"], item["durability"]]
        best, worst = min(item["wall_s"]), max(item["wall_s"])
        row += [seconds(item["median_s"]), f"{seconds(best)} - {seconds(worst)}"]
        row += [f"{count(item['per_second'])} {item['unit']}"]
        row += [_speed(item)] if reference else []
        row += [f"{_mib(peak['total'])} ({_mib(peak['anonymous'])})" if peak else ""]
        rows.append(row)
    return table(head, rows)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f}"


def _speed(item: dict[str, Any]) -> str:
    return "" if item["speed"] is None else f"{item['speed']:.2f}"


def _by_work(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The measurements, those of one work together."""
    works = dict.fromkeys(item["work"] for item in result["measurements"])
    order = {work: number for number, work in enumerate(works)}
    return sorted(result["measurements"], key=lambda item: order[item["work"]])


def _inputs(result: dict[str, Any]) -> str:
    lines = [f"Scale {result['scale']:g}, {result['rounds']} rounds, contestants interleaved."]
    for name, facts in result["datasets"].items():
        described = ", ".join(
            f"{count(value)} {key.replace('_', ' ')}" for key, value in facts.items()
        )
        lines.append(f"Input *{name}*: {described}.")
    return "\n".join(lines)


def _measurements(result: dict[str, Any]) -> str:
    reference = result["reference"]
    head = [
        "work",
        "contestant",
        "caches",
        "durability",
        "median s",
        "best s",
        "worst s",
        "per second",
    ]
    head += ["client CPU s", "server CPU s"]
    head += [f"speed, {reference} = 1"] if reference else []
    rows = []
    for item in _by_work(result):
        row = [
            item["work"],
            item["contestant"],
            item["state"],
            item["durability"],
            seconds(item["median_s"]),
            seconds(min(item["wall_s"])),
            seconds(max(item["wall_s"])),
            f"{count(item['per_second'])} {item['unit']}",
            _median(item["cpu_s"]),
            _median(item["server_cpu_s"]),
        ]
        row += [_speed(item)] if reference else []
        rows.append(row)
    return table(head, rows)


def _median(values: list[float]) -> str:
    return seconds(sorted(values)[len(values) // 2]) if values else ""


def _memory(result: dict[str, Any]) -> str:
    rows = []
    for item in result["measurements"]:
        peak = item["peak_bytes"]
        if peak:
            mib = [_mib(peak[name]) for name in ("total", "anonymous", "file")]
            rows.append([item["work"], item["contestant"], *mib])
    return (
        table(["work", "process", "peak MiB", "anonymous MiB", "file-backed MiB"], rows)
        if rows
        else ""
    )


def _legend(result: dict[str, Any]) -> str:
    lines = [f"- caches **{name}**: {text}" for name, text in result["states"].items()]
    lines += [f"- durability **{name}**: {text}" for name, text in result["durabilities"].items()]
    lines += [f"- {note}" for note in result["notes"]]
    lines += [f"- missing: **{name}**: {how}" for name, how in result["missing"].items()]
    checks = ", ".join(f"{times} x {what}" for what, times in result["checks"].items())
    lines.append(f"- answers compared with the truth in this run: {checks}")
    return "\n".join(lines)
