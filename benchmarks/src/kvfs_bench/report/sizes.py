"""The size suite as Markdown, and what its page of HTML and the docs share with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kvfs_bench.report.engines import versions_of
from kvfs_bench.report.tables import table
from kvfs_bench.size.design import EMPTY, LARGER, REAL
from kvfs_bench.size.model import Formula
from kvfs_bench.size.result import FIGURES, TERMS, percent, size_text, text_of

Result = dict[str, Any]
Entry = dict[str, Any]
"""A formula and what belongs to it, as in the JSON."""

NAME_BYTES = 20
"""Of the name in examples."""
_DISK = ("disk_ingested", "disk_compacted", "disk_deleted", "disk_deleted_compacted")
PARTS: Mapping[str, Sequence[str]] = {
    "Disk": _DISK,
    "Memory of the ingest": ("ingest_anonymous", "ingest_total"),
    "Memory of the mount": ("serving_anonymous", "serving_total"),
    "Memory of servers": ("server_anonymous", "server_total"),
}
"""Figures by heading."""
_SAME = 0.01


def described(result: Result) -> str:
    """How it was measured, in one line."""
    return (
        f"Scale {result['scale']:g}, {result['rounds']} rounds, seed {result['seed']}, about "
        f"{result['seconds']:g} s for the volumes of an engine in a round."
    )


def entries(result: Result, figure: str) -> list[Entry]:
    """The formulas of a figure, by engine."""
    return [entry for entry in result["formulas"] if entry["figure"] == figure]


def is_same(result: Result, entry: Entry) -> bool:
    """Does it say what the formula before compacting says?"""
    first = {"disk_compacted": "disk_ingested", "disk_deleted_compacted": "disk_deleted"}
    before = first.get(entry["figure"])
    for other in result["formulas"]:
        if (other["engine"], other["figure"]) == (entry["engine"], before):
            points = [
                (point["figures"].get(before), point["figures"].get(entry["figure"]))
                for point in result["points"]
                if point["engine"] == entry["engine"]
            ]
            return all(abs(a - b) <= _SAME * max(a, b) for a, b in points if a and b)
    return False


def index_bytes(entry: Entry) -> float:
    """What a file takes without its contents, with a name of :data:`NAME_BYTES`."""
    found = entry["coefficients"]
    return float(found.get("files", 0.0) + NAME_BYTES * found.get("names", 0.0))


def error_text(entry: Entry) -> str:
    """The errors of prediction."""
    return f"{percent(entry['error'])} ({percent(entry['error_worst'])})"


def predicted(entry: Entry, role: str) -> str:
    """What the formula says of the points of a role, in place of what was measured."""
    found = [one for one in entry["predicted"] if one["role"] == role]
    if not found:
        return "-"
    worst = max(found, key=lambda one: abs(one["error"]))
    return (
        f"{size_text(worst['predicted'])} for {size_text(worst['measured'])}: "
        f"{'+' if worst['error'] >= 0 else '-'}{percent(abs(worst['error']))}"
    )


def flat_in(entry: Entry) -> str:
    """What it does not grow with, and how much growth could not have been seen."""
    parts = [f"{TERMS[term]} (< {size_text(most)})" for term, most in entry["hidden"].items()]
    return ", ".join(parts) or "-"


def suite(result: Result, *, brief: bool = False) -> str:
    """All formulas; ``brief``: those of the disk and of memory that is no mapped file."""
    parts = [described(result), _who(result), records_text(result)]
    for title, figures in PARTS.items():
        chosen = [name for name in figures if not (brief and name.endswith("_total"))]
        parts += [f"**{title}**", formulas(result, chosen)] if _any(result, chosen) else []
    parts.append(index_table(result))
    parts.append("\n".join(f"- {_marked(about, text)}" for about, text in legend_lines(result)))
    return "\n\n".join(part for part in parts if part)


def _any(result: Result, figures: Iterable[str]) -> bool:
    return any(entries(result, name) for name in figures)


def _who(result: Result) -> str:
    rows = []
    for name, engine in result["engines"].items():
        where = "a server on this machine" if engine["is_network"] else "in the volume's process"
        most = f"{engine['files_max']:,}" if "files_max" in engine else "-"
        rows.append([name, engine["summary"], where, most, versions_of(engine)])
    return table(["engine", "what it is", "where it runs", "files, at most", "versions"], rows)


def records_text(result: Result) -> str:
    """What every engine is given."""
    text = text_of(Formula.of_dict(result["records"]))
    return f"What every engine is given, keys and values: {text}"


def formulas(result: Result, figures: Sequence[str]) -> str:
    """A table of formulas, one figure after another."""
    rows = []
    for name in figures:
        for entry in entries(result, name):
            same = is_same(result, entry)
            cells = ["the same as before compacting"] if same else [entry["text"]]
            cells += [error_text(entry), predicted(entry, LARGER), predicted(entry, REAL)]
            cells.append("-" if name in _DISK else flat_in(entry))
            rows.append([FIGURES[name].title, entry["engine"], *cells])
    if not rows:
        return ""
    head = ["what", "engine", "formula", "error, typical (worst)"]
    head += ["3 x as many files, predicted", "standard library, predicted", "no growth seen with"]
    # Nothing is predicted of mounts, and a disk is never flat.
    shown = [n for n in range(len(head)) if any(row[n] != "-" for row in rows)]
    return table([head[n] for n in shown], [[row[n] for n in shown] for row in rows])


def index_rows(result: Result) -> list[list[str]]:
    """Engine, bytes of a file without contents: after the ingest, compacted."""
    records = index_bytes({"coefficients": result["records"]["coefficients"]})
    rows = [["keys and values", f"{records:.0f} B", f"{records:.0f} B"]]
    for name in result["engines"]:
        found = [
            entry
            for figure in _DISK[:2]
            for entry in entries(result, figure)
            if entry["engine"] == name
        ]
        if found:
            # Volumes of an engine that takes disk in steps may have been too small to tell.
            texts = [
                f"{index_bytes(entry):.0f} B" if "files" in entry["coefficients"] else "-"
                for entry in found
            ]
            rows.append([name, *texts])
    return rows


def index_table(result: Result) -> str:
    """What a file takes on the disk without its contents."""
    if not _any(result, _DISK):
        return ""
    text = f"**Index**: what a file takes on the disk, its contents left out, its name {NAME_BYTES}"
    rows = index_rows(result)
    return f"{text} bytes long:\n\n{table(['engine', 'after the ingest', 'compacted'], rows)}"


def legend_lines(result: Result) -> list[tuple[str, str]]:
    """(what it is about, text): terms, points, who did not run and why, notes, checks."""
    lines = [*result["terms"].items()]
    lines += [(f"volumes, {name}", text) for name, text in result["roles"].items()]
    lines += [(f"not run: {name}", reason) for name, reason in result["not_run"].items()]
    lines += [
        (name, engine["remark"]) for name, engine in result["engines"].items() if engine["remark"]
    ]
    lines += [("", note) for note in result["notes"]]
    checks = ", ".join(f"{times:,} x {what}" for what, times in result["checks"].items())
    return [*lines, ("", f"answers compared with the truth in this run: {checks}")]


def pairs(result: Result, figure: str) -> dict[str, list[tuple[float, float, bool]]]:
    """Engine -> (measured, predicted, was it left out of the fit?) of every point."""
    found: dict[str, list[tuple[float, float, bool]]] = {}
    for entry in entries(result, figure):
        formula = Formula.of_dict(entry)
        found[entry["engine"]] = [
            (
                point["figures"][figure],
                formula.predict(point["amounts"]),
                point["role"] in (LARGER, REAL),
            )
            for point in result["points"]
            if point["engine"] == entry["engine"] and figure in point["figures"]
            if point["role"] != EMPTY
        ]
    return found


def _marked(about: str, text: str) -> str:
    return f"**{about}**: {text}" if about else text
