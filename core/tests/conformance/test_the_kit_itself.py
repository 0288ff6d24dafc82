"""The kit finds what is wrong: drivers with one mistake each, and the tests that must fail.

The mistakes are real ones, seen in engines and bindings.  A mistake that no test notices would be a
hole in the kit; a test that fails without a mistake is caught by the memory drivers' own run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

# Class of the mistaken driver -> tests that must fail on it.
KV_MISTAKES = {
    "ScanOfASnapshotIsLive": ["test_scan_begun_after_a_write_does_not_see_it"],
    "GuardsAreForgotten": [
        "test_nothing_is_applied_if_one_does_not",
        "test_create",
        "test_bench_create",
    ],
    "GuardsAreCheckedOutsideTheLock": [
        "test_threads_increment_one_counter",
        "test_one_order_explains_what_threads_saw",
    ],
    "EmptyIsAbsent": ["test_empty_value_is_not_absence"],
    "PutsComeBeforeRangeDeletes": [
        "test_range_deletes_come_before_puts_of_the_same_batch",
        "test_any_sequence_of_calls_agrees_with_a_dictionary",
    ],
    "ConflictAppliesHalf": ["test_nothing_is_applied_if_one_does_not"],
    "StopIsIncluded": ["test_every_pair_of_bounds"],
    "ScanIsAList": ["test_memory_of_a_scan_is_flat"],
    "LimitCutsBeforeReversing": ["test_limit_in_reverse"],
    "ClosedIsStillOpen": ["test_closed"],
    "BuffersAreNotCopied": ["test_put_copies_any_buffer"],
    "BatchIsAppliedInSteps": [
        "test_readers_see_batches_whole",
        "test_one_order_explains_what_threads_saw",
    ],
    "RefreshDoesNothing": [
        "test_refresh_moves_to_the_present",
        "test_one_order_explains_what_threads_saw",
    ],
    "GetManySorts": ["test_get_many_keeps_the_order_of_the_keys"],
}
BACKING_MISTAKES = {
    "PartsAppearAtOnce": ["test_failed_body_changes_nothing"],
    "CreateLooksFirst": ["test_create_is_decided_at_the_end", "test_one_thread_creates_an_object"],
    "VersionIsTheSize": ["test_different_contents_have_different_versions"],
    "ListingIsByDirectory": ["test_order_is_that_of_the_bytes"],
    "AfterIsIncluded": ["test_after"],
    "DeleteComplains": ["test_delete_of_nothing"],
    "ReadPastTheEndFails": ["test_ranges"],
    "NamesAreNormalised": ["test_odd_name"],
    "ReaderFollowsTheName": ["test_reader_stays_at_its_version"],
    "ClosedIsStillOpen": ["test_closed"],
}
MISTAKEN = Path(__file__).with_name("mistaken")


def _install(site: Path) -> None:
    """A distribution of all the mistaken drivers."""
    metadata = site / "mistaken-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mistaken\nVersion: 1\n")
    lines = []
    for kind, mistakes in (("kv", KV_MISTAKES), ("backing", BACKING_MISTAKES)):
        lines.append(f"[kvfs.{kind}]")
        lines += [f"{name} = mistaken_{kind}:{name}_DRIVER" for name in mistakes]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _failed(path: Path) -> set[tuple[str, str]]:
    """(class, test) of what failed, out of a report in JUnit's format."""
    cases = ET.parse(path).getroot().iter("testcase")
    return {
        (case.get("classname", "").rpartition(".")[2], case.get("name", "").partition("[")[0])
        for case in cases
        if case.find("failure") is not None
    }


@pytest.mark.parametrize(
    ("kind", "mistakes"),
    [("kv", KV_MISTAKES), ("backing", BACKING_MISTAKES)],
    ids=["kv", "backing"],
)
def test_every_mistake_is_found(tmp_path: Path, kind: str, mistakes: dict[str, list[str]]) -> None:
    _install(tmp_path)
    report = tmp_path / "report.xml"
    file = MISTAKEN / f"mistaken_{kind}.py"
    chosen = [f"{file}::Test{name}::{test}" for name, tests in mistakes.items() for test in tests]
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--rootdir", str(tmp_path), "-c", os.devnull, f"--junitxml={report}"),
            *("--tb=no", *chosen),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(MISTAKEN)))},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    failed = _failed(report)
    missed = {
        (name, test)
        for name, tests in mistakes.items()
        for test in tests
        if (f"Test{name}", test) not in failed
    }
    assert missed == set(), run.stdout
