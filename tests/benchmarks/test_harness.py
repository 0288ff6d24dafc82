"""The benchmark harness at a tiny size: real mounts, whole suites, the shape of the report.

Nothing here looks at how long anything took.  That answers are right is asserted by the harness
itself, against what it generated; here it is asserted that it did so, and that it would notice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FILES = 300
SCALE = FILES / 100_000
SUITES = ("ingest", "read", "large", "catalogue")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """``run.py`` as a user runs it."""
    return subprocess.Popen(
        [sys.executable, BENCHMARKS / "run.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    with start(*arguments) as process:
        stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every suite's result, from two runs side by side: nobody looks at the times."""
    place = tmp_path_factory.mktemp("bench")
    found: dict[str, dict[str, Any]] = {}
    running = []
    for part in (SUITES[:2], SUITES[2:]):
        home = place / part[0]
        home.mkdir()
        options: list[str | Path] = ["--rounds", "1", "--scale", str(SCALE), "--suite", *part]
        options += ["--json", home / "out.json", "--markdown", home / "out.md"]
        running.append((home, start(*options, "--scratch", home / "scratch")))
    for home, process in running:
        stdout, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert stdout.rstrip() == (home / "out.md").read_text().rstrip()
        assert [*(home / "scratch").iterdir()] == [], "a run leaves nothing behind"
        report = json.loads((home / "out.json").read_text())
        environment = report["environment"]
        assert environment["versions"]["Python"]
        assert environment["filesystem"]
        assert os.uname().nodename not in json.dumps(environment).split('"')
        found |= {suite["suite"]: suite for suite in report["suites"]}
    return found


def test_every_suite_is_reported(reports: dict[str, dict[str, Any]]) -> None:
    assert tuple(reports) == SUITES


@pytest.mark.parametrize("suite", SUITES)
def test_each_number_says_its_state_and_durability(
    reports: dict[str, dict[str, Any]], suite: str
) -> None:
    result = reports[suite]
    assert result["scale"] == SCALE
    assert result["measurements"]
    for item in result["measurements"]:
        assert item["state"] in result["states"], item
        assert item["durability"] in result["durabilities"], item
        assert len(item["wall_s"]) == result["rounds"] == 1, item
        assert item["median_s"] > 0
        assert item["quantity"] > 0
        assert item["per_second"] == pytest.approx(item["quantity"] / item["median_s"])


@pytest.mark.parametrize(
    ("suite", "kinds"),
    [
        ("large", {"counts", "digests of everything read"}),
        ("catalogue", {"counts", "digests of everything read"}),
        ("ingest", {"counts", "sizes"}),
        ("read", {"counts", "digests of everything read", "sizes"}),
    ],
)
def test_answers_were_compared_with_the_truth(
    reports: dict[str, dict[str, Any]], suite: str, kinds: set[str]
) -> None:
    assert set(reports[suite]["checks"]) == kinds


@pytest.mark.parametrize(
    ("suite", "contestants"),
    [
        ("large", {"kvfs ingest", "kvfs mount"}),
        ("catalogue", {"kvfs mount"}),
        ("ingest", {"kvfs, lmdb", "kvfs, lmdb, synced", "tar xf", "tar xf, then sync"}),
        ("read", {"kvfs", "ext4"}),
    ],
)
def test_kvfs_and_the_local_disk_take_part_and_peers_are_there_or_missing(
    reports: dict[str, dict[str, Any]], suite: str, contestants: set[str]
) -> None:
    result = reports[suite]
    found = {item["contestant"] for item in result["measurements"]}
    assert contestants <= found
    peers = {"read": {"ratarmount", "squashfuse_ll"}, "ingest": {"ratarmount"}}.get(suite, set())
    present = {name.partition(",")[0] for name in found}
    assert peers == (peers & present) | set(result["missing"])
    assert all("install" in how for how in result["missing"].values())


def test_speeds_are_relative_to_the_reference(reports: dict[str, dict[str, Any]]) -> None:
    by_contestant = {item["contestant"]: item for item in reports["ingest"]["measurements"]}
    assert by_contestant["tar xf"]["speed"] == 1
    kvfs = by_contestant["kvfs, lmdb"]
    expected = by_contestant["tar xf"]["wall_s"][0] / kvfs["wall_s"][0]
    assert kvfs["speed"] == pytest.approx(expected, abs=1e-4)


def test_memory_of_the_server_is_recorded(reports: dict[str, dict[str, Any]]) -> None:
    peaks = [item["peak_bytes"] for item in reports["large"]["measurements"]]
    for peak in peaks:
        assert 1 << 20 < peak["anonymous"] < peak["total"] < 1 << 40
        assert peak["file"] > 0


def _files(root: Path) -> dict[str, bytes]:
    tree = {f"d{number % 3}/f{number}": b"contents of %d" % number for number in range(30)}
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tree


def read(*arguments: str | Path) -> dict[str, Any]:
    """What the reader of the harness reports."""
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "lib" / "reader.py", *arguments],
        capture_output=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_the_reader_reads_the_same_in_any_order(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    tree = _files(root)
    names = tmp_path / "names"
    names.write_bytes(b"".join(name.encode() + b"\0" for name in reversed(tree)))
    walked, listed = read("walk", root), read("list", root, names)
    assert walked["files"] == listed["files"] == len(tree)
    assert walked["bytes"] == listed["bytes"] == sum(map(len, tree.values()))
    assert walked["digest"] == listed["digest"]


@pytest.mark.parametrize("damage", ["another byte", "swapped names", "longer than the buffer"])
def test_the_digest_notices(tmp_path: Path, damage: str) -> None:
    root = tmp_path / "tree"
    _files(root)
    one, two = root / "d0" / "f0", root / "d1" / "f1"
    if damage == "longer than the buffer":
        one.write_bytes(bytes(300_000))
    before = read("walk", root)["digest"]
    if damage == "swapped names":
        content = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(content)
    else:
        with one.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
    assert read("walk", root)["digest"] != before


def test_no_room_is_said_before_anything_is_written(tmp_path: Path) -> None:
    done = run("--suite", "ingest", "--scale", "1e6", "--scratch", tmp_path / "scratch")
    assert done.returncode == 1
    assert "needs" in done.stderr
    assert "--scratch" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_command_is_said(tmp_path: Path) -> None:
    done = run("--suite", "ingest", "--scale", "1e-4", "--kvfs", tmp_path / "no-such-kvfs",
               "--scratch", tmp_path / "scratch")  # fmt: skip
    assert done.returncode == 1
    assert "no-such-kvfs" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_examples() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    for suite in SUITES:
        assert suite in done.stdout
