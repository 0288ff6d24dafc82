"""The size suite as a part of a page of HTML: formulas, what they predict, what files take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from kvfs_bench.report.bars import NARROW, Bar, chart
from kvfs_bench.report.engines_page import colours_of
from kvfs_bench.report.plots import Axis, Series, logarithmic, plot
from kvfs_bench.report.sizes import (
    PARTS,
    Result,
    described,
    entries,
    error_text,
    flat_in,
    index_bytes,
    is_same,
    legend_lines,
    pairs,
    predicted,
    records_text,
)
from kvfs_bench.size.design import LARGER, REAL
from kvfs_bench.size.model import CONSTANT, Formula
from kvfs_bench.size.result import FIGURES, TERMS, percent, size_text

_SIDE, _LEFT, _BOTTOM, _RIGHT = 400, 66, 44, 130
_MIB = 1 << 20
_MEAN_KIB = (0.25, 0.5, 1, 2, 4, 8, 16, 32)

STYLE = """
svg .ring { fill: var(--paper); stroke-width: 2.4; } svg .diagonal { stroke: var(--soft); }
td.formula { font-family: ui-monospace, monospace; font-size: .82rem; }
"""


def body(result: Result) -> str:
    """Everything."""
    colours = colours_of(result)
    style = STYLE + "".join(
        f"svg .ring.f{n} {{ fill: var(--paper); stroke: var(--s{n}); }} "
        for n in set(colours.values())
    )
    parts = [
        f"<style>{style}</style>",
        f'<h2>{escape(result["title"])}</h2><p class="soft">{escape(described(result))}</p>',
        f"<p>{escape(records_text(result))}</p>",
    ]
    for title, figures in PARTS.items():
        if table := _formulas(result, title, figures):
            parts += [f'<h3 class="part">{escape(title)}</h3>', table]
        if title == "Disk":
            parts += [_disk(result, colours), _scatter(result, colours)]
        if title == "Memory of the mount":
            parts.append(_mounts(result, colours))
    return "".join([*parts, '<h3 class="part">What the words mean</h3>', _legend(result)])


def _card(title: str, drawn: str, *, note: str = "") -> str:
    text = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f'<section class="card"><h3>{escape(title)}</h3>{text}{drawn}</section>' if drawn else ""


def _formulas(result: Result, part: str, figures: Sequence[str]) -> str:
    rows = []
    for name in figures:
        for number, entry in enumerate(entries(result, name)):
            text = "as before compacting" if is_same(result, entry) else entry["text"]
            title = FIGURES[name].title if number == 0 else ""
            cells = [title, entry["engine"], text, error_text(entry)]
            cells += [predicted(entry, LARGER), predicted(entry, REAL)]
            cells.append("" if part == "Disk" else flat_in(entry))
            marked = (' class="formula"' if place == 2 else "" for place in range(len(cells)))
            rows.append(
                "<tr>"
                + "".join(
                    f"<td{kind}>{escape(cell)}</td>"
                    for cell, kind in zip(cells, marked, strict=True)
                )
                + "</tr>"
            )
    if not rows:
        return ""
    head = ["what", "engine", "formula", "error, typical (worst)", "3 x files", "standard library"]
    head.append("" if part == "Disk" else "no growth seen with")
    heads = "".join(f"<th>{escape(name)}" for name in head)
    return f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'


def _disk(result: Result, colours: dict[str, int]) -> str:
    """What a file takes besides its contents, and how much more than its bytes it takes."""
    bars, series = [], []
    for entry in entries(result, "disk_ingested"):
        name = entry["engine"]
        if "files" in entry["coefficients"]:
            value = index_bytes(entry)
            kind = f"e{colours[name]}"
            bars.append(Bar(label=name, value=value, text=f"{value:.0f} B", kind=kind))
        if "bytes" not in entry["coefficients"]:
            continue  # its volumes were too small for that to be seen
        points = []
        for kib in _MEAN_KIB:
            files = 100_000
            amounts = dict.fromkeys(TERMS, 0.0) | {
                CONSTANT: 0.0,
                "files": files,
                "bytes": files * kib * 1024,
                "names": files * 20,
            }
            size = Formula.of_dict(entry).predict(amounts)
            points.append((kib, size / amounts["bytes"]))
        series.append(Series(label=name, number=colours[name], points=points))
    if not bars:
        return ""
    drawn = _card(
        "Index: a file without its contents",
        chart(bars, unit="bytes on disk, a name of 20", widths=NARROW),
    )
    if series:
        x = logarithmic("mean size of files", _MEAN_KIB, lambda kib: f"{kib:g} KiB")
        y = logarithmic(
            "bytes on disk per byte of contents",
            [value for each in series for _, value in each.points],
            "{:g}".format,
        )
        note = "Many files, names of 20 bytes, no file in extents; contents that do not compress."
        drawn += _card("Small files cost more", plot(series, x, y), note=note)
    return drawn


def _scatter(result: Result, colours: dict[str, int]) -> str:
    """Predicted by measured, on equal logarithmic axes."""
    found = pairs(result, "disk_ingested")
    found = {
        name: [(a / _MIB, b / _MIB, held_out) for a, b, held_out in points if b > 0]
        for name, points in found.items()
    }
    values = [value for points in found.values() for a, b, _ in points for value in (a, b)]
    if not values:
        return ""
    axis = logarithmic("", values, "{:g} MiB".format)
    width, height = _LEFT + _SIDE + _RIGHT, _SIDE + _BOTTOM + 12
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        'aria-label="predicted by measured size">'
    ]
    for value, text in _few(axis):
        x, y = _LEFT + axis.part(value) * _SIDE, 12 + (1 - axis.part(value)) * _SIDE
        parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="12" y2="{12 + _SIDE}"/>'
            f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + _SIDE}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{x:.1f}" y="{_SIDE + 28}" text-anchor="middle">{text}</text>'
            f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    parts.append(
        f'<line class="diagonal" x1="{_LEFT}" y1="{12 + _SIDE}" x2="{_LEFT + _SIDE}" y2="12"/>'
        f'<text class="tick" x="{_LEFT + _SIDE / 2}" y="{_SIDE + 50}" text-anchor="middle">'
        f'measured</text><text class="tick" x="13" y="{12 + _SIDE / 2}" text-anchor="middle" '
        f'transform="rotate(-90 13 {12 + _SIDE / 2})">predicted</text>'
    )
    for row, (name, points) in enumerate(found.items()):
        number = colours[name]
        for measured, guess, is_held_out in points:
            x = _LEFT + axis.part(measured) * _SIDE
            y = 12 + (1 - axis.part(guess)) * _SIDE
            kind, radius = (f"ring f{number}", 5) if is_held_out else (f"f{number}", 3.2)
            parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>')
        top = 24 + row * 18
        parts.append(
            f'<circle class="f{number}" cx="{_LEFT + _SIDE + 22}" cy="{top}" r="4"/>'
            f'<text class="name t{number}" x="{_LEFT + _SIDE + 32}" y="{top + 4}">'
            f"{escape(name)}</text>"
        )
    note = "Disk after the ingest, each volume a mark; rings were not fitted but predicted."
    return _card("Predicted and measured", "".join([*parts, "</svg>"]), note=note)


def _few(axis: Axis) -> list[tuple[float, str]]:
    """Ticks at powers of ten only, where there are many."""
    tens = [tick for tick in axis.ticks if math.isclose(math.log10(tick[0]) % 1, 0, abs_tol=1e-9)]
    return tens if len(tens) > 2 else [*axis.ticks]


def _mounts(result: Result, colours: dict[str, int]) -> str:
    bars = []
    for entry in entries(result, "serving_anonymous"):
        value = entry["coefficients"].get(CONSTANT, 0.0)
        grows = [
            f"{size_text(each)} a {TERMS[term].removesuffix('s')}"
            for term, each in entry["coefficients"].items()
            if term != CONSTANT
        ]
        text = "; ".join([size_text(value), *grows]) + f", +-{percent(entry['error_worst'])}"
        kind = f"e{colours[entry['engine']]}"
        bars.append(Bar(label=entry["engine"], value=value / _MIB, text=text, kind=kind))
    return _card("Before anything grows", chart(bars, unit="MiB, anonymous")) if bars else ""


def _legend(result: Result) -> str:
    lines = [
        f"<li>{f'<b>{escape(about)}</b>: ' if about else ''}{escape(text)}</li>"
        for about, text in legend_lines(result)
    ]
    return f'<ul class="soft">{"".join(lines)}</ul>'
