"""The suites about fetching at a tiny size, and what every command of ``kvfs bench`` has.

Nothing here looks at how long anything took.  That answers are right is asserted by the harness
itself, against what it generated; here it is asserted that it did so, and that it would notice.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from kvfs_bench._commands import COMMANDS
from kvfs_bench.publish import HOME, newest, with_results

from .conftest import Run

SCALE = 0.003
SUITES = ("ingest", "large", "catalogue", "requests")


@pytest.fixture(scope="module")
def reports(bench: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Every suite's result."""
    found: dict[str, dict[str, Any]] = {}
    for name in SUITES:
        home = tmp_path_factory.mktemp(name)
        options: list[str | Path] = ["--rounds", "1", "--scale", "tiny", "--json", home / "o.json"]
        options += ["--markdown", home / "o.md", "--html", home / "o.html"]
        done = bench(name, *options, "--scratch", home / "scratch")
        assert done.returncode == 0, done.stderr
        assert done.stdout == (home / "o.md").read_text()
        assert re.findall(r"https?:", (home / "o.html").read_text()) == []
        assert [*(home / "scratch").iterdir()] == [], "a run leaves nothing behind"
        report = json.loads((home / "o.json").read_text())
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
    ],
)
def test_kvfs_and_the_local_disk_take_part_and_peers_are_there_or_missing(
    reports: dict[str, dict[str, Any]], suite: str, contestants: set[str]
) -> None:
    result = reports[suite]
    found = {item["contestant"] for item in result["measurements"]}
    assert contestants <= found
    peers = {"ingest": {"ratarmount"}}.get(suite, set())
    present = {name.partition(",")[0] for name in found}
    assert peers == (peers & present) | set(result["missing"])
    assert all("install" in how for how in result["missing"].values())


def test_speeds_are_relative_to_the_reference(reports: dict[str, dict[str, Any]]) -> None:
    by_contestant = {item["contestant"]: item for item in reports["ingest"]["measurements"]}
    assert by_contestant["tar xf"]["speeds"]["tar xf"]["median"] == 1
    kvfs = by_contestant["kvfs, lmdb"]
    expected = by_contestant["tar xf"]["wall_s"][0] / kvfs["wall_s"][0]
    assert kvfs["speeds"]["tar xf"]["median"] == pytest.approx(expected)


def test_memory_of_the_server_is_recorded(reports: dict[str, dict[str, Any]]) -> None:
    peaks = [item["peak_bytes"] for item in reports["large"]["measurements"]]
    for peak in peaks:
        assert 1 << 20 < peak["anonymous"] < peak["total"] < 1 << 40
        assert peak["file"] > 0


def test_no_room_is_said_before_anything_is_written(bench: Run, tmp_path: Path) -> None:
    done = bench("ingest", "--scale", "1e6", "--scratch", tmp_path / "scratch")
    assert done.returncode == 9
    assert "needs" in done.stderr
    assert "--scratch" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ingest", "--kvfs", "/no-such-kvfs"), "no-such-kvfs"),
        (("ingest", "--scale", "huge"), "tiny, small, full"),
        (("ingest", "--scale", "-1"), "more than 0"),
        (("ingest", "--scale", "nan"), "more than 0"),
        (("ingest", "--rounds", "0"), "--rounds"),
        (("ingest", "--cpu", "4096"), "4096"),
        (("ingest", "--json", "/no-such-directory/out.json"), "no-such-directory"),
        (("mount", "--work", "fnd"), "find"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    bench: Run, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    done = bench(*words, "--scratch", tmp_path / "scratch")
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "scratch").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help_with_examples(bench: Run, command: Any) -> None:
    done = bench(command.name.partition(" ")[2], "--help")
    assert done.returncode == 0
    assert command.summary in " ".join(done.stdout.split())
    assert command.examples
    for typed, does in command.examples:
        assert typed.startswith(f"kvfs {command.name}")
        assert typed in done.stdout
        assert does in done.stdout
    for row in re.findall(r"│ (--.*?)│", done.stdout):
        assert re.search(r" {2,}[A-Z][^ ]* [^ ]+", row), row


def test_examples_use_options_that_there_are(bench: Run) -> None:
    for command in COMMANDS:
        text = bench(command.name.partition(" ")[2], "--help").stdout
        for typed, _ in command.examples:
            for option in re.findall(r"--[a-z-]+", typed):
                assert f" {option} " in text, typed


def test_the_group_is_one_command_of_kvfs(bench: Run) -> None:
    done = bench("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert command.name.partition(" ")[2] in done.stdout


def test_published_results_are_in_the_readme() -> None:
    text = (HOME / "README.md").read_text()
    assert with_results(text, newest(HOME / "results")) == text


def test_commands_are_imported_only_when_used() -> None:
    import subprocess

    script = (
        "import sys, kvfs_bench._hooks as hooks\n"
        "from cyclopts import App\n"
        "hooks.kvfs_commands(App())\n"
        "print(*[name for name in sys.modules if name.startswith('kvfs_bench.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["kvfs_bench._hooks", "kvfs_bench._commands"]
