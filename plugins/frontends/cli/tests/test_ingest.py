"""``kvfs ingest``: what was fetched, what was not, and an exit code that says which."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from kvfs_frontend_cli._exits import Exit

from .conftest import SLOW, Home


def test_everything(home: Home, tarballs: Path) -> None:
    reports = home.json_lines("ingest", tarballs, "--all")
    assert {report["object"] for report in reports} == {
        "tree.tar.gz", "plain.tar", "below/other.tar.xz",
    }  # fmt: skip
    assert {report["outcome"] for report in reports} == {"fetched"}
    by_name = {report["object"]: report for report in reports}
    assert by_name["tree.tar.gz"]["compression"] == "gzip"
    assert by_name["below/other.tar.xz"]["members"] == 1
    assert by_name["tree.tar.gz"]["archive_bytes"] == (tarballs / "tree.tar.gz").stat().st_size
    assert home.json("status", tarballs)["tarballs"]["states"] == {"sealed": 3}
    again = home.json_lines("ingest", tarballs, "--all")
    assert {report["outcome"] for report in again} == {"present"}


@pytest.mark.parametrize(
    ("paths", "sealed"),
    [
        (["tree"], 1),
        (["below"], 1),
        (["plain", "below/other"], 2),
        (["tree/tree/sub"], 1),
        (["/"], 3),
    ],
)
def test_some(home: Home, tarballs: Path, paths: list[str], sealed: int) -> None:
    assert home.lines("ingest", tarballs, *paths)[-1] == f"{sealed} fetched"
    assert home.json("status", tarballs)["tarballs"]["states"]["sealed"] == sealed


def test_a_damaged_tarball_is_served_as_far_as_it_goes_and_exits_otherwise(
    home: Home, tarballs: Path
) -> None:
    plain = gzip.decompress((tarballs / "tree.tar.gz").read_bytes())
    (tarballs / "cut.tar").write_bytes(plain[: 512 * 200])
    done = home.run("ingest", tarballs, "--all", code=Exit.CORRUPT)
    lines = done.stdout.decode().splitlines()
    assert lines[-1] == "4 fetched, 1 of them with members lost"
    assert any(line.startswith("  truncated: ") for line in lines)
    assert home.run("ingest", tarballs, "--all", code=Exit.CORRUPT).stderr == b""
    about = home.json("info", tarballs, "cut")
    assert about["members_lost"] == 1
    assert [problem["kind"] for problem in about["problems"]] == ["truncated"]
    assert home.json("info", tarballs, "cut", "--problems", 0)["problems"] == []


def test_one_that_fails_does_not_keep_the_others(home: Home, tarballs: Path) -> None:
    (tarballs / "bad.tar").write_bytes(b"no tarball at all" * 500)
    done = home.run("ingest", tarballs, "--all", "--json", code=Exit.CORRUPT)
    assert done.stdout.count(b'"outcome":"fetched"') == 3
    assert done.stdout.count(b'"outcome":"failed"') == 1
    assert b"bad.tar" in done.stderr


def test_an_object_that_goes_away(home: Home, tarballs: Path) -> None:
    shutil.rmtree(tarballs / "below")
    assert "below" in home.error("ingest", tarballs, "below/other", code=Exit.NOT_FOUND)


@pytest.mark.parametrize("words", [[], ["--all", "tree"]])
def test_it_must_be_said_what(home: Home, tarballs: Path, words: list[str]) -> None:
    assert "--all" in home.error("ingest", tarballs, *words, code=Exit.USAGE)


def test_progress_goes_to_standard_error_and_only_there(home: Home, slow: Path) -> None:
    done = home.run("ingest", "--progress", "--set", SLOW, slow, "--all")
    assert done.stdout.startswith(b"slow.tar: 801 members, ")
    counts = [
        int(line.split()[2].replace(b",", b""))
        for line in done.stderr.splitlines()
        if b" members, " in line
    ]
    assert len(counts) >= 2
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= 801
