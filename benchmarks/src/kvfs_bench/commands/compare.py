"""``kvfs bench compare``"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kvfs.errors import Invalid, NotFound
from kvfs_bench.comparing import Change, metrics
from kvfs_bench.comparing import compare as find_changes
from kvfs_bench.report.tables import table
from kvfs_bench.results import upgrade

_SHOWN = 40
_MACHINE = {
    "cpu": "the processor",
    "cores": "the number of cores",
    "memory_gib": "the memory",
    "filesystem": "the file system",
    "cpus": "the CPUs that processes were bound to",
}
"""Fields of the environment that make a machine, and what to call them."""
_SETUP = ("scale", "rounds", "seconds", "seed", "readers", "sizes", "datasets")


def compare(
    before: Path,
    after: Path,
    /,
    *,
    fail_if_slower: Annotated[
        float | None,
        Parameter(help="Exit with 1 if anything is worse by more than so many percent."),
    ] = None,
    force: Annotated[
        bool, Parameter(help="Compare even if machine, durability or sizes differ.")
    ] = False,
    all: Annotated[bool, Parameter(help="Show every metric, and not only what changed.")] = False,
) -> int:
    """Compare two results, and print what changed as Markdown.

    Parameters
    ----------
    before
        JSON of the earlier run.
    after
        JSON of the later run.
    """
    if fail_if_slower is not None and not fail_if_slower >= 0:
        raise Invalid("--fail-if-slower must not be negative")
    reports = [_read(before), _read(after)]
    differences = _differences(*reports)
    if differences and not force:
        raise Invalid(
            f"these are not two runs of the same thing: {'; '.join(differences)} "
            "(--force compares them all the same)"
        )
    old, new = (metrics(report) for report in reports)
    changes = find_changes(old, new)
    if not changes:
        raise Invalid("the two results have nothing in common")
    sys.stdout.write(_text(reports, differences, changes, show_all=all))
    for name, found, other in (("before", old, new), ("after", new, old)):
        if alone := len(found.keys() - other.keys()):
            print(f"\n{alone} metrics are only in the one {name}.")
    limit = None if fail_if_slower is None else 1 + fail_if_slower / 100
    worse = [one for one in changes if limit and one.is_real and one.slowdown > limit]
    if worse:
        print(f"\n**{len(worse)} worse by more than {fail_if_slower:g} %.**")
    return int(bool(worse))


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
        return upgrade(report)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid(f"{path} is no result of kvfs bench (as written by --json)") from error


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What must be the same and is not."""
    found = []
    for name, words in _MACHINE.items():
        values = [report["environment"].get(name) for report in (before, after)]
        if values[0] != values[1]:
            found.append(f"{words}: {values[0]} and {values[1]}")
    suites = [{suite["suite"]: suite for suite in report["suites"]} for report in (before, after)]
    if not suites[0].keys() & suites[1].keys():
        # Levels of durability are suites of their own.
        names = [", ".join(sorted(each)) for each in suites]
        found.append(f"the suites, or their durability: {names[0]} and {names[1]}")
    for name in suites[0].keys() & suites[1].keys():
        one, other = suites[0][name], suites[1][name]
        found += [
            f"{name}: {field} {one.get(field)} and {other.get(field)}"
            for field in _SETUP
            # More rounds are only more certain.
            if field != "rounds" and one.get(field) != other.get(field)
        ]
        found += _durabilities(name, one, other)
    return found


def _durabilities(name: str, one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Measurements of the suite that were made at another durability."""
    levels = [
        {
            (item["work"], item["contestant"]): item["durability"]
            for item in suite.get("measurements", ())
        }
        for suite in (one, other)
    ]
    return [
        f"{name}: durability of {', '.join(key)}: {levels[0][key]} and {levels[1][key]}"
        for key in levels[0].keys() & levels[1].keys()
        if levels[0][key] != levels[1][key]
    ]


def _text(
    reports: list[dict[str, Any]],
    differences: list[str],
    changes: list[Change],
    *,
    show_all: bool,
) -> str:
    real = [change for change in changes if change.is_real]
    untold = sum(change.p is None for change in changes)
    parts = []
    if differences:
        parts.append(f"**Forced, although there differs:** {'; '.join(differences)}.")
    if versions := _versions(reports):
        parts.append(f"Versions: {versions}.")
    parts.append(
        f"{len(real)} of {len(changes)} metrics changed beyond noise"
        + (f"; of {untold} nothing can be said, with fewer than two rounds" if untold else "")
        + "."
    )
    shown = changes if show_all else real[:_SHOWN]
    if shown:
        head = ["suite", "work", "who", "figure", "before", "after", "change", "95 %", "p", ""]
        parts.append(table(head, [_row(change) for change in shown]))
    if len(real) > len(shown):
        parts.append(f"{len(real) - len(shown)} more: --all shows them.")
    parts.append(
        "Medians over the rounds; change of the geometric means with its 95 % confidence interval, "
        "by Welch's t-test on logarithms; p adjusted for the number of metrics "
        "(Benjamini-Hochberg), so that about 5 % at most of what is called a change are none."
    )
    return "\n\n".join(parts) + "\n"


def _row(change: Change) -> list[str]:
    interval = p = ""
    if change.low is not None and change.high is not None and change.p is not None:
        interval = f"{_percent(change.low)} to {_percent(change.high)}"
        p = f"{change.p:.2g}"
    judged = ""
    if change.is_real:
        judged = "worse" if change.slowdown > 1 else "better"
    numbers = [f"{change.before:.4g}", f"{change.after:.4g}", _percent(change.ratio), interval, p]
    return [*change.key, *numbers, judged]


def _percent(ratio: float) -> str:
    return f"{ratio:.1f}x" if ratio >= 3 else f"{100 * (ratio - 1):+.1f} %"


def _versions(reports: list[dict[str, Any]]) -> str:
    """Those that differ."""
    old, new = (_all_versions(report) for report in reports)
    return ", ".join(
        f"{name} {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    )


def _all_versions(report: dict[str, Any]) -> dict[str, str]:
    found = {"Linux": report["environment"]["kernel"], **report["environment"]["versions"]}
    for suite in report["suites"]:
        for name, engine in suite.get("engines", {}).items():
            found |= {f"{name}: {what}": text for what, text in engine["versions"].items()}
    return found
