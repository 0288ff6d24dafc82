"""A report as one page of HTML that needs nothing else: no script, font, image or link."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from html import escape
from typing import Any

from kvfs_bench.kv.result import KIND as ENGINES
from kvfs_bench.report import engines_page, sizes_page, stores
from kvfs_bench.report.bars import Bar, chart
from kvfs_bench.report.figures import by_work, count, mib, ratio, reference_of, requests, seconds
from kvfs_bench.report.markdown import environment_lines, legend_lines
from kvfs_bench.size.result import KIND as SIZES
from kvfs_bench.stores.result import KIND as STORES

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #57606a; --line: #d5dae0;
  --card: #f6f8fa; --ours: #0b6e8a; --peer: #a9b4c0; --reference: #6e7781; --mark: #c2410c;
  --met: #1a7f37; --unmet: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --paper: #11151a; --ink: #e6e9ed; --soft: #9aa4af;
  --line: #2d343c; --card: #191f26; --ours: #38a3c4; --peer: #4d5967; --reference: #8b96a3;
  --mark: #f0883e; --met: #4ac26b; --unmet: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 5rem; background: var(--paper);
  color: var(--ink); font: 15px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.25rem; margin: 2.8rem 0 .6rem; }
h3 { font-size: 1rem; margin: 0 0 .6rem; }
p, li { max-width: 48rem; }
.soft, small { color: var(--soft); }
ul.facts { list-style: none; padding: 0; margin: 0; color: var(--soft); font-size: .87rem; }
section.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 1rem 1.1rem .6rem; margin: 1rem 0; overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.number { text-align: right; white-space: nowrap; }
.scroll { overflow-x: auto; }
.met { color: var(--met); font-weight: 600; } .unmet { color: var(--unmet); font-weight: 600; }
svg { max-width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; }
svg text { fill: var(--ink); } svg .tick, svg .value { fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .mark { stroke: var(--mark); stroke-dasharray: 4 3;
  stroke-width: 1.5; }
svg .whisker { stroke: var(--ink); stroke-width: 1.2; fill: none; opacity: .75; }
svg .ours { fill: var(--ours); } svg .peer { fill: var(--peer); }
svg .reference { fill: var(--reference); }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin: 0 .35em 0 1em; }
details { margin: .6rem 0 1rem; } summary { cursor: pointer; color: var(--soft); }
"""


