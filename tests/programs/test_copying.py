"""rsync and tar, onto the mount and off it: the same tree comes back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kvfs.testing.trees import assert_same_tree, tree_of

from .conftest import Run


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything, with odd names, times, owners and modes."""
    root = tmp_path_factory.mktemp("original") / "tree"
    root.mkdir()
    (root / "sub" / "deep").mkdir(parents=True)
    for number in range(200):
        (root / "sub" / f"file {number}").write_bytes(os.urandom(number * 37))
    (root / "large").write_bytes(os.urandom(3_000_000))
    (root / "empty").touch()
    os.link(root / "large", root / "sub" / "another name")
    (root / "sub" / "link").symlink_to("../large")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    Path(os.fsdecode(os.fsencode(root) + b"/we\nird \xff\xfe")).write_text("odd\n")
    with (root / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"data behind a hole")
        file.truncate(9_000_000)
    os.setxattr(root / "large", "user.note", b"kept\0raw")
    os.setxattr(root / "sub", "user.of.directory", b"kept")
    (root / "large").chmod(0o6751)
    os.chown(root / "empty", 33, 44)
    (root / "sticky").mkdir(mode=0o755)
    (root / "sticky").chmod(0o1777)
    os.utime(root / "large", ns=(981_173_106_123_456_789, 981_173_106_987_654_321))
    os.utime(root / "sub" / "deep", ns=(0, 1_000_000_000_000_000_007))
    return root


def check_same(one: Path, other: Path, run: Run) -> None:
    """Names, contents, attributes, links and extended attributes."""
    assert_same_tree(tree_of(one), tree_of(other))


def test_rsync_both_ways(original: Path, place: Path, tmp_path: Path, run: Run) -> None:
    options = ["-aHAXS", "--numeric-ids"]
    run("rsync", *options, f"{original}/", place / "there")
    check_same(original, place / "there", run)
    run("rsync", *options, f"{place}/there/", tmp_path / "back")
    check_same(original, tmp_path / "back", run)
    again = run(
        "rsync", *options, "--itemize-changes", "--checksum", f"{original}/", place / "there"
    )
    assert again == "", "nothing is left to be copied"


def test_rsync_takes_over_what_changed(place: Path, tmp_path: Path, run: Run) -> None:
    source, there = tmp_path / "source", place / "there"
    source.mkdir()
    for number in range(30):
        (source / f"f{number}").write_bytes(os.urandom(20_000))
    run("rsync", "-a", f"{source}/", there)
    (source / "f3").write_bytes((source / "f3").read_bytes()[:9_000] + os.urandom(500))
    (source / "f4").unlink()
    (source / "f5").rename(source / "g5")
    for extra in ("--inplace", "--no-whole-file"):
        run("rsync", "-a", "--delete", "--no-whole-file", extra, f"{source}/", there)
        run("diff", "-r", source, there)
        (source / "f6").write_bytes(os.urandom(100) + (source / "f6").read_bytes())


def test_tar_both_ways(original: Path, place: Path, tmp_path: Path, run: Run) -> None:
    options = ["--format=pax", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner"]
    first, second = tmp_path / "first.tar", place / "second.tar"
    run("tar", *options, "--sparse", "-cf", first, "-C", original.parent, "tree")
    run("tar", *options, "-xpf", first, "-C", place)
    run("tar", *options, "--compare", "-f", first, "-C", place)
    check_same(original, place / "tree", run)
    run("tar", *options, "--sparse", "-cf", second, "-C", place, "tree")
    back = tmp_path / "back"
    back.mkdir()
    run("tar", *options, "-xpf", second, "-C", back)
    run("tar", *options, "--compare", "-f", second, "-C", back)
    check_same(original, back / "tree", run)
    run("diff", "-r", "--no-dereference", original / "sub", place / "tree" / "sub")
