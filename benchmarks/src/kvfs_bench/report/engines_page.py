"""The key-value suite as a part of a page of HTML: who is best at what, and plots of the rest."""

from __future__ import annotations

import math
from html import escape

from kvfs_bench.kv.dictionary import NAME as HARNESS
from kvfs_bench.kv.histogram import Histogram
from kvfs_bench.kv.works import VALUE_KIB
from kvfs_bench.report.bars import NARROW, Bar, chart
from kvfs_bench.report.engines import (
    Result,
    Row,
    best_of,
    costs,
    described,
    engines_of,
    groups,
    harness_costs,
    legend_lines,
    median,
    rows_of,
    versions_of,
)
from kvfs_bench.report.figures import count, seconds
from kvfs_bench.report.plots import Axis, Series, logarithmic, percentiles, plot

_COLOURS = (
    ("#0072b2", "#4aa8e0"),
    ("#d55e00", "#f58b3c"),
    ("#009e73", "#2fc79b"),
    ("#a8487f", "#dd8bb8"),
    ("#2b93c9", "#8fd0f5"),
    ("#b98200", "#f0bd3e"),
    ("#5b4fa3", "#a79bf0"),
    ("#6b7a1e", "#b9c95a"),
    ("#7a4a2b", "#d19a73"),
    ("#6e7781", "#8b96a3"),
)
"""Light and dark.  The first ones are those of Okabe and Ito, told apart by most who see few
colours; the last is the harness's."""
_ORDER = ("lmdb", "rocksdb", "sqlite", "slatedb", "redis", "etcd", "postgres", "rados", "mdbx")
"""Engines that have a colour of their own, the same in every report."""

STYLE = (
    ":root {"
    + "".join(f"--s{n}: {light};" for n, (light, _) in enumerate(_COLOURS))
    + "} @media (prefers-color-scheme: dark) { :root {"
    + "".join(f"--s{n}: {dark};" for n, (_, dark) in enumerate(_COLOURS))
    + "} }\n"
    + "".join(
        f"svg .e{n}, svg .f{n} {{ fill: var(--s{n}); }} svg .l{n} {{ stroke: var(--s{n}); }} "
        f"svg .t{n} {{ fill: var(--s{n}); }}\n"
        for n in range(len(_COLOURS))
    )
    + """svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .name { font-weight: 600; } svg .leader { stroke: var(--soft); stroke-width: .8; }
h3.part { margin-top: 2rem; }
.grid2 { display: grid; grid-template-columns: repeat(auto-fit, minmax(27rem, 1fr)); gap: 0 1rem; }
table.heat td.number { padding: .3rem .55rem; }
table.heat td { border-bottom-color: var(--paper); }
td.cell { background: color-mix(in srgb, var(--ours) var(--share), transparent); }
td.best { font-weight: 700; }
"""
)


def colours_of(result: Result) -> dict[str, int]:
    """A colour for each engine."""
    found = {HARNESS: len(_COLOURS) - 1}
    free = [n for n in range(len(_ORDER)) if _ORDER[n] not in result["engines"]]
    for name in engines_of(result):
        if name in _ORDER:
            found[name] = _ORDER.index(name)
        elif name != HARNESS:
            found[name] = free.pop() if free else len(found) % len(_ORDER)
    return found


def body(result: Result) -> str:
    """Everything of one level of durability."""
    colours = colours_of(result)
    how = escape(described(result)).replace("**", "")
    return "".join(
        [
            f'<h2>{escape(result["title"])}</h2><p class="soft">{how}</p>',
            _who(result),
            _heat(result),
            _throughput(result, colours),
            _curves(result, colours),
            _values(result, colours),
            _space(result, colours),
            _memory(result, colours),
            _harness(result),
            _all(result),
            _heading("What the words mean"),
            _legend(result),
        ]
    )


def _heading(title: str, note: str = "") -> str:
    text = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f'<h3 class="part">{escape(title)}</h3>{text}'


def _card(title: str, drawn: str, *, note: str = "") -> str:
    if not drawn:
        return ""
    text = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f'<section class="card"><h3>{escape(title)}</h3>{text}{drawn}</section>'


