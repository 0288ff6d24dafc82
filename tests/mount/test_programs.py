"""Ordinary programs over a mount do what they do over the same files on the local disk."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from kvfs.testing.mounts import Site, wait_until
from kvfs.testing.trees import assert_same_tree, tree_of

from .archives import make_repository, make_tree, run, unpack

ROWS = 20_000


@attrs.frozen
class Pair:
    """A tree as GNU tar unpacks it, and the same as it is mounted."""

    local: Path
    mounted: Path


@pytest.fixture(scope="module")
def pair(shared_site: Site) -> Pair:
    """A package to import, a git repository, a database, and one of everything else."""
    original = shared_site.path / "original"
    library = Path(sysconfig.get_paths()["stdlib"])
    make_tree(original / "everything")
    (original / "everything" / "socket").unlink()
    run("git", "--version")
    make_repository(original / "repository")
    (original / "packages").mkdir()
    for name in ("json", "email", "xml", "unittest"):
        excluded = ["--exclude=__pycache__", "--exclude=test"]
        words = ["tar", *excluded, "-C", str(library), "-cf", "-", name]
        packed = subprocess.run(words, capture_output=True, check=True)
        unpacked = ["tar", "-C", str(original / "packages"), "-xf", "-"]
        subprocess.run(unpacked, input=packed.stdout, check=True)
    (original / "packages" / "json").rename(original / "packages" / "carried")
    make_database(original / "rows.sqlite")
    with zipfile.ZipFile(original / "zipped.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.write(library / "argparse.py", "argparse.py")
    folder = shared_site.path / "folder"
    folder.mkdir()
    options = ["--format=pax", "--xattrs", "--xattrs-include=*", "--zstd"]
    run("tar", *options, "-cf", folder / "all.tar.zst", "-C", original, ".")
    unpack(folder / "all.tar.zst", shared_site.path / "unpacked")
    mounted = shared_site.mount(folder)
    pair = Pair(shared_site.path / "unpacked", mounted.path / "all")
    assert len(os.listdir(pair.mounted)) == 5
    # The kernel may believe for a second what was known of the directory before it was fetched.
    wait_until(lambda: _mtimes_agree(pair), "the root is known")
    return pair


def _mtimes_agree(pair: Pair) -> bool:
    return pair.local.stat().st_mtime_ns == pair.mounted.stat().st_mtime_ns


def make_database(path: Path) -> None:
    """Twenty thousand rows with an index."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table rows (number integer, text text)")
        rows = ((number, f"row {number * 7919 % ROWS}") for number in range(ROWS))
        database.executemany("insert into rows values (?, ?)", rows)
        database.execute("create index by_text on rows (text)")


def both(pair: Pair, *words: str, below: str = ".") -> str:
    """Run a program in a directory of either tree; what it prints, the same of both."""
    answers = []
    for root in (pair.local, pair.mounted):
        done = subprocess.run(words, cwd=root / below, capture_output=True, check=False)
        assert done.returncode == 0, (root, done.stderr)
        answers.append((done.stdout, done.stderr))
    assert answers[0] == answers[1]
    return answers[1][0].decode("utf-8", "surrogateescape")


def test_python_import(pair: Pair) -> None:
    program = (
        "import sys; sys.path.insert(0, '.'); import carried, carried.tool;"
        "print(carried.dumps({'a': [1, 2]}), carried.__file__.endswith('carried/__init__.py'))"
    )
    said = both(pair, sys.executable, "-B", "-S", "-c", program, below="packages")
    assert said == '{"a": [1, 2]} True\n'


def test_python_runs_from_inside(pair: Pair) -> None:
    said = both(pair, sys.executable, "-m", "zipfile", "-l", "zipped.zip")
    assert "argparse.py" in said
    code = "import sys; sys.path.insert(0, 'zipped.zip'); import argparse; print(argparse.__file__)"
    assert both(pair, sys.executable, "-B", "-S", "-c", code) == "zipped.zip/argparse.py\n"


