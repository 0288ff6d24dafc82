"""Goals are computed from rows; so are ratios."""

from __future__ import annotations

from typing import Any

import pytest

from kvfs_bench.mount.goals import (
    GOALS,
    NATIVE,
    OURS,
    PYFUSE3,
    WORKERS,
    Faster,
    FewRequests,
    FlatMemory,
    judge,
)
from kvfs_bench.mount.local import FOOTING, WARM
from kvfs_bench.mount.works import WORKS
from kvfs_bench.report import markdown
from kvfs_bench.report.page import page
from kvfs_bench.results import FORMAT, Measurement, Ratio, SuiteResult, upgrade

ROW = "read all, directory order, compiled reader, first pass"


def made(*rows: tuple[str, list[float]], work: str = ROW) -> SuiteResult:
    """A result with one work, and times of contestants."""
    result = SuiteResult(
        suite="mount", title="Mounts", scale=1, rounds=3, references=(FOOTING, WARM)
    )
    for contestant, times in rows:
        row = result.measure(work, contestant, state="fresh", quantity=100)
        row.wall_s += times
        row.rounds += range(len(times))
    return result


@pytest.mark.parametrize(("at_least", "met"), [(0.9, True), (1.0, True), (1.01, False)])
def test_the_median_of_the_ratios_within_rounds_counts(at_least: float, met: bool) -> None:
    # Ratios .5, 1 and 2; the ratio of the medians would be 2 / 2 as well, that of the bests 1.
    result = made((OURS, [2.0, 2.0, 8.0]), (FOOTING, [1.0, 2.0, 16.0]))
    finding = Faster(row=ROW, at_least=at_least, than=FOOTING).judge(result)
    assert finding.met is met
    assert finding.measured == "1.00x (0.50 - 2.00)"


def test_rounds_that_only_one_took_part_in_do_not_count() -> None:
    own, other = (
        Measurement(work=ROW, contestant=name, state="fresh", rounds=rounds, wall_s=times)
        for name, rounds, times in (("a", [0, 1, 2], [1.0, 5.0, 9.0]), ("b", [1], [10.0]))
    )
    assert Ratio.between(own, other) == Ratio(median=2, worst=2, best=2)
    other.rounds = [7]
    assert Ratio.between(own, other) is None


def test_a_goal_that_nobody_can_judge_is_neither_met_nor_missed() -> None:
    result = made((OURS, [1.0]))
    result.missing[PYFUSE3] = "pip install it"
    row = result.measure(ROW, FOOTING, state="fresh", quantity=100)
    row.remark = "did not finish in 60 s"
    for than, why in ((PYFUSE3, "pip install it"), (FOOTING, "did not finish"), (NATIVE, "not in")):
        finding = Faster(row=ROW, at_least=1, than=than).judge(result)
        assert finding.met is None
        assert why in finding.measured


@pytest.mark.parametrize(("requests", "met"), [([20, 10, 30], True), ([21, 21, 1], False)])
def test_requests_are_those_for_each_file(requests: list[int], met: bool) -> None:
    result = made((OURS, [1.0, 1.0, 1.0]))
    goal = FewRequests(row=ROW, at_most=0.2)
    assert goal.judge(result).met is None
    result.measurements[0].requests = requests
    assert goal.judge(result).met is met


@pytest.mark.parametrize(
    ("mib", "met"), [((60, 80), True), ((60, 151), False), ((20, 31), False), ((150, 150), True)]
)
def test_memory_has_a_bound_and_is_flat(mib: tuple[int, int], met: bool) -> None:
    result = made((OURS, [1.0]), (WORKERS, [1.0]), ("squashfuse_ll", [1.0]))
    goal = FlatMemory(mib_max=150, growth_max=1.5)
    assert goal.judge(result).met is None
    for row, size in zip(result.measurements, (*mib, 4000), strict=True):
        row.peak_bytes = {"anonymous": size << 20, "total": 300 << 20, "file": 100 << 20}
    assert goal.judge(result).met is met


def test_every_goal_is_about_a_row_that_there_is() -> None:
    rows = {work.row(turn) for work in WORKS for turn in range(work.passes)}
    for goal in GOALS:
        assert isinstance(goal, FlatMemory) or goal.row in rows


def test_the_reports_show_what_was_judged() -> None:
    result = made((OURS, [1.0, 2.0]), (FOOTING, [1.0, 1.0]), (WARM, [0.5]))
    result.goals = judge(result)
    environment: dict[str, Any] = {
        "date": "2026-01-01", "cpu": "c<p>u", "cores": 2, "memory_gib": 4, "kernel": "6.1",
        "filesystem": "ext4", "versions": {"Python": "3.11"}, "cpus": None, "caches_dropped": True,
    }  # fmt: skip
    report = {"format": FORMAT, "environment": environment, "suites": [result.as_dict()]}
    line = f"| {ROW} | >= 0.9x {FOOTING} | 0.75x (0.50 - 1.00) | not met |"
    assert line in markdown.full(report)
    assert line in markdown.brief(report)
    assert f"| {ROW} | 0.75 | 1.00 | 2.00 |" in markdown.brief(report)
    text = page(report)
    assert '<td class="unmet">not met</td>' in text
    assert "0.75x" in text
    assert "c&lt;p&gt;u" in text
    assert "<p>u" not in text


def test_reports_of_the_first_format_are_still_shown() -> None:
    row = {
        "work": "w", "contestant": "tar xf", "state": "warm", "durability": "-", "quantity": 10,
        "unit": "files", "wall_s": [2.0, 1.0], "cpu_s": [1.0], "server_cpu_s": [],
        "peak_bytes": {}, "median_s": 1.5, "per_second": 6.7, "speed": 0.5,
    }  # fmt: skip
    old = {
        "format": 1,
        "suites": [{"suite": "s", "reference": "tar xf", "measurements": [row]}],
    }
    (suite,) = upgrade(old)["suites"]
    assert suite["references"] == ["tar xf"]
    assert suite["measurements"][0]["speeds"]["tar xf"]["median"] == 0.5
    assert upgrade(upgrade(old)) == upgrade(old)
