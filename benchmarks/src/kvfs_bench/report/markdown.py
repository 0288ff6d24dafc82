"""Results as Markdown.  Works on the JSON form, so that an old result can be shown again."""

from __future__ import annotations

import statistics
from typing import Any

from kvfs_bench.kv.result import KIND as ENGINES
from kvfs_bench.report import engines, sizes, stores
from kvfs_bench.report.figures import by_work, count, mib, ratio, requests, seconds, spread
from kvfs_bench.report.tables import table
from kvfs_bench.size.result import KIND as SIZES
from kvfs_bench.stores.result import KIND as STORES

_OWN_FORM = {ENGINES: engines.suite, SIZES: sizes.suite, STORES: stores.suite}
"""Suites that are no list of times."""

_MET = {True: "**met**", False: "not met", None: "cannot say"}


def environment(record: dict[str, Any]) -> str:
    """The machine and the versions, one line each."""
    return "\n".join(f"- {line}" for line in environment_lines(record))


def environment_lines(record: dict[str, Any]) -> list[str]:
    """The same as text."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return [
        f"{record['date']}; {record['cpu']}, {record['cores']} cores, "
        f"{record['memory_gib']} GiB; Linux {record['kernel']}; {record['filesystem']} on the "
        "local disk",
        versions,
        f"all processes on the CPUs {record['cpus']}"
        if record["cpus"]
        else "processes on whichever core the kernel chose",
        "kernel caches were dropped where a state below says so"
        if record["caches_dropped"]
        else "kernel caches were NOT dropped (that takes root): what a new mount does not "
        "hold may still be in them",
    ]


def full(report: dict[str, Any]) -> str:
    """All that was measured."""
    parts = [environment(report["environment"])]
    parts += [suite(result) for result in report["suites"]]
    return "\n\n".join(parts)


def suite(result: dict[str, Any]) -> str:
    """One suite: its inputs, everything that was measured, and the legend."""
    if own := _OWN_FORM.get(result["kind"]):
        return f"## {result['title']}\n\n{own(result)}\n"
    parts = [f"## {result['title']}", _inputs(result), *_goals(result), _measurements(result)]
    memory = _memory(result)
    if memory:
        parts += ["Peaks of the resident memory of the process at work:", memory]
    parts.append(_legend(result))
    return "\n\n".join(parts) + "\n"


def brief(report: dict[str, Any]) -> str:
    """The report in short, for the README: medians, speeds, peaks, and what they hold for."""
    parts = [environment(report["environment"])]
    for result in report["suites"]:
        if own := _OWN_FORM.get(result["kind"]):
            parts += [f"### {result['title']}", own(result, brief=True)]
            continue
        short = _matrix if len(result["references"]) > 1 else _brief
        parts += [f"### {result['title']}", _inputs(result), *_goals(result)]
        parts += [short(result), _legend(result)]
    return "\n\n".join(parts)


def _goals(result: dict[str, Any]) -> list[str]:
    """The goals, and whether they were reached."""
    if not result["goals"]:
        return []
    rows = [
        [goal["work"], goal["goal"], goal["measured"], _MET[goal["met"]]]
        for goal in result["goals"]
    ]
    told = [goal["met"] for goal in result["goals"] if goal["met"] is not None]
    met = f"{sum(told)} of {len(told)} met, {len(rows) - len(told)} cannot be said"
    text = f"Goals, set for scale 1: {met}."
    return [text, table(["work", "goal", "measured: median (worst - best)", ""], rows)]


def _matrix(result: dict[str, Any]) -> str:
    """Speeds beside the reference that each row's state calls for: works by contestants."""
    names = [*dict.fromkeys(item["contestant"] for item in result["measurements"])]
    found: dict[str, dict[str, str]] = {}
    for item in by_work(result):
        speed = ratio(item, result)
        text = item["remark"] if speed is None else f"{speed['median']:.2f}"
        found.setdefault(item["work"], {})[item["contestant"]] = text
    rows = [[work, *(cells.get(name, "") for name in names)] for work, cells in found.items()]
    first, second = result["references"]
    note = f"Speed, where {first} is 1; in second passes and where that is missing, {second}."
    return f"{note}\n\n{table(['work', *names], rows)}"


