"""The pytest plugin of the kit: what it takes out of a run, and what it prints."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

SAMPLE = """
    import pytest
    from kvfs.testing import KVHarness, lacks, needs
    from kvfs.testing.selection import KVSelection

    class TestSample(KVSelection):
        driver = "memory"
        layers = ({"name": "readonly"},)

        @needs("writable")
        @pytest.mark.parametrize("number", [1, 2])
        def test_writes(self, number): ...

        @needs("persistent", "snapshot")
        def test_views_again(self): ...

        @needs("snapshot")
        def test_views(self): ...

        @lacks("writable")
        def test_refusal(self): ...

        @lacks("snapshot")
        def test_other_refusal(self): ...

        def test_always(self): ...

    class TestOfSomethingElse:
        def test_unrelated(self): ...
"""


def _run(folder: Path, source: str, *arguments: str) -> tuple[int, str]:
    (folder / "test_sample.py").write_text(dedent(source))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", *arguments, str(folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_tests_are_deselected_and_printed(tmp_path: Path, workers: list[str]) -> None:
    code, output = _run(tmp_path, SAMPLE, *workers)
    assert code == 0
    ran = set(re.findall(r"::(test_\w+)", output))
    assert ran == {"test_views", "test_refusal", "test_always", "test_unrelated"}
    assert "kv memory lacks writable (TestSample): 1 tests\n    test_writes\n" in output
    assert "kv memory lacks persistent (TestSample): 1 tests\n    test_views_again\n" in output
    assert "other_refusal" not in output
    assert "skipped" not in output


def test_nothing_is_printed_without_the_kit(tmp_path: Path) -> None:
    code, output = _run(tmp_path, "def test_unrelated(): ...")
    assert code == 0
    assert "KVFS" not in output


@pytest.mark.parametrize("line", ["driver = 'absent'", "pass"])
def test_driver_that_is_not_there_ends_the_run(tmp_path: Path, line: str) -> None:
    """It is never a reason to leave tests out."""
    source = f"""
        from kvfs.testing.selection import KVSelection

        class TestSample(KVSelection):
            {line}
            def test_something(self): ...
    """
    code, output = _run(tmp_path, source)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "no such driver to test" in output


def test_harness_that_is_not_given_is_asked_for(tmp_path: Path) -> None:
    source = """
        from kvfs.testing import KVConformance

        class TestSample(KVConformance):
            driver = "memory"
    """
    code, output = _run(tmp_path, source, "-k", "test_new_store_is_empty")
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "give the fixture `harness`" in output


def test_failure_shows_the_seed_that_repeats_it(tmp_path: Path) -> None:
    source = """
        def test_sample(fault_plan):
            assert fault_plan.seed != 77
    """
    _, output = _run(tmp_path, "def test_sample(fault_plan):\n    raise RuntimeError")
    assert re.search(r"replay with --kvfs-seed=\d+", output)
    assert _run(tmp_path, source, "--kvfs-seed=77")[0] == pytest.ExitCode.TESTS_FAILED
    assert _run(tmp_path, source, "--kvfs-seed=78")[0] == pytest.ExitCode.OK
