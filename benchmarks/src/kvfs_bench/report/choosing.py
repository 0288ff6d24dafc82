"""What the published results say to somebody who chooses an engine, for a page of the docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvfs.errors import Corrupt
from kvfs_bench.kv.dictionary import NAME as HARNESS
from kvfs_bench.kv.result import KIND
from kvfs_bench.publish import newest
from kvfs_bench.report.engines import (
    Result,
    best_of,
    costs,
    engines_of,
    groups,
    median,
    versions_of,
)
from kvfs_bench.report.figures import count, seconds
from kvfs_bench.report.markdown import environment_lines
from kvfs_bench.report.tables import table

FAMILIES = ("ingest", "lookup", "readdir", "create-rename", "rmtree")
"""What a volume of tarballs has an engine do."""
COSTS = {
    "on disk per byte put": "on disk, of each byte put",
    "written per byte put, ingest": "written to disk for each byte put",
    "client MiB, anonymous": "MiB of memory, client",
    "server MiB, anonymous": "MiB of memory, server",
    "open, ms": "ms to open",
}
"""Columns of :func:`~kvfs_bench.report.engines.costs`, as they are called here."""


def between(page: str, part: str, text: str) -> str:
    """The page with what is between the two comments that name the part replaced.

    :raises Corrupt: the page has no such comments.
    """
    begin, end = f"<!-- {part}: written by docs/generate.py -->", f"<!-- end of {part} -->"
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise Corrupt(f"the page does not hold the lines {begin} and {end}")
    return "\n\n".join(filter(None, (before + begin, text, end))) + after


def figures(results: Path) -> str:
    """Throughput and costs of each engine, a section for each durability; empty: no results.

    :param results: where results are published.
    """
    sections = [
        (report, result)
        for report in newest(results)
        for result in report["suites"]
        if result["kind"] == KIND
    ]
    return "\n\n".join(_section(report, result) for report, result in sections)


def _section(report: dict[str, Any], result: Result) -> str:
    machine, *_ = environment_lines(report["environment"])
    versions = [
        f"{name}: {versions_of(result['engines'][name])}"
        for name in engines_of(result)
        if name != HARNESS
    ]
    parts = [
        f"### Commits of durability {result['durability']}",
        f"Operations per second of one client, medians of {result['rounds']} rounds, the best in "
        f"bold. {machine}. Servers ran on the same machine, one of each: no network, no replicas.",
        _throughput(result),
        "What it costs besides time:",
        _costs(result),
        f"Versions: {'; '.join(versions)}.",
    ]
    if result["not_run"]:
        missing = "; ".join(f"{name}: {why}" for name, why in result["not_run"].items())
        parts.append(f"Not run: {missing}.")
    return "\n\n".join(parts)


def _throughput(result: Result) -> str:
    names = [name for name in engines_of(result) if name != HARNESS]
    rows = []
    for (work, clients), by_engine in groups(result, loop="closed").items():
        some = next(iter(by_engine.values()))
        if clients != "1" or some["family"] not in FAMILIES:
            continue
        best = best_of(by_engine)
        values = {name: median(by_engine.get(name), "per_second") for name in names}
        cells = [
            "-" if value is None else f"**{count(value)}**" if value == best else count(value)
            for value in values.values()
        ]
        rows.append([f"{work}, {some['unit']}/s", *cells])
    return table(["work", *names], rows)


def _costs(result: Result) -> str:
    rows = []
    for name in engines_of(result):
        if name != HARNESS:
            found = costs(result, name)
            values = [found[head] for head in COSTS]
            rows.append([name, *("-" if value is None else seconds(value) for value in values)])
    return table(["engine", *COSTS.values()], rows)


__all__ = ["between", "figures"]
