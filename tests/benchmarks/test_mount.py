"""``kvfs bench mount`` whole, at a tiny size: real mounts of everybody who is installed.

Nothing here looks at how long anything took.  That answers are right is asserted by the harness
itself, against what it generated; here it is asserted that it did so.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs_bench import caches
from kvfs_bench.mount import kvfs, local, peers
from kvfs_bench.mount.goals import GOALS
from kvfs_bench.mount.works import ALL, COLD, FIRST_LOOKS, IN_PROCESS, WORKS
from kvfs_bench.processes import mounts_below
from kvfs_bench.programs import Programs
from kvfs_bench.readers import compiled

from .conftest import Run


@attrs.frozen
class Ran:
    """One run, and what it wrote."""

    report: dict[str, Any]
    html: str
    stdout: str
    stderr: str

    @property
    def result(self) -> dict[str, Any]:
        """The one suite of it."""
        (result,) = self.report["suites"]
        found: dict[str, Any] = result
        return found

    def rows(self, contestant: str) -> list[dict[str, Any]]:
        """What one contestant did."""
        return [row for row in self.result["measurements"] if row["contestant"] == contestant]


@pytest.fixture(scope="module")
def ran(bench: Run, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All works by all contestants, once."""
    home = tmp_path_factory.mktemp("mount")
    outputs: list[str | Path] = ["--json", home / "out.json", "--html", home / "out.html"]
    outputs += ["--markdown", home / "out.md", "--scratch", home / "scratch"]
    done = bench("mount", "--scale", "tiny", "--rounds", "1", *outputs)
    assert done.returncode == 0, done.stderr
    assert [*(home / "scratch").iterdir()] == [], "a run leaves nothing behind"
    assert done.stdout == (home / "out.md").read_text()
    report = json.loads((home / "out.json").read_text())
    return Ran(report, (home / "out.html").read_text(), done.stdout, done.stderr)


def test_every_answer_was_compared_with_the_truth(ran: Ran) -> None:
    assert {
        "counts",
        "digests of everything read",
        "sizes",
        "names",
        "texts",
    } == set(ran.result["checks"])
    reads = [row for row in ran.result["measurements"] if "read all" in row["work"]]
    done = sum(len(row["wall_s"]) for row in reads)
    assert ran.result["checks"]["digests of everything read"] >= done > 30


def test_whoever_is_installed_took_part_in_every_work_of_theirs(ran: Ran) -> None:
    programs = Programs.find()
    installed: dict[str, frozenset[str]] = {local.WARM: ALL}
    for variant in kvfs.VARIANTS:
        if not kvfs._lacking(variant, "lmdb"):
            installed[kvfs.name_of("lmdb", variant.name)] = variant.works
    installed[kvfs.name_of("lmdb", "in-process")] = IN_PROCESS
    if os.geteuid() == 0:
        installed |= {local.FOOTING: ALL, "tmpfs": local.Memory(place=Path("/")).works}
    for name, command in (
        (peers.RATARMOUNT, programs.ratarmount),
        (peers.SQUASHFUSE, programs.squashfuse),
        (peers.ARCHIVEMOUNT, programs.archivemount),
    ):
        if command is None:
            assert "install" in ran.result["missing"][name]
        else:
            installed[name] = FIRST_LOOKS if name == peers.ARCHIVEMOUNT else ALL
    assert kvfs.name_of("lmdb", "fuse") in installed
    possible = ALL if caches.can_drop() else ALL - COLD
    for name, works in installed.items():
        wanted = {
            work.row(turn)
            for work in WORKS
            if work.id in works & possible
            for turn in range(work.passes)
        }
        found = {row["work"] for row in ran.rows(name) if row["wall_s"] or row["remark"]}
        assert found == wanted, name
        assert any(row["wall_s"] for row in ran.rows(name)), name