def page(report: dict[str, Any]) -> str:
    """The whole page."""
    titles = " · ".join(result["title"] for result in report["suites"])
    facts = "".join(f"<li>{escape(line)}</li>" for line in environment_lines(report["environment"]))
    has_engines = any(result["kind"] in (ENGINES, SIZES) for result in report["suites"])
    style = _STYLE + (engines_page.STYLE if has_engines else "")
    bodies = "".join(_suite(result) for result in report["suites"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>KVFS: {escape(titles)}</title><style>{style}</style></head><body>"
        f'<h1>{escape(titles)}</h1><ul class="facts">{facts}</ul>{bodies}</body></html>\n'
    )


def _suite(result: dict[str, Any]) -> str:
    if result["kind"] == ENGINES:
        return engines_page.body(result)
    if result["kind"] == SIZES:
        return sizes_page.body(result)
    if result["kind"] == STORES:
        return stores.body(result)
    inputs = "; ".join(
        f"{escape(name)}: "
        + ", ".join(f"{count(value)} {key.replace('_', ' ')}" for key, value in facts.items())
        for name, facts in result["datasets"].items()
    )
    parts = [
        f'<p class="soft">Scale {result["scale"]:g}, {result["rounds"]} rounds, contestants '
        f"interleaved. {inputs}.</p>",
        _goals(result),
    ]
    if result["references"]:
        parts += ["<h2>Speed</h2>", _key(result), *_per_work(result, _speeds)]
    for title, unit, make in (
        ("Requests to user space", "requests for each", _requests),
        ("CPU time of the daemon", "microseconds for each", _cpu),
    ):
        cards = [*_per_work(result, partial(make, unit=unit))]
        if cards:
            more = f"<details><summary>the other works</summary>{''.join(cards[1:])}</details>"
            parts += [f"<h2>{title}</h2>", cards[0], more]
    parts += [_memory(result), "<h2>All times</h2>", _times(result), "<h2>What the words mean</h2>"]
    return "".join([*parts, _legend(result)])


def _goals(result: dict[str, Any]) -> str:
    if not result["goals"]:
        return ""
    words = {True: '<td class="met">met</td>', False: '<td class="unmet">not met</td>'}
    rows = [
        "<tr>"
        + "".join(f"<td>{escape(goal[name])}</td>" for name in ("work", "goal", "measured"))
        + words.get(goal["met"], '<td class="soft">cannot say</td>')
        + "</tr>"
        for goal in result["goals"]
    ]
    told = [goal["met"] for goal in result["goals"] if goal["met"] is not None]
    head = "<tr><th>work<th>goal<th>measured: median (worst - best)<th></tr>"
    return (
        f"<h2>Goals</h2><p>{sum(told)} of {len(told)} met. They are set for scale 1.</p>"
        f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'
    )


def _key(result: dict[str, Any]) -> str:
    names = " or ".join(escape(name) for name in result["references"])
    return (
        f'<p class="key">Longer is faster; the dashed line is {names}, whichever stands above '
        "a chart. Bars are medians of the ratios within rounds, whiskers go from the worst to "
        'the best round.<br><i style="background:var(--ours)"></i>KVFS'
        '<i style="background:var(--reference)"></i>reference'
        '<i style="background:var(--peer)"></i>others</p>'
    )


def _kind(item: dict[str, Any], result: dict[str, Any]) -> str:
    if item["contestant"].startswith("kvfs"):
        return "ours"
    return "reference" if item["contestant"] in result["references"] else "peer"


def _groups(result: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for item in by_work(result):
        found.setdefault(item["work"], []).append(item)
    return found


def _per_work(
    result: dict[str, Any], make: Callable[[Sequence[dict[str, Any]], dict[str, Any]], str]
) -> Iterable[str]:
    """A card for each work of which ``make`` (of its rows and the result) gives a chart."""
    for work, items in _groups(result).items():
        if drawn := make(items, result):
            yield f'<section class="card"><h3>{escape(work)}</h3>{drawn}</section>'


def _speeds(items: Sequence[dict[str, Any]], result: dict[str, Any]) -> str:
    bars = []
    for item in items:
        speed = ratio(item, result)
        if speed is None:
            bars.append(Bar(label=item["contestant"], value=None, text=item["remark"] or "-"))
            continue
        text = f"{speed['median']:.2f}x · {seconds(item['median_s'])} s · {item['state']}"
        bars.append(
            Bar(
                label=item["contestant"],
                value=speed["median"],
                low=speed["worst"],
                high=speed["best"],
                text=text,
                kind=_kind(item, result),
            )
        )
    if all(bar.value is None for bar in bars):
        return ""
    # Of a second pass, the row of the image is of its second pass too: the disk's is what counts.
    names = [reference_of(item, result) for item in items if item["speeds"]]
    common = max(set(names), key=names.count)
    return chart(sorted(bars, key=_fastest), unit=f"{common} = 1", mark=1.0)


def _fastest(bar: Bar) -> float:
    return -(bar.value or 0.0)


def _requests(items: Sequence[dict[str, Any]], result: dict[str, Any], *, unit: str) -> str:
    bars = [
        Bar(
            label=item["contestant"],
            value=item["requests_each"],
            text=requests(item),
            kind=_kind(item, result),
        )
        for item in items
        if item["requests_each"] is not None
    ]
    return chart(bars, unit=f"{unit} {items[0]['unit']}") if bars else ""


def _cpu(items: Sequence[dict[str, Any]], result: dict[str, Any], *, unit: str) -> str:
    bars = [
        Bar(
            label=item["contestant"],
            value=item["server_cpu_s_each"] * 1e6,
            text=seconds(item["server_cpu_s_each"] * 1e6),
            kind=_kind(item, result),
        )
        for item in items
        if item["server_cpu_s_each"] is not None
    ]
    return chart(bars, unit=f"{unit} {items[0]['unit']}") if bars else ""


def _memory(result: dict[str, Any]) -> str:
    """The highest anonymous memory of each server over all works."""
    peaks: dict[str, tuple[int, int]] = {}
    for item in result["measurements"]:
        if item["peak_bytes"]:
            anonymous, total = peaks.get(item["contestant"], (0, 0))
            peak = item["peak_bytes"]
            peaks[item["contestant"]] = (
                max(anonymous, peak["anonymous"]),
                max(total, peak["total"]),
            )
    if not peaks:
        return ""
    bars = [
        Bar(
            label=name,
            value=anonymous / (1 << 20),
            text=f"{mib(anonymous)} MiB; {mib(total)} with mapped files",
            kind="ours" if name.startswith("kvfs") else "peer",
        )
        for name, (anonymous, total) in peaks.items()
    ]
    drawn = chart(bars, unit="MiB, anonymous")
    return f'<h2>Memory of the daemon</h2><section class="card">{drawn}</section>'


def _times(result: dict[str, Any]) -> str:
    head = ["work", "contestant", "caches", "durability", "median s", "best s", "worst s", "rounds"]
    head += ["per second", "requests each", "daemon CPU us each", ""]
    rows = []
    for item in by_work(result):
        cells = [item["work"], item["contestant"], item["state"], item["durability"]]
        numbers = [""] * 7
        if item["wall_s"]:
            times = (item["median_s"], min(item["wall_s"]), max(item["wall_s"]))
            each = item["server_cpu_s_each"]
            numbers = [*map(seconds, times), str(len(item["wall_s"])), count(item["per_second"])]
            numbers += [requests(item), "" if each is None else seconds(each * 1e6)]
        rows.append(
            "<tr>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "".join(f'<td class="number">{number}</td>' for number in numbers)
            + f"<td>{escape(item['remark'])}</td></tr>"
        )
    names = "".join(f"<th>{name}" for name in head)
    return (
        f"<details><summary>{len(rows)} rows</summary>"
        f'<div class="scroll"><table><tr>{names}</tr>{"".join(rows)}</table></div></details>'
    )


def _legend(result: dict[str, Any]) -> str:
    lines = []
    for about, text in legend_lines(result):
        name = f"<b>{escape(about)}</b>: " if about else ""
        lines.append(f"<li>{name}{escape(text)}</li>")
    return f'<ul class="soft">{"".join(lines)}</ul>'
