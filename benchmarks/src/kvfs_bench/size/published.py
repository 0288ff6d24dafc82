"""The formulas of the published results, for the page of the docs about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvfs.errors import Corrupt
from kvfs_bench.publish import newest
from kvfs_bench.report.markdown import environment_lines
from kvfs_bench.report.sizes import PARTS, described, formulas, index_table
from kvfs_bench.size.result import KIND

BEGIN = "<!-- formulas: written by docs/generate.py out of benchmarks/results -->"
END = "<!-- end of formulas -->"


def with_formulas(page: str, results: Path) -> str:
    """The page with its formulas replaced by those of the newest result; without any, by nothing.

    :param results: where results are published.
    :raises Corrupt: the page does not say where they are.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Corrupt(f"the page about sizes does not hold the lines {BEGIN} and {END}")
    found = [
        _formulas(report, result)
        for report in newest(results)
        for result in report["suites"]
        if result["kind"] == KIND
    ]
    return "\n\n".join([before + BEGIN, *found, END]) + after


def _formulas(report: dict[str, Any], result: dict[str, Any]) -> str:
    machine, *_ = environment_lines(report["environment"])
    parts = [f"{described(result)} {machine}."]
    for title, figures in PARTS.items():
        if text := formulas(result, [name for name in figures if not name.endswith("_total")]):
            parts += [f"### {title}", text]
    parts += ["### Index", index_table(result)]
    return "\n\n".join(part for part in parts if part)
