"""The key-value suite as Markdown, and what its page of HTML shares with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kvfs_bench.kv.dictionary import NAME as HARNESS
from kvfs_bench.report.figures import count, seconds
from kvfs_bench.report.tables import table

Row = dict[str, Any]
Result = dict[str, Any]


def engines_of(result: Result) -> list[str]:
    """Who took part: the engines, then the harness's dictionary."""
    names = [name for name in result["engines"] if name != HARNESS]
    return [*names, *(name for name in result["engines"] if name == HARNESS)]


def groups(result: Result, *, loop: str) -> dict[tuple[str, str], dict[str, Row]]:
    """(work, clients) -> engine -> row, of the loops whose name begins so, in the tables' order.

    The rows of an open loop are told apart by their rate, which stands in place of the clients.
    """
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in result["rows"]:
        if row["loop"].startswith(loop):
            second = row["clients"] if loop != "open" else row["loop"].partition(", ")[2]
            found.setdefault((row["work"], second), {})[row["engine"]] = row
    return found


def median(row: Row | None, name: str) -> float | None:
    """A figure of a row over its rounds; ``None``: it has none."""
    return None if row is None else row["medians"].get(name)


def micros(value: float) -> str:
    """Microseconds, to three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def best_of(rows: dict[str, Row], name: str = "per_second") -> float | None:
    """The highest median among engines; the dictionary is none."""
    values = [median(row, name) for engine, row in rows.items() if engine != HARNESS]
    return max((value for value in values if value is not None), default=None)


def described(result: Result) -> str:
    """How it was measured, in one line."""
    sizes = result["sizes"]
    return (
        f"Durability **{result['durability']}** for every commit. Scale {result['scale']:g}: "
        f"{sizes['files']:,} files, {sizes['records']:,} YCSB records, "
        f"{sizes['value_bytes'] / (1 << 20):.3g} MiB of each value size. {result['rounds']} "
        f"rounds, engines in turns; {result['seconds']:g} s for each timed work; seed "
        f"{result['seed']}."
    )


def suite(result: Result, *, brief: bool = False) -> str:
    """All tables; ``brief``: those for the README."""
    parts = [described(result), _who(result), "Operations per second, the best in bold:"]
    parts += [_throughput(result), *_open_latencies(result)]
    if not brief:
        parts += ["Latencies of the closed loop with one client, p50 / p99 / p99.9 in us:"]
        parts += [_latencies(result, "closed")]
    parts += ["Space, memory and opening, medians:", _costs(result), _harness(result)]
    parts.append("\n".join(f"- {_marked(about, text)}" for about, text in legend_lines(result)))
    return "\n\n".join(part for part in parts if part)


def _who(result: Result) -> str:
    rows = []
    for name in engines_of(result):
        engine = result["engines"][name]
        versions = versions_of(engine)
        where = "a server on this machine" if engine["is_network"] else "in the client's process"
        rows.append([name, engine["summary"], where, versions])
    return table(["engine", "what it is", "where it runs", "versions"], rows)


def versions_of(engine: dict[str, Any]) -> str:
    """Of an engine, its library and its server, and what that was told."""
    found = ", ".join(f"{what} {number}" for what, number in engine["versions"].items())
    options = engine.get("server_options")
    return f"{found} ({options})" if options else found


def _throughput(result: Result) -> str:
    names = engines_of(result)
    rows = []
    for (work, clients), by_engine in groups(result, loop="closed").items():
        best = best_of(by_engine)
        cells = []
        for name in names:
            value = median(by_engine.get(name), "per_second")
            text = "-" if value is None else count(value)
            cells.append(f"**{text}**" if value is not None and value == best else text)
        some = next(iter(by_engine.values()))
        rows.append([work, some["unit"], clients, some["state"], *cells])
    return table(["work", "unit", "clients", "caches", *names], rows)


def _open_latencies(result: Result) -> list[str]:
    if not groups(result, loop="open"):
        return []
    text = (
        "Latencies at a fixed rate, a part of what the closed loop reached, from the time at which "
        "each operation was to begin; p50 / p99 / p99.9 in us:"
    )
    return [text, _latencies(result, "open")]


def _latencies(result: Result, loop: str) -> str:
    names = engines_of(result)
    rows = []
    for (work, second), by_engine in groups(result, loop=loop).items():
        if loop == "closed" and second != "1":
            continue
        cells = [
            " / ".join(
                micros(value)
                for percent in ("p50_us", "p99_us", "p99.9_us")
                if (value := median(by_engine.get(name), percent)) is not None
            )
            for name in names
        ]
        rows.append([work, *([second] if loop == "open" else []), *(cell or "-" for cell in cells)])
    return table(["work", *(["rate"] if loop == "open" else []), *names], rows)


def costs(result: Result, name: str) -> dict[str, float | None]:
    """What an engine costs besides time: column -> median, of memory the highest of all works."""
    rows = [row for row in result["rows"] if row["engine"] == name]

    def of(work: str, figure: str) -> float | None:
        return next((median(row, figure) for row in rows if row["work"] == work), None)

    def highest(figure: str) -> float | None:
        # Several clients have several times the memory.
        values = [median(row, figure) for row in rows if row["clients"] == "1"]
        return max((value for value in values if value is not None), default=None)

    return {
        "on disk per byte put": of("ingest", "space_amplification"),
        "written per byte put, ingest": of("ingest", "write_amplification"),
        "written per byte put, create": of("create, rename, remove", "write_amplification"),
        "written per byte put, YCSB A": of("YCSB A", "write_amplification"),
        "open, ms": of("open, closed well", "open_ms"),
        "open after kill -9, ms": of("open, after kill -9", "open_ms"),
        "client MiB, anonymous": highest("client_anonymous_mib"),
        "client MiB, all": highest("client_total_mib"),
        "server MiB, anonymous": highest("server_anonymous_mib"),
        "server MiB, all": highest("server_total_mib"),
    }


def _costs(result: Result) -> str:
    found = {name: costs(result, name) for name in engines_of(result)}
    heads = [*next(iter(found.values()))]
    heads = [head for head in heads if any(cost[head] is not None for cost in found.values())]
    rows = []
    for name, cost in found.items():
        values = [cost[head] for head in heads]
        rows.append([name, *("-" if value is None else seconds(value) for value in values)])
    return table(["engine", *heads], rows)


def harness_costs(result: Result) -> dict[str, float]:
    """Work -> microseconds that the harness takes for each step with one client, at the median."""
    return {
        row["work"]: value
        for row in result["rows"]
        if row["engine"] == HARNESS and row["loop"] == "closed" and row["clients"] == "1"
        if (value := median(row, "p50_us")) is not None
    }


def _harness(result: Result) -> str:
    found = harness_costs(result)
    if not found:
        return ""
    text = ", ".join(f"{work} {seconds(value)}" for work, value in found.items())
    return f"The harness itself, over a dictionary, us for each step at the median: {text}."


def legend_lines(result: Result) -> list[tuple[str, str]]:
    """(what it is about, text): states, works, who did not run and why, notes, checks."""
    lines = [(f"caches {name}", text) for name, text in result["states"].items()]
    lines += [(work, text) for work, text in result["works"].items()]
    lines += [(f"not run: {name}", reason) for name, reason in result["not_run"].items()]
    lines += [(f"{names}: {work}", remark) for work, names, remark in remarks(result)]
    lines += [("", note) for note in result["notes"]]
    checks = ", ".join(f"{times:,} x {what}" for what, times in result["checks"].items())
    return [*lines, ("", f"answers compared with the truth in this run: {checks}")]


def remarks(result: Result) -> Iterable[tuple[str, str, str]]:
    """(works, engines, why there is no figure), what has the same reason together."""
    works: dict[tuple[str, str], list[str]] = {}
    for row in result["rows"]:
        if row["remark"] and row["engine"] != HARNESS:
            work = row["work"] if row["clients"] == "1" else f"{row['work']}, {row['clients']}"
            works.setdefault((row["engine"], row["remark"]), []).append(work)
    names: dict[tuple[str, str], list[str]] = {}
    for (engine, remark), found in works.items():
        names.setdefault(("; ".join(dict.fromkeys(found)), remark), []).append(engine)
    for (found_works, remark), engines in names.items():
        yield found_works, ", ".join(engines), remark


def _marked(about: str, text: str) -> str:
    return f"**{about}**: {text}" if about else text


def rows_of(result: Result) -> Iterable[tuple[Sequence[str], Sequence[str]]]:
    """Every row as (texts, numbers) for the table of everything."""
    for row in result["rows"]:
        values = row["figures"].get("per_second", [])
        numbers = [count(value) for value in values]
        numbers = [f"{' · '.join(numbers)}"]
        for name in ("p50_us", "p99_us", "p99.9_us", "max_us", "client_cpu_us", "server_cpu_us"):
            value = median(row, name)
            numbers.append("" if value is None else micros(value))
        texts = [row["work"], row["engine"], row["clients"], row["loop"], row["state"]]
        yield [*texts, row["remark"]], numbers
