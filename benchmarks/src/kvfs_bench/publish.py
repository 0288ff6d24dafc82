"""Results kept in the repository: files for each suite, and the tables of the README."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvfs.errors import Corrupt, Unsupported
from kvfs_bench.report import markdown
from kvfs_bench.report.page import page
from kvfs_bench.results import upgrade

HOME = Path(__file__).resolve().parents[2]
"""benchmarks/ of a checkout in which this is installed editable."""
_BEGIN = "<!-- results: written by kvfs bench --publish -->"
_END = "<!-- end of results -->"


def publish(report: dict[str, Any]) -> None:
    """Write ``results/<date>-<suite>.json``, ``.md`` and ``.html``, then the README's tables anew.

    :raises Unsupported: this is not installed from a checkout.
    """
    readme = HOME / "README.md"
    if not readme.is_file() or _BEGIN not in readme.read_text():
        raise Unsupported(f"--publish is for a checkout of KVFS, and {HOME} is not in one")
    for result in report["suites"]:
        one = report | {"suites": [result]}
        name = f"{report['environment']['date']}-{result['suite']}"
        (HOME / "results").mkdir(exist_ok=True)
        (HOME / "results" / f"{name}.json").write_text(json.dumps(one, indent=1) + "\n")
        (HOME / "results" / f"{name}.md").write_text(markdown.full(one))
        (HOME / "results" / f"{name}.html").write_text(page(one))
    readme.write_text(with_results(readme.read_text(), newest(HOME / "results")))


def newest(directory: Path) -> list[dict[str, Any]]:
    """The newest report of each suite; reports of one run on one machine are put together."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("*.json")):  # by date
        report = upgrade(json.loads(path.read_text()))
        for result in report["suites"]:
            found[result["suite"]] = report | {"suites": [result]}
    merged: list[dict[str, Any]] = []
    for report in found.values():
        for other in merged:
            if other["environment"] == report["environment"]:
                other["suites"] += report["suites"]
                break
        else:
            merged.append(report)
    return merged


def with_results(text: str, reports: list[dict[str, Any]]) -> str:
    """The README with its tables replaced.

    :raises Corrupt: it does not say where they are.
    """
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise Corrupt(f"README.md does not hold the lines {_BEGIN} and {_END}")
    tables = "\n\n".join(markdown.brief(report) for report in reports)
    return f"{before}{begin}\n\n{tables}\n\n{end}{after}"
