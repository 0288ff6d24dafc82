"""``kvfs ls``: the same as ls(1) says of the unpacked tree, and nothing fetched without need."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
from pathlib import Path

import pytest

from kvfs.files import Files
from kvfs.volume import Volume
from kvfs_frontend_cli import _listing
from kvfs_frontend_cli._exits import Exit
from kvfs_frontend_cli._locate import locate
from kvfs_frontend_cli._opening import open_located

from .conftest import SLOW, Home


def _states(home: Home, volume: Path) -> dict[str, int]:
    states = home.json("status", volume)["tarballs"]["states"]
    assert isinstance(states, dict)
    return states


def test_the_root_is_listed_without_fetching(home: Home, tarballs: Path) -> None:
    assert home.lines("ls", tarballs) == ["below", "plain", "tree"]
    assert home.lines("ls", tarballs, "below") == ["other"]
    assert len(home.lines("ls", "-l", tarballs)) == 3
    assert home.lines("ls", "-d", tarballs, "tree") == ["tree"]
    assert _states(home, tarballs) == {"absent": 3}


def test_looking_inside_fetches_that_tarball_alone(home: Home, tarballs: Path) -> None:
    assert home.lines("ls", tarballs, "plain/tree") == ["README", "sub"]
    assert _states(home, tarballs) == {"absent": 2, "sealed": 1}


def test_names_come_as_their_bytes_and_sorted(home: Home, tarballs: Path, tree: Path) -> None:
    printed = home.run("ls", "-a", tarballs, "tree/tree").stdout
    assert printed == b"".join(name + b"\n" for name in sorted(os.listdir(os.fsencode(tree))))
    hidden = home.run("ls", tarballs, "tree/tree").stdout
    assert set(printed.split(b"\n")) - set(hidden.split(b"\n")) == {b".hidden"}


def test_json_has_every_attribute_of_every_entry(home: Home, tarballs: Path, tree: Path) -> None:
    listed = {entry["path"]: entry for entry in home.json_lines("ls", "-R", tarballs, "tree/tree")}
    paths = {Path(top, name) for top, *below in os.walk(tree) for names in below for name in names}
    assert set(listed) == {f"tree/{path.relative_to(tree.parent)}" for path in paths}
    types = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}
    for path in paths:
        entry, real = listed[f"tree/{path.relative_to(tree.parent)}"], path.lstat()
        assert entry["mode"] == f"{stat.S_IMODE(real.st_mode):04o}"
        assert (entry["uid"], entry["gid"]) == (real.st_uid, real.st_gid)
        assert entry["mtime_ns"] == real.st_mtime_ns
        assert entry["nlink"] == real.st_nlink
        if stat.S_ISREG(real.st_mode) or stat.S_ISLNK(real.st_mode):
            assert entry["size"] == real.st_size
        assert entry["type"] == types.get(stat.S_IFMT(real.st_mode), entry["type"])
        assert entry.get("target") == (os.readlink(path) if path.is_symlink() else None)
        if entry["type"] == "character-device":
            assert (entry["major"], entry["minor"]) == (1, 3)


def test_recursion_prints_what_ls_prints(home: Home, tarballs: Path, tree: Path) -> None:
    ours = home.run("ls", "-R", tarballs, "tree/tree").stdout
    environment = os.environ | {"LC_ALL": "C"}
    theirs = subprocess.check_output(["ls", "-R", "tree"], cwd=tree.parent, env=environment)
    assert ours.replace(b"tree/tree", b"tree") == theirs


def test_the_long_form(home: Home, tarballs: Path) -> None:
    rows = {
        line.split()[-1]: line.split() for line in home.lines("ls", "-ln", tarballs, "tree/tree")
    }
    assert rows["binary"][0] == "-rwxr-x--x"
    assert rows["binary"][4] == "512000"
    assert rows["README"][:2] == ["-rw-r--r--", "2"]
    assert rows["all"][-4:] == ["dangling", "->", "/nowhere/at", "all"]
    if os.geteuid() == 0:
        assert rows["binary"][2:4] == ["33", "44"]
        assert rows["null"][4:6] == ["1,", "3"]
    human = home.text("ls", "-lh", tarballs, "tree/tree/binary")
    assert "500 KiB" in human
    assert human.rstrip().endswith("tree/tree/binary")


def test_a_link_is_followed_where_its_target_is_asked_for(home: Home, tarballs: Path) -> None:
    assert home.lines("ls", tarballs, "tree/tree/sub/link") == ["tree/tree/sub/link"]
    assert home.text("ls", "-l", tarballs, "tree/tree/sub/link").startswith("lrwxrwxrwx")
    assert home.error("ls", tarballs, "tree/tree/dangling", code=Exit.NOT_FOUND)


def test_control_characters_do_not_reach_a_terminal(home: Home, tarballs: Path) -> None:
    main, terminal = pty.openpty()
    command = home.command("ls", tarballs, "tree/tree")
    with subprocess.Popen(command, env=home.environment, stdout=terminal, stderr=terminal) as child:
        os.close(terminal)
        seen = b""
        try:
            while piece := os.read(main, 4096):
                seen += piece
        except OSError:
            pass  # the other side is closed
        finally:
            os.close(main)
    assert child.returncode == 0
    assert b"we\\nird \\xff\\xfe\r\n" in seen
    assert "umlaut-ä".encode() in seen


@pytest.mark.parametrize("path", ["nope", "tree/tree/nope", "tree/tree/README/nope", "below/nope"])
def test_what_is_not_there(home: Home, tarballs: Path, path: str) -> None:
    assert "nope" in home.error("ls", tarballs, path, code=Exit.NOT_FOUND)


def test_a_damaged_tarball_does_not_keep_the_others_from_being_listed(
    home: Home, tarballs: Path
) -> None:
    (tarballs / "bad.tar").write_bytes(b"this is no tarball" * 1000)
    done = home.run("ls", "-R", tarballs, code=Exit.CORRUPT)
    assert b"tree/tree/sub/deep:\nfile\n" in done.stdout
    assert done.stderr.count(b"bad") >= 1


def test_progress_of_what_takes_its_time(home: Home, slow: Path) -> None:
    done = home.run("ls", "--progress", "--set", SLOW, slow, "slow")
    assert len(done.stdout.splitlines()) == 801
    lines = done.stderr.decode().splitlines()
    assert lines
    for line in lines:
        assert line.startswith("kvfs: slow.tar: ")
        assert " members, " in line
        assert " MB/s, " in line
        assert line.endswith(" left")
    assert home.run("ls", slow, "slow").stderr == b""


@pytest.fixture
def volume(home: Home, tarballs: Path, monkeypatch: pytest.MonkeyPatch) -> Volume:
    """The volume opened in this process."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, home.environment[name])
    opened = open_located(locate(str(tarballs)))
    opened.refresh()
    return opened


def test_a_directory_too_large_to_sort_is_listed_whole(
    volume: Volume, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(_listing, "SORTED_MAX", 3)
    with volume:
        files: Files = volume.files(wait=True)
        lister = _listing.Lister(files)
        inode = files.open_path(b"tree/tree").inode
        walk = _listing.Walk(files, lister, recursive=True, sort=True, hidden=True)
        assert walk.run(b"tree/tree", inode) == Exit.OK
        names = {entry.name for entry in files.entries(inode)}
        files.close()
    printed = capfdbinary.readouterr().out
    sections = dict(
        section.split(b":\n", 1) for section in printed.strip().split(b"\n\n") if b":\n" in section
    )
    assert set(sections[b"tree/tree"].split(b"\n")) == {
        piece for name in names for piece in name.split(b"\n")
    }
    assert sections[b"tree/tree/sub/deep"] == b"file"
    assert sections[b"tree/tree/locked"] == b"x"
