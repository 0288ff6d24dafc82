"""The store suite as Markdown, and as a part of a page of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from kvfs_bench.report.bars import NARROW, Bar, chart
from kvfs_bench.report.tables import table

Result = dict[str, Any]
_CHECKS = ("driver", "check", "", "why")
_WORKS = (
    "work",
    "threads",
    "driver",
    "per second",
    "MiB/s",
    "p50 ms",
    "p90",
    "p99",
    "p99.9",
    "max",
)
_WORDS = (
    "per second, MiB/s: of the median round; contents are counted, not headers.",
    "p50 to max: latency of single operations over all rounds, each thread beginning the next one "
    "when the one before has ended.",
    "Every answer was compared with what was written. Durability is the server's.",
)


def suite(result: Result, *, brief: bool = False) -> str:
    """Markdown.

    :param brief: without the checks that hold.
    """
    checks = [row for row in _checks(result) if not (brief and row[2] == "ok")]
    parts = [described(result), table(_CHECKS, checks), table(_WORKS, _works(result))]
    return "\n\n".join([*parts, *_WORDS])


def body(result: Result) -> str:
    """HTML."""
    words = "".join(f"<li>{escape(line)}</li>" for line in _WORDS)
    return (
        f'<p class="soft">{escape(described(result))}</p>'
        f"<h2>What holds</h2>{_html(_CHECKS, _checks(result))}"
        f"<h2>Speed</h2>{_bars(result)}{_html(_WORKS, _works(result))}"
        f'<h2>What the words mean</h2><ul class="facts">{words}</ul>'
    )


def described(result: Result) -> str:
    """How much was done."""
    plan = result["plan"]
    text = (
        f"{plan['objects']:,} objects of {plan['small_bytes']:,} bytes, {plan['big_objects']} of "
        f"{plan['big_bytes'] / (1 << 20):g} MiB, ranges of 128 KiB; {result['rounds']} rounds, "
        f"drivers in turn; seed {plan['seed']}."
    )
    left = "".join(f" Not measured: {name} ({why})." for name, why in result["problems"].items())
    versions = ", ".join(f"{store['driver']} {store['version']}" for store in result["stores"])
    return f"{text} Drivers: {versions or 'none'}.{left}"


def _checks(result: Result) -> Iterator[Sequence[str]]:
    for store in result["stores"]:
        for check in store["checks"]:
            yield store["driver"], check["what"], check["text"], check["why"]


def _works(result: Result) -> Iterator[Sequence[str]]:
    works = [(work, store["driver"]) for store in result["stores"] for work in store["works"]]
    order = list(dict.fromkeys((work["work"], work["threads"]) for work, _ in works))
    for work, driver in sorted(works, key=lambda each: _place(order, each[0])):
        latency = work["latency_ms"]
        moved = f"{work['mib_per_second']:,.1f}" if work["bytes_each"] else ""
        yield (
            work["work"],
            str(work["threads"]),
            driver,
            f"{work['per_second']:,.1f}",
            moved,
            *(f"{latency[name]:,.2f}" for name in ("50", "90", "99", "99.9", "max")),
        )


def _place(order: list[tuple[str, int]], work: dict[str, Any]) -> int:
    return order.index((work["work"], work["threads"]))


def _html(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    heads = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{heads}</tr>{lines}</table></div>'


def _bars(result: Result) -> str:
    """Operations per second, each work with a bar for each driver."""
    works: dict[tuple[str, int], list[tuple[str, float]]] = {}
    for store in result["stores"]:
        for work in store["works"]:
            key = (work["work"], work["threads"])
            works.setdefault(key, []).append((store["driver"], work["per_second"]))
    cards = []
    for (name, threads), found in works.items():
        bars = [
            Bar(label=driver, value=rate, text=f"{rate:,.1f}", kind="peer" if number else "ours")
            for number, (driver, rate) in enumerate(found)
        ]
        title = f"{escape(name)}, {threads} thread{'s' if threads > 1 else ''}"
        drawn = chart(bars, unit="operations per second", widths=NARROW)
        cards.append(f'<section class="card"><h3>{title}</h3>{drawn}</section>')
    return "".join(cards)