def _who(result: Result) -> str:
    rows = []
    for name in engines_of(result):
        engine = result["engines"][name]
        versions = versions_of(engine)
        where = "server" if engine["is_network"] else "embedded"
        cells = (name, where, engine["summary"], versions)
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    for name, why in result["not_run"].items():
        rows.append(
            f'<tr class="soft"><td>{escape(name)}</td><td>not run</td>'
            f'<td colspan="2">{escape(why)}</td></tr>'
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _heat(result: Result) -> str:
    """Works by engines; the fuller a cell's colour, the nearer to the best in its row."""
    names = engines_of(result)
    rows = []
    for (work, clients), by_engine in groups(result, loop="closed").items():
        best = best_of(by_engine)
        cells = []
        for name in names:
            row = by_engine.get(name)
            value = median(row, "per_second")
            if value is None:
                why = escape(row["remark"]) if row else ""
                cells.append(f'<td class="number soft" title="{why}">-</td>')
                continue
            # Three tens apart and more are all the same: far behind.
            share = 0.0
            if best is not None and name != HARNESS:
                share = max(0.0, 1 + math.log10(min(value / best, 1)) / 3)
            kind = "number cell best" if value == best else "number cell"
            cells.append(
                f'<td class="{kind}" style="--share: {55 * share:.0f}%">{count(value)}</td>'
            )
        some = next(iter(by_engine.values()))
        title = work if clients == "1" else f"{work}, {clients}"
        rows.append(
            f'<tr><td>{escape(title)} <span class="soft">{escape(some["unit"])}/s</span></td>'
            f"{''.join(cells)}</tr>"
        )
    head = "".join(f"<th>{escape(name)}" for name in names)
    return (
        _heading(
            "Throughput at a glance",
            "Medians; the best of the engines is bold, and the fuller a cell's colour the nearer "
            "to it (logarithmic; none at a thousandth).",
        )
        + f'<div class="scroll"><table class="heat"><tr><th>{head}</tr>'
        + f"{''.join(rows)}</table></div>"
    )


def _bar(row: Row, label: str, number: int, figure: str, text: str) -> Bar:
    values = row["figures"].get(figure, [])
    return Bar(
        label=label,
        value=median(row, figure),
        low=min(values, default=None),
        high=max(values, default=None),
        text=text,
        kind=f"e{number}",
    )


def _throughput(result: Result, colours: dict[str, int]) -> str:
    cards = []
    for (work, clients), by_engine in groups(result, loop="closed").items():
        if by_engine and next(iter(by_engine.values()))["family"] == "values":
            continue  # they have a plot of their own
        bars = []
        for name, row in by_engine.items():
            value = median(row, "per_second")
            if name == HARNESS:
                continue
            text = (row["remark"] or "-") if value is None else count(value)
            bars.append(_bar(row, name, colours[name], "per_second", text))
        bars.sort(key=lambda bar: -(bar.value or 0))
        if any(bar.value for bar in bars):
            unit = f"{next(iter(by_engine.values()))['unit']} per second"
            title = work if clients == "1" else f"{work}, {clients}"
            cards.append(_card(title, chart(bars, unit=unit, widths=NARROW)))
    return (
        _heading("Throughput", "Medians over the rounds, whiskers from the worst to the best.")
        + f'<div class="grid2">{"".join(cards)}</div>'
    )


def _curves(result: Result, colours: dict[str, int]) -> str:
    """Latency by percentile at a fixed rate."""
    cards = []
    for (work, rate), by_engine in groups(result, loop="open").items():
        series = []
        for name, row in by_engine.items():
            histogram = Histogram.from_dict(row["histogram"])
            if histogram.total < 20 or name == HARNESS:
                continue
            percents = _percents(histogram.total)
            values = [max(value, 1) / 1e3 for value in histogram.percentiles_ns(percents)]
            points = [*zip(percents, values, strict=True)]
            series.append(Series(label=name, number=colours[name], points=points))
        if series:
            y = _micro_axis([value for each in series for _, value in each.points])
            x = percentiles(max(point[0] for each in series for point in each.points))
            note = f"at {rate} of each engine's own throughput"
            cards.append(_card(f"{work}: latency", plot(series, x, y), note=note))
    if not cards:
        return ""
    return _heading(
        "Latency at a fixed rate",
        "From the time at which an operation was to begin, so that waiting behind a slow one "
        "counts. A curve ends where fewer than ten operations were slower.",
    ) + "".join(cards)


def _percents(total: int) -> list[float]:
    """From 0 to where ten values are left, evenly on an axis of nines."""
    last = -math.log10(10 / total)
    return [100 * (1 - 10 ** -(last * step / 60)) for step in range(61)]


def _micro_axis(values: list[float]) -> Axis:
    def text(value: float) -> str:
        if value >= 1e6:
            return f"{value / 1e6:g} s"
        return f"{value / 1e3:g} ms" if value >= 1e3 else f"{value:g} us"

    return logarithmic("latency", values, text)


def _values(result: Result, colours: dict[str, int]) -> str:
    cards = []
    found = groups(result, loop="closed")
    for verb in ("put", "get"):
        series = []
        for name in engines_of(result):
            points = [
                (float(kib), value * kib / 1024)
                for kib in VALUE_KIB
                if (row := found.get((f"{verb} {kib} KiB", "1"), {}).get(name))
                and (value := median(row, "per_second")) is not None
            ]
            if points:
                series.append(Series(label=name, number=colours[name], points=points))
        if series:
            x = Axis(
                title="size of a value",
                low=VALUE_KIB[0] / 1.15,
                high=VALUE_KIB[-1] * 1.15,
                ticks=[(float(kib), f"{kib} KiB") for kib in VALUE_KIB],
            )
            rates = [value for each in series for _, value in each.points]
            y = logarithmic("MiB per second", rates, lambda value: f"{value:,g}")
            note = "one commit each" if verb == "put" else "at random"
            cards.append(_card(f"{verb.capitalize()} values", plot(series, x, y), note=note))
    return _heading("Size of values") + "".join(cards) if cards else ""


def _space(result: Result, colours: dict[str, int]) -> str:
    """What an ingest writes and what it leaves, and what opening takes."""
    series = []
    opens: dict[str, list[Bar]] = {"open, ms": [], "open after kill -9, ms": []}
    for name in engines_of(result):
        found = costs(result, name)
        space, written = found["on disk per byte put"], found["written per byte put, ingest"]
        if space and written:
            points = [(space, written)]
            series.append(Series(label=name, number=colours[name], points=points))
        for title, bars in opens.items():
            if (value := found[title]) is not None:
                bars.append(
                    Bar(
                        label=name,
                        value=value,
                        text=f"{seconds(value)} ms",
                        kind=f"e{colours[name]}",
                    )
                )
    drawn = ""
    if series:
        points = [point for each in series for point in each.points]
        x = logarithmic("bytes on disk per byte put", [p[0] for p in points], "{:g}".format)
        y = logarithmic("bytes written per byte put", [p[1] for p in points], "{:g}".format)
        drawn = plot(series, x, y)
    cards = _card("Written and kept", drawn, note="after the ingest, closed; near 1 is best")
    titles = {"open, ms": "Opened after a clean close", "open after kill -9, ms": "After kill -9"}
    reopened = "".join(
        _card(titles[title], chart(bars, unit="milliseconds", widths=NARROW))
        for title, bars in opens.items()
        if bars
    )
    if not cards and not reopened:
        return ""
    return f'{_heading("Disk, and opening again")}{cards}<div class="grid2">{reopened}</div>'


def _memory(result: Result, colours: dict[str, int]) -> str:
    cards = ""
    for who in ("client", "server"):
        bars = []
        for name in engines_of(result):
            found = costs(result, name)
            own, whole = found[f"{who} MiB, anonymous"], found[f"{who} MiB, all"]
            if own is not None and whole is not None:
                text = f"{own:.0f} MiB; {whole:.0f} with files"
                kind = f"e{colours[name]}"
                bars.append(Bar(label=name, value=own, text=text, kind=kind))
        if bars:
            cards += _card(
                f"Memory of the {who}", chart(bars, unit="MiB, anonymous", widths=NARROW)
            )
    note = "The highest at the end of any work with one client; Python and harness are in it."
    return f'{_heading("Memory", note)}<div class="grid2">{cards}</div>'


def _harness(result: Result) -> str:
    found = harness_costs(result)
    text = ", ".join(f"{work} {seconds(value)}" for work, value in found.items())
    return _heading(
        "What the harness takes",
        "Microseconds for each step, over a dictionary in place of an engine, at the median: "
        f"{text}.",
    )


def _all(result: Result) -> str:
    head = ["work", "engine", "clients", "loop", "caches", "", "per second, by round"]
    head += ["p50 us", "p99 us", "p99.9 us", "max us", "client CPU us", "server CPU us"]
    rows = []
    for texts, numbers in rows_of(result):
        cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
        cells += "".join(f'<td class="number">{number}</td>' for number in numbers)
        rows.append(f"<tr>{cells}</tr>")
    heads = "".join(f"<th>{name}" for name in head)
    return (
        f"<details><summary>All {len(rows)} rows</summary>"
        f'<div class="scroll"><table><tr>{heads}</tr>{"".join(rows)}</table></div></details>'
    )


def _legend(result: Result) -> str:
    lines = [
        f"<li>{f'<b>{escape(about)}</b>: ' if about else ''}{escape(text)}</li>"
        for about, text in legend_lines(result)
    ]
    return f'<ul class="soft">{"".join(lines)}</ul>'