@pytest.mark.parametrize(
    ("words", "least"),
    [
        (("sh", "-c", "grep -r -c import packages | LC_ALL=C sort"), 50),
        (("sh", "-c", "grep -r -l JSONDecoder . | LC_ALL=C sort"), 3),
        (("sh", "-c", "find . | LC_ALL=C sort"), 500),
        (("sh", "-c", "find . -type f -newer everything/empty -size +2k | LC_ALL=C sort"), 50),
        (("sh", "-c", "find . -links +1 -type f | LC_ALL=C sort"), 5),
        (("sh", "-c", "find . -perm -4000 -o -type b -o -type p | LC_ALL=C sort"), 3),
        (("sh", "-c", "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"), 300),
        (("sh", "-c", "ls -lR --time-style=full-iso packages repository | grep -v ^total"), 100),
        (("sh", "-c", "du -ab --exclude='*d' repository packages | LC_ALL=C sort -k2 | wc -l"), 1),
        (("wc", "-c", "rows.sqlite", "zipped.zip"), 3),
        (("cmp", "everything/large", "everything/hard/1"), 0),
        (("sh", "-c", "head -c 100000 rows.sqlite | tail -c 1000 | od"), 10),
    ],
)  # fmt: skip
def test_same_output(pair: Pair, words: tuple[str, ...], least: int) -> None:
    assert len(both(pair, *words).splitlines()) >= least


def test_tar_again(pair: Pair) -> None:
    """An archive made of the mount is the archive made of the unpacked tree, byte for byte."""
    words = ("tar", "--format=gnu", "--sort=name", "-cf", "-", ".")
    sums = set()
    for root in (pair.local, pair.mounted):
        packed = subprocess.run(words, cwd=root, capture_output=True, check=True).stdout
        assert len(packed) > 3_000_000
        sums.add(hashlib.sha256(packed).hexdigest())
    assert len(sums) == 1


def test_cp(pair: Pair, tmp_path: Path) -> None:
    run("cp", "-a", pair.mounted, tmp_path / "copy")
    assert_same_tree(tree_of(pair.local), tree_of(tmp_path / "copy"))


def test_python_tarfile(pair: Pair, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "again.tar", "w") as out:
        out.add(pair.mounted / "repository", "repository")
    unpack(tmp_path / "again.tar", tmp_path / "unpacked")
    left, right = pair.local / "repository", tmp_path / "unpacked" / "repository"
    # It writes times as floating point numbers, which are not exact.
    assert assert_same_tree(tree_of(left), tree_of(right), ignoring=["mtime_ns"]) > 50


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("status", "--porcelain"), ""),
        (("log", "--format=%s"), "add email\nadd logging\nadd json\n"),
        (("fsck", "--strict", "--no-progress"), ""),
        (("grep", "-c", "class JSONDecoder"), "source/json/decoder.py:1\n"),
        (("diff", "--stat", "HEAD~1"), None),
        (("show", "HEAD~2:source/json/tool.py"), None),
    ],
)
def test_git(pair: Pair, words: tuple[str, ...], told: str | None) -> None:
    """A repository that nobody may write to."""
    said = both(pair, "git", "-c", "safe.directory=*", *words, below="repository")
    assert said == told or (told is None and said)


def test_git_clone(pair: Pair, tmp_path: Path) -> None:
    words = ["git", "-c", "safe.directory=*", "clone", "-q", "--no-hardlinks"]
    run(*words, pair.mounted / "repository", tmp_path / "clone")
    assert run("git", "status", "--porcelain", cwd=tmp_path / "clone") == ""


def test_sqlite(pair: Pair) -> None:
    uri = f"{(pair.mounted / 'rows.sqlite').as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        assert database.execute("select count(*), sum(number) from rows").fetchone() == (
            ROWS,
            ROWS * (ROWS - 1) // 2,
        )
        found = database.execute("select number from rows where text = 'row 7919'").fetchall()
        assert found == [(1,)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("delete from rows")
