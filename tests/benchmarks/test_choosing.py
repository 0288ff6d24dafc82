"""What the page about choosing an engine takes from published results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvfs.errors import Corrupt
from kvfs_bench.environment import record
from kvfs_bench.kv.dictionary import NAME as HARNESS
from kvfs_bench.kv.result import KVResult, Row
from kvfs_bench.report.choosing import between, figures
from kvfs_bench.results import FORMAT

SPEEDS = {"fast": [3000.0, 1000.0, 2000.0], "slow": [10.0, 20.0, 30.0], HARNESS: [1e6, 1e6, 1e6]}


def _publish(folder: Path, date: str, durability: str, speeds: dict[str, list[float]]) -> None:
    result = KVResult(
        durability=durability, scale=1, rounds=3, seconds=1, seed=1, readers=4, sizes={}
    )
    result.not_run["absent"] = "its server is not installed"
    for name, values in speeds.items():
        result.engines[name] = {"versions": {"lib": "1.2"}, "is_network": False, "summary": "-"}
        for work, family in (("lookup", "lookup"), ("YCSB A", "ycsb-a")):
            for clients in ("1", "4 threads"):
                row = Row(
                    work=work, family=family, engine=name, clients=clients,
                    loop="closed", state="warm", unit="lookups",
                )  # fmt: skip
                row.rounds = [0, 1, 2]
                row.figures["per_second"] = values
                result.row(row)
    report = {
        "format": FORMAT,
        "environment": record(None, folder) | {"date": date},
        "suites": [result.as_dict()],
    }
    (folder / f"{date}-kv-{durability}.json").write_text(json.dumps(report))


def test_medians_stand_in_a_section_for_each_durability(tmp_path: Path) -> None:
    _publish(tmp_path, "2026-01-01", "process", SPEEDS)
    _publish(tmp_path, "2026-01-01", "power", {"slow": [1.0, 2.0, 3.0]})
    text = figures(tmp_path)
    sections = text.split("### ")[1:]
    assert [section.partition("\n")[0] for section in sections] == [
        "Commits of durability power",
        "Commits of durability process",
    ]
    assert "| lookup, lookups/s | **2,000** | 20 |" in sections[1]
    assert "| lookup, lookups/s | **2** |" in sections[0]
    assert "YCSB" not in text
    assert HARNESS not in text
    assert "absent: its server is not installed" in text


def test_newest_results_count(tmp_path: Path) -> None:
    _publish(tmp_path, "2026-01-02", "process", {"slow": [7.0, 7.0, 7.0]})
    _publish(tmp_path, "2026-01-01", "process", SPEEDS)
    assert "**7**" in figures(tmp_path)
    assert "fast" not in figures(tmp_path)


def test_without_results_there_is_nothing(tmp_path: Path) -> None:
    page = "a\n\n<!-- x: written by docs/generate.py -->\n\nold\n\n<!-- end of x -->\n\nb\n"
    bare = page.replace("old\n\n", "")
    assert figures(tmp_path) == ""
    assert between(page, "x", figures(tmp_path)) == bare
    assert between(bare, "x", "new") == page.replace("old", "new")
    with pytest.raises(Corrupt, match="does not hold the lines"):
        between(page, "y", "")