def _head(*columns: str) -> list[str]:
    return ["work", "contestant", "caches", "durability", "median s", *columns, "per second"]


def _named(item: dict[str, Any]) -> list[str]:
    return [item["work"], item["contestant"], item["state"], item["durability"]]


def _rate(item: dict[str, Any]) -> str:
    return f"{count(item['per_second'])} {item['unit']}"


def _speeds(item: dict[str, Any], result: dict[str, Any]) -> list[str]:
    found = [item["speeds"].get(name) for name in result["references"]]
    return ["" if speed is None else f"{speed['median']:.2f}" for speed in found]


def _brief(result: dict[str, Any]) -> str:
    head = _head("best - worst s")
    head += [f"speed, {name} = 1" for name in result["references"]]
    rows = []
    for item in by_work(result):
        if item["median_s"] is None:
            continue
        peak = item["peak_bytes"]
        row = [*_named(item), seconds(item["median_s"]), spread(item), _rate(item)]
        row += _speeds(item, result)
        row += [f"{mib(peak['total'])} ({mib(peak['anonymous'])})" if peak else ""]
        rows.append(row)
    return table([*head, "peak MiB (anonymous)"], rows)


def _inputs(result: dict[str, Any]) -> str:
    lines = [f"Scale {result['scale']:g}, {result['rounds']} rounds, contestants interleaved."]
    for name, facts in result["datasets"].items():
        described = ", ".join(
            f"{count(value)} {key.replace('_', ' ')}" for key, value in facts.items()
        )
        lines.append(f"Input *{name}*: {described}.")
    return "\n".join(lines)


def _measurements(result: dict[str, Any]) -> str:
    has_requests = any(item["requests"] for item in result["measurements"])
    head = _head("best s", "worst s")
    head += ["client CPU s", "server CPU s"]
    head += ["requests each", "server CPU us each"] if has_requests else []
    head += [f"speed, {name} = 1" for name in result["references"]]
    has_remarks = any(item["remark"] for item in result["measurements"])
    head += ["remark"] if has_remarks else []
    rows = []
    for item in by_work(result):
        row = _named(item)
        if item["median_s"] is None:
            row += [""] * (len(head) - len(row))
        else:
            times = (item["median_s"], min(item["wall_s"]), max(item["wall_s"]))
            row += [*map(seconds, times), _rate(item)]
            row += [_median(item["cpu_s"]), _median(item["server_cpu_s"])]
            if has_requests:
                each = item["server_cpu_s_each"]
                row += [requests(item), "" if each is None else seconds(each * 1e6)]
            row += _speeds(item, result)
            row += [""] if has_remarks else []
        if has_remarks:
            row[-1] = item["remark"]
        rows.append(row)
    return table(head, rows)


def _median(values: list[float]) -> str:
    return seconds(statistics.median(values)) if values else ""


def _memory(result: dict[str, Any]) -> str:
    rows = []
    for item in result["measurements"]:
        peak = item["peak_bytes"]
        if peak:
            sizes = [mib(peak[name]) for name in ("total", "anonymous", "file")]
            rows.append([item["work"], item["contestant"], *sizes])
    return (
        table(["work", "process", "peak MiB", "anonymous MiB", "file-backed MiB"], rows)
        if rows
        else ""
    )


def legend_lines(result: dict[str, Any]) -> list[tuple[str, str]]:
    """(what it is about, text): states, durabilities, notes, who is missing, checks."""
    lines = [(f"caches {name}", text) for name, text in result["states"].items()]
    lines += [(f"durability {name}", text) for name, text in result["durabilities"].items()]
    lines += [("", note) for note in result["notes"]]
    lines += [(f"missing {name}", how) for name, how in result["missing"].items()]
    checks = ", ".join(f"{times} x {what}" for what, times in result["checks"].items())
    return [*lines, ("", f"answers compared with the truth in this run: {checks}")]


def _legend(result: dict[str, Any]) -> str:
    lines = []
    for about, text in legend_lines(result):
        kind, _, name = about.partition(" ")
        lines.append(f"- {kind} **{name}**: {text}" if about else f"- {text}")
    return "\n".join(lines)