def test_compiled_programs_are_there_where_their_tools_are(ran: Ran, tmp_path: Path) -> None:
    for name, contestant in ((compiled.SERVER, "C server on lmdb, no push"), (compiled.READER, "")):
        built = compiled.build(name, tmp_path, warnings_fail=True)
        if built.path is None:
            assert "apt-get install" in built.problem
            assert built.problem in ran.result["missing"].values()
        else:
            assert built.path.exists()
            assert not contestant or len(ran.rows(contestant)) == len(ALL - COLD) + 4


def test_each_number_says_where_it_is_from(ran: Ran) -> None:
    result = ran.result
    assert ran.report["format"] == 3
    assert ran.report["environment"]["kernel"]
    assert os.uname().nodename not in json.dumps(ran.report["environment"]).split('"')
    assert result["rounds"] == 1
    for row in result["measurements"]:
        assert row["state"] in result["states"], row
        assert row["durability"] in result["durabilities"], row
        assert row["quantity"] > 0
        assert len(row["rounds"]) == len(row["wall_s"]) == len(row["cpu_s"])
        assert row["wall_s"] or row["remark"], row
        if row["wall_s"]:
            assert row["per_second"] == pytest.approx(row["quantity"] / row["median_s"])
    for work in {row["work"] for row in result["measurements"]}:
        (warm,) = (row for row in ran.rows(local.WARM) if row["work"] == work)
        assert warm["speeds"][local.WARM]["median"] == 1
        assert warm["state"] == ("cold" if work.startswith("cold") else "warm")


def test_servers_are_metered(ran: Ran) -> None:
    (first, second) = (
        row
        for row in ran.rows(kvfs.name_of("lmdb", "fuse"))
        if row["work"].startswith("read all, directory order, compiled")
    )
    for row in (first, second):
        assert row["requests_are"] in ("counted", "replies")
        assert 1 << 20 < row["peak_bytes"]["anonymous"] < row["peak_bytes"]["total"] < 1 << 40
    assert first["state"] == "fresh"
    assert second["state"] == "again"
    # The kernel keeps what it was given: a second pass asks for next to nothing.
    assert sum(second["requests"]) <= max(0.1 * first["quantity"], sum(first["requests"]) / 2)
    for row in ran.rows(peers.SQUASHFUSE):
        assert row["requests_are"] == "replies"


def test_all_goals_are_judged(ran: Ran) -> None:
    assert len(ran.result["goals"]) == len(GOALS)
    for goal in ran.result["goals"]:
        assert goal["met"] in (True, False, None)
        assert goal["goal"] in ran.stdout
        assert goal["work"] in ran.stdout


class _Page(HTMLParser):
    """What a browser would fetch, and what is open where it should not be."""

    VOID = frozenset(("meta", "br", "line", "rect", "path", "th"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [name for name, _ in attributes if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(ran: Ran) -> None:
    page = _Page(ran.html)
    assert page.open == []
    assert page.fetched == []
    assert not {"script", "link", "img", "iframe", "object"} & {*page.tags}
    assert re.findall(r"https?:|@import|url\(", ran.html) == []
    assert page.tags.count("svg") > len(WORKS)
    assert "prefers-color-scheme: dark" in ran.html
    for row in ran.result["measurements"]:
        assert row["work"] in ran.html


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    words = ["bench", "mount", "--scale", "tiny", "--work", "find", "--rounds", "1000"]
    with subprocess.Popen(
        [sys.executable, "-m", "kvfs_frontend_cli", *words, "--scratch", scratch],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        # Once in the middle of it: works are under way, and a file system is or was mounted.
        said = ""
        while "round 2" not in said:
            said = process.stderr.readline()
            assert said, "it ended by itself"
        deadline = time.monotonic() + 30
        while not mounts_below(scratch) and time.monotonic() < deadline:
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "Traceback" not in rest
    assert [*scratch.iterdir()] == []
    assert mounts_below(tmp_path) == []
