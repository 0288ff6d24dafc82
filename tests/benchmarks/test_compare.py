"""``kvfs bench compare``: what it calls a change, what it refuses, how it ends."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from kvfs_bench.comparing import (
    Metric,
    adjust,
    compare,
    metrics,
    student_quantile,
    student_tails,
)
from kvfs_bench.publish import HOME
from kvfs_bench.results import upgrade

from .conftest import Run

RESULTS = sorted((HOME / "results").glob("*.json"))


def report(*, rate: float = 1000.0, durability: str = "process", rounds: int = 4) -> dict[str, Any]:
    """A result of the key-value suite with one row, whose noise is a percent."""
    rng = Random(rounds)
    values = [rate * rng.uniform(0.99, 1.01) for _ in range(rounds)]
    row = {
        "work": "lookup",
        "engine": "lmdb",
        "clients": "1",
        "loop": "closed",
        "figures": {"per_second": values, "p50_us": [1e6 / value for value in values]},
    }
    suite = {
        "kind": "engines",
        "suite": f"kv-{durability}",
        "durability": durability,
        "scale": 1,
        "seconds": 1,
        "seed": 1,
        "readers": 4,
        "sizes": {},
        "engines": {"lmdb": {"versions": {"lmdb": "3.0.0"}}},
        "rows": [row],
    }
    machine = {"cpu": "x", "cores": 2, "memory_gib": 8, "filesystem": "ext4", "cpus": None}
    environment = machine | {"kernel": "6.1", "versions": {"Python": "3.11.7"}}
    return {"format": 3, "environment": environment, "suites": [suite]}


def written(path: Path, form: dict[str, Any]) -> Path:
    """As a file."""
    path.write_text(json.dumps(form))
    return path


# -- statistics ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("freedom", "t"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (10, 2.22814), (1e6, 1.95997)]
)
def test_students_distribution_is_that_of_the_tables(freedom: float, t: float) -> None:
    assert student_tails(t, freedom) == pytest.approx(0.05, rel=1e-4)
    assert student_quantile(0.95, freedom) == pytest.approx(t, rel=1e-4)
    assert student_tails(0, freedom) == 1


def test_adjusted_p_values_are_those_of_benjamini_and_hochberg() -> None:
    assert adjust([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.16 / 3, 0.16 / 3, 0.5])
    assert adjust([]) == []


def test_noise_is_no_change_even_among_many_metrics() -> None:
    rng = Random(1)

    def noise() -> dict[tuple[str, ...], Metric]:
        return {
            (str(number),): Metric([rng.lognormvariate(0, 0.1) for _ in range(4)], False)
            for number in range(500)
        }

    # Without the adjustment it would be about 25 of them.
    assert sum(change.is_real for change in compare(noise(), noise())) <= 2


def test_a_change_beyond_noise_is_found_and_comes_first() -> None:
    before = metrics(report())
    changes = compare(before, metrics(report(rate=700)))
    assert [change.is_real for change in changes] == [True, True]
    for change in changes:
        assert change.slowdown == pytest.approx(1 / 0.7, rel=0.02)
        assert change.low is not None
        assert change.high is not None
        assert change.low < change.ratio < change.high
    assert not any(change.is_real for change in compare(before, metrics(report(rate=1000))))


def test_of_single_rounds_nothing_is_said() -> None:
    (one, other) = (metrics(report(rate=rate, rounds=1)) for rate in (1000, 10))
    assert [change.p for change in compare(one, other)] == [None, None]


# -- the command -----------------------------------------------------------------------------------


def test_what_changed_is_told_and_decides_the_exit_code(bench: Run, tmp_path: Path) -> None:
    before = written(tmp_path / "a.json", report())
    slower = written(tmp_path / "b.json", report(rate=700))
    done = bench("compare", before, slower)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 of 2 metrics changed" in done.stdout
    assert done.stdout.count("worse") == 2
    assert bench("compare", before, slower, "--fail-if-slower", "10").returncode == 1
    assert bench("compare", before, slower, "--fail-if-slower", "60").returncode == 0
    better = bench("compare", slower, before, "--fail-if-slower", "0")
    assert better.returncode == 0
    assert better.stdout.count("better") == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"durability": "power"}, "durability"),
        ({"cpu": "another"}, "the processor"),
        ({"seconds": 5}, "seconds"),
    ],
)
def test_other_things_are_compared_only_by_force(
    bench: Run, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    before, after = report(), report(durability=change.get("durability", "process"))
    for place in (after["environment"], after["suites"][0]):
        place.update({key: value for key, value in change.items() if key in place})
    paths = written(tmp_path / "a.json", before), written(tmp_path / "b.json", after)
    refused = bench("compare", *paths)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "--force" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    if said != "durability":  # those have no metric in common
        forced = bench("compare", *paths, "--force")
        assert forced.returncode == 0
        assert "Forced, although there differs" in forced.stdout
        assert said in forced.stdout


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_every_published_result_can_be_compared(path: Path) -> None:
    form = upgrade(json.loads(path.read_text()))
    found = metrics(form)
    assert found
    slower = copy.deepcopy(form)
    for suite in slower["suites"]:
        for item in suite.get("measurements", ()):
            item["wall_s"] = [2 * value for value in item["wall_s"]]
    changes = compare(found, metrics(slower))
    times = [change for change in changes if change.key[-1] == "time"]
    assert all(change.ratio == pytest.approx(2) for change in times)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99, "suites": []}'])
def test_what_is_no_result_is_said_in_one_line(bench: Run, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    done = bench("compare", path, path)
    assert done.returncode in (2, 8)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert bench("compare", path, tmp_path / "none.json").returncode in (2, 3, 8)
