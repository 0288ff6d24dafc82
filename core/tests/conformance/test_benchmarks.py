"""The benchmarks of the kit: tests in an ordinary run, figures when they are asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from kvfs.testing import BackingBenchmarks, BackingConformance, KVBenchmarks, KVConformance
from kvfs.testing.selection import Conformance

SAMPLE = """
    import pytest
    from kvfs.testing import BackingBenchmarks, BackingHarness, KVBenchmarks, KVHarness

    class TestBare(KVBenchmarks):
        driver = "memory"

        @pytest.fixture
        def harness(self):
            return KVHarness("memory", layers=self.layers)

    class TestPrefixed(TestBare):
        layers = ({"name": "prefix", "prefix": "a/"},)

    class TestObjects(BackingBenchmarks):
        driver = "memory"

        @pytest.fixture
        def harness(self):
            return BackingHarness("memory")
"""
SOMEBODY_ELSES = """
    def test_of_somebody_else(benchmark):
        assert benchmark.enabled
        assert benchmark(int, "7") == 7
"""
QUICK = ("--benchmark-max-time=0.001", "--benchmark-min-time=0.000001", "--benchmark-min-rounds=2")


def _run(folder: Path, source: str, *arguments: str) -> str:
    (folder / "test_sample.py").write_text(dedent(source))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", *arguments]
    run = subprocess.run(
        [*command, str(folder)],
        cwd=folder,
        # Of a worker of xdist, pytest-benchmark's measurements are off.
        env={name: value for name, value in os.environ.items() if "XDIST" not in name},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_ordinary_run_measures_nothing(tmp_path: Path, workers: list[str]) -> None:
    output = _run(tmp_path, SAMPLE, "-k", "put or readdir or stat", *workers)
    assert "test_bench_readdir[10000]" in output
    assert "test_bench_put[memory]" in output
    assert "test_bench_put[process]" not in output, "the memory engine does not reach it"
    assert "OPS" not in output
    assert "skipped" not in output


def _measured(path: Path) -> list[dict[str, Any]]:
    benchmarks: list[dict[str, Any]] = json.loads(path.read_text())["benchmarks"]
    return benchmarks


@pytest.mark.parametrize("asking", [["--benchmark-only"], []], ids=["only", "a report"])
def test_figures_are_there_when_asked_for(tmp_path: Path, asking: list[str]) -> None:
    report = tmp_path / "report.json"
    chosen = ("-k", "get_hit or create or stat", *QUICK, f"--benchmark-json={report}")
    output = _run(tmp_path, SAMPLE, *asking, *chosen)
    assert "benchmark 'get, there': 2 tests" in output
    found = {(figure["group"], figure["name"]): figure for figure in _measured(report)}
    created = "guarded create of one record, durability memory"
    rows = {(group, name) for group in ("get, there", created) for name in ("Bare", "Prefixed")}
    assert found.keys() == rows | {("stat", "Objects")}
    assert all(figure["stats"]["rounds"] >= 2 for figure in found.values())
    about = found[created, "Prefixed"]["extra_info"]
    assert about["driver"] == "memory"
    assert about["layers"] == ["prefix"]
    assert about["durability"] == "memory"
    assert about["capability"]["persistent"] == "no"
    assert {"Python", "kvfs-core", "xxhash"} <= about["versions"].keys()


def test_benchmarks_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    assert "OPS" in _run(tmp_path, SOMEBODY_ELSES, *QUICK)


@pytest.mark.parametrize(
    ("kit", "benchmarks"),
    [(KVConformance, KVBenchmarks), (BackingConformance, BackingBenchmarks)],
)
def test_both_fit_into_one_class(kit: type[Conformance], benchmarks: type[Conformance]) -> None:
    """Of two tests with one name, one would never run."""
    tests = [{name for name in dir(cls) if name.startswith("test")} for cls in (kit, benchmarks)]
    assert all(tests)
    assert tests[0] & tests[1] == set()
