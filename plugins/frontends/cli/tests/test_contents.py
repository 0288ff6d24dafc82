"""``kvfs cat`` and ``kvfs tar``: bytes out, exactly, and no more than were asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from kvfs_frontend_cli._exits import Exit

from .conftest import SLOW, Home, gnu_tar
from .trees import differences


def test_contents_are_printed_byte_for_byte(home: Home, tarballs: Path, tree: Path) -> None:
    paths = ["tree/tree/binary", "tree/tree/sub/link", "plain/tree/README", "tree/tree/sparse"]
    expected = b"".join(
        (tree / name).read_bytes() for name in ("binary", "README", "README", "sparse")
    )
    assert home.run("cat", tarballs, *paths).stdout == expected


def test_names_are_bytes(home: Home, tarballs: Path) -> None:
    odd = os.fsdecode(b"tree/tree/we\nird \xff\xfe")
    assert home.run("cat", tarballs, odd).stdout == b"odd\n"


def test_an_early_member_is_printed_before_the_rest_has_arrived(home: Home, slow: Path) -> None:
    assert home.run("cat", "--set", SLOW, slow, "slow/first").stdout == b"1" * 5000
    assert home.json("status", slow)["tarballs"]["states"] == {"absent": 1}


def test_what_cannot_be_printed_does_not_keep_the_rest(home: Home, tarballs: Path) -> None:
    done = home.run(
        "cat", tarballs, "tree/none", "tree/tree/README", "tree/tree", code=Exit.NOT_FOUND
    )
    assert done.stdout == b"read me\n"
    assert b"none" in done.stderr
    assert b"is a directory" in done.stderr
    assert "special" in home.error("cat", tarballs, "tree/tree/fifo", code=Exit.USAGE)


def test_a_reader_that_goes_away_is_no_error_worth_a_word(home: Home, tarballs: Path) -> None:
    with home.start("cat", tarballs, "tree/tree/sparse") as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(10)
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == Exit.BROKEN_PIPE


def test_a_full_disk_is_one_line(home: Home, tarballs: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            home.command("cat", tarballs, "tree/tree/binary"),
            env=home.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert done.returncode == Exit.FAILURE
    assert done.stderr == b"kvfs: No space left on device\n"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)]
)
def test_a_signal_ends_it_and_the_next_start_fetches_anew(
    home: Home, slow: Path, number: signal.Signals, code: Exit
) -> None:
    with home.start("cat", "--progress", "--set", SLOW, slow, "slow/f799") as child:
        assert child.stderr is not None
        assert b"slow.tar" in child.stderr.readline()  # it is under way
        child.send_signal(number)
        assert b"Traceback" not in child.stderr.read()
    assert child.returncode == code
    assert home.json("status", slow)["tarballs"]["states"] == {"absent": 1}
    assert len(home.run("cat", slow, "slow/f799").stdout) == 5000


# -- tar -------------------------------------------------------------------------------------------


def test_a_tarball_comes_back_as_it_was(home: Home, tarballs: Path, tree: Path) -> None:
    again = tarballs.parent / "again"
    again.mkdir()
    home.run("tar", tarballs, "tree", "-o", again / "tree.tar")
    gnu_tar("-C", again, "--xattrs", "-xpf", again / "tree.tar")
    assert differences(tree, again / "tree") == []


def test_members_keep_their_order(home: Home, tarballs: Path) -> None:
    target = tarballs.parent / "again.tar"
    target.write_bytes(home.run("tar", tarballs, "tree").stdout)
    with tarfile.open(tarballs / "tree.tar.gz") as old, tarfile.open(target) as new:
        # Further names of a file follow its first one at once.
        orders = [[m.name for m in archive if not m.islnk()] for archive in (old, new)]
        assert orders[0] == orders[1]
        assert sorted(old.getnames()) == sorted(new.getnames())


def test_a_file_is_not_replaced_unless_told_to(home: Home, tarballs: Path) -> None:
    target = tarballs.parent / "again.tar"
    target.write_text("mine")
    assert "--force" in home.error("tar", tarballs, "tree", "-o", target, code=Exit.CONFLICT)
    assert target.read_text() == "mine"
    home.run("tar", tarballs, "tree", "-o", target, "--force")
    assert tarfile.is_tarfile(target)


def test_nothing_is_left_where_it_is_interrupted(home: Home, slow: Path) -> None:
    target = slow.parent / "out"
    target.mkdir()
    command = ("tar", "--progress", "--set", SLOW, slow, "slow", "-o", target / "x.tar")
    with home.start(*command) as child:
        assert child.stderr is not None
        child.stderr.readline()
        child.send_signal(signal.SIGINT)
        child.communicate()
    assert child.returncode == Exit.INTERRUPTED
    assert list(target.iterdir()) == []


@pytest.mark.parametrize("path", ["below", "tree/tree", "/", "nope"])
def test_only_a_tarball_can_be_written(home: Home, tarballs: Path, path: str) -> None:
    home.error("tar", tarballs, path, code=Exit.NOT_FOUND)
