"""``kvfs cp``: the tree that GNU tar unpacks, and nothing else touched, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from kvfs_frontend_cli._exits import Exit

from .conftest import SLOW, Home
from .trees import describe, differences


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where copies go."""
    path = tmp_path / "out"
    path.mkdir()
    return path


def test_a_tree_is_copied_with_everything(
    home: Home, tarballs: Path, tree: Path, out: Path
) -> None:
    assert home.run("cp", "-r", tarballs, "tree/tree", out).stderr == b""
    assert differences(tree, out / "tree") == []


def test_hard_links_and_holes_are_kept(home: Home, tarballs: Path, out: Path) -> None:
    home.run("cp", "-r", tarballs, "tree/tree", out)
    assert (out / "tree/README").samefile(out / "tree/sub/hard")
    sparse = (out / "tree/sparse").stat()
    assert sparse.st_size == 8 << 20
    assert sparse.st_blocks * 512 < 1 << 20


def test_the_whole_volume(home: Home, tarballs: Path, tree: Path, out: Path) -> None:
    home.run("cp", "-r", tarballs, "/", out / "all")
    assert sorted(os.listdir(out / "all")) == ["below", "plain", "tree"]
    assert differences(tree, out / "all/tree/tree") == []


def test_one_file_under_its_name_or_another(
    home: Home, tarballs: Path, tree: Path, out: Path
) -> None:
    home.run("cp", tarballs, "tree/tree/binary", out)
    home.run("cp", tarballs, "tree/tree/binary", out / "other")
    expected = describe(tree / "binary")
    assert describe(out / "binary") == describe(out / "other") == expected


def test_a_link_is_copied_as_such_only_with_r(home: Home, tarballs: Path, out: Path) -> None:
    home.run("cp", tarballs, "tree/tree/sub/link", out / "file")
    home.run("cp", "-r", tarballs, "tree/tree/sub/link", out / "link")
    assert (out / "file").read_text() == "read me\n"
    assert not (out / "file").is_symlink()
    assert os.readlink(out / "link") == "../README"


def test_nothing_is_replaced_unless_told_to(
    home: Home, tarballs: Path, tree: Path, out: Path
) -> None:
    (out / "binary").write_text("mine")
    (out / "tree").mkdir()
    (out / "tree" / "own").write_text("mine too")
    words = ("cp", "-r", tarballs, "tree/tree/binary", "tree/tree", out)
    done = home.run(*words, code=Exit.CONFLICT)
    assert done.stderr.count(b"--force") == 2
    assert (out / "binary").read_text() == "mine"
    assert os.listdir(out / "tree") == ["own"]
    home.run(*words[:2], "--force", *words[2:])
    assert (out / "binary").read_bytes() == (tree / "binary").read_bytes()
    assert differences(tree, out / "tree") == ["own is only in one of them"]


def test_what_is_in_the_way_stays_even_with_force(home: Home, tarballs: Path, out: Path) -> None:
    (out / "README" / "inside").mkdir(parents=True)
    (out / "tree").write_text("a file where a directory should go")
    words = ("cp", "-r", "--force", tarballs, "tree/tree/README", "tree/tree", out)
    home.run(*words, code=Exit.CONFLICT)
    assert (out / "README" / "inside").is_dir()
    assert (out / "tree").read_text() == "a file where a directory should go"
    assert sorted(os.listdir(out)) == ["README", "tree"]


def test_a_link_below_the_destination_leads_nowhere(
    home: Home, tarballs: Path, out: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "victim").write_text("untouched")
    (out / "tree").mkdir()
    (out / "tree" / "sub").symlink_to(elsewhere)
    (out / "tree" / "binary").symlink_to(elsewhere / "victim")
    home.run("cp", "-r", "--force", tarballs, "tree/tree", out, code=Exit.CONFLICT)
    assert os.listdir(elsewhere) == ["victim"]
    assert (elsewhere / "victim").read_text() == "untouched"
    assert not (out / "tree" / "binary").is_symlink()


def test_hostile_members_stay_inside(home: Home, tmp_path: Path, out: Path) -> None:
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    with tarfile.open(hostile / "h.tar", "w") as archive:
        for name in ("../escaped", "/absolute", "a/../../escaped", "good"):
            archive.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("way-out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("way-out/escaped"))
    home.run("cp", "-r", hostile, "h", out)
    assert not (tmp_path / "escaped").exists()
    assert not (out.parent / "escaped").exists()
    assert (out / "h" / "good").exists()
    assert (out / "h" / "absolute").exists()
    assert (out / "h" / "way-out").is_symlink()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["tree/tree"], Exit.USAGE),
        (["tree/tree/nope"], Exit.NOT_FOUND),
        (["-r", "tree/tree/.."], Exit.USAGE),
    ],
)
def test_what_cannot_be_copied(
    home: Home, tarballs: Path, out: Path, words: list[str], code: Exit
) -> None:
    *options, path = words
    home.error("cp", *options, tarballs, path, out, code=code)
    assert os.listdir(out) == []


def test_several_need_a_directory(home: Home, tarballs: Path, out: Path) -> None:
    words = ("tree/tree/README", "tree/tree/binary", out / "none")
    assert "directory" in home.error("cp", tarballs, *words, code=Exit.USAGE)


def test_no_half_file_is_left_behind_ctrl_c(home: Home, slow: Path, out: Path) -> None:
    command = ("cp", "-r", "--progress", "--set", SLOW, slow, "slow", out)
    with home.start(*command) as child:
        assert child.stderr is not None
        child.stderr.readline()
        child.send_signal(signal.SIGINT)
        child.communicate()
    assert child.returncode == Exit.INTERRUPTED
    left = [path for path in out.rglob("*") if path.is_file()]
    assert [path for path in left if path.stat().st_size != 5000 or path.name.startswith(".")] == []


def test_who_is_not_root_gets_what_he_can_have(
    home: Home, tarballs: Path, tree: Path, out: Path
) -> None:
    """Everything but owners and devices; and set-user-id would give away what is his."""
    command = home.command("cp", "-r", tarballs, "tree/tree", out / "copy")
    if os.geteuid() == 0:
        # In a user namespace that maps nobody root has no powers, but still owns its files.
        command = ["unshare", "--user", *command]
    done = subprocess.run(command, env=home.environment, capture_output=True, check=False)
    copied = out / "copy"
    assert (copied / "binary").read_bytes() == (tree / "binary").read_bytes()
    assert (copied / "locked/x").read_text() == "x\n"
    for name in ("README", "sub", "fifo", "locked"):
        expected, found = describe(tree / name), describe(copied / name)
        assert found | {"owner": None} == expected | {"owner": None}
    if os.geteuid() == 0:
        assert b"null: a device: only root can make one" in done.stderr
        assert done.returncode == Exit.UNSUPPORTED
        assert not (copied / "null").exists()
        assert (copied / "suid").stat().st_mode & 0o7777 == 0o755
        assert (copied / "binary").stat().st_uid == 0
