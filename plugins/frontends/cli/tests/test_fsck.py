"""``kvfs fsck``, ``kvfs dump`` and ``kvfs load`` of a volume that was written to."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from kvfs.files.records import unlinked_key
from kvfs.volume import Volume, from_file, from_tables

from .conftest import Home


@pytest.fixture
def written(home: Home, tmp_path: Path) -> Path:
    """The configuration of a volume with a few files, unmounted."""
    config = tmp_path / "written.toml"
    config.write_text(
        f'[kv]\ndriver = "lmdb"\npath = "{tmp_path / "store"}"\n[backing]\ndriver = "scratch"\n'
    )
    target = tmp_path / "mnt"
    target.mkdir()
    home.run("mount", config, target)
    (target / "dir").mkdir()
    (target / "dir" / "file").write_bytes(os.urandom(300_000))
    os.link(target / "dir" / "file", target / "other name")
    (target / "link").symlink_to("dir/file")
    assert "umount" in home.error("fsck", config, code=8)
    assert "umount" in home.error("fsck", target, code=8)
    home.run("umount", target)
    return config


def hurt(config: Path) -> None:
    """Say of an inode that is not there that it was unlinked."""
    kv = {"driver": "lmdb", "path": str(config.with_name("store"))}
    tables = {"kv": kv, "backing": {"driver": "scratch"}}
    with Volume(from_tables(tables, where="a test")) as volume:
        volume.state.put(unlinked_key(4711), b"")


def test_exit_codes_are_those_of_fsck(home: Home, written: Path) -> None:
    assert "clean" in home.text("fsck", written)
    assert "clean" in home.text("fsck", written, "--repair")
    hurt(written)
    said = home.text("fsck", written, code=4)
    assert "unlinked: inode 4711 " in said
    assert "--repair" in said
    assert "found and mended" in home.text("fsck", written, "--repair", code=1)
    assert "clean" in home.text("fsck", written)
    home.error("fsck", written.with_name("nowhere.toml"), code=8)


def test_json(home: Home, written: Path) -> None:
    hurt(written)
    problem, outcome = home.json_lines("fsck", written, code=4)
    assert problem["kind"] == "unlinked"
    assert problem["inode"] == 4711
    assert outcome == {"outcome": "left", "found": 1, "left": 1}
    assert home.json_lines("fsck", written, "--repair", code=1)[-1]["outcome"] == "mended"
    assert home.json_lines("fsck", written) == [{"outcome": "clean", "found": 0, "left": 0}]


def test_tarballs_are_under_seals(home: Home, tarballs: Path) -> None:
    assert "0 more were fetched" in home.text("fsck", tarballs)
    home.run("ingest", tarballs, "plain")
    [outcome] = home.json_lines("fsck", tarballs)
    assert outcome == {"outcome": "clean", "found": 0, "left": 0, "written": 0, "sealed": 1}
    assert "kvfs tar" in home.error("dump", tarballs, code=8)


def test_tarballs_that_were_written_to(home: Home, changed: Path) -> None:
    assert "1 tarballs were written to, 1 more were" in home.text("fsck", changed)
    _, inode = home.json_lines("inspect", changed, "/tree/tree/new")
    with Volume(from_file(changed)) as volume:
        volume.state.put(bytes.fromhex(inode["key_hex"]), b"torn")
    kinds = {
        each.get("kind"): each.get("path") for each in home.json_lines("fsck", changed, code=4)
    }
    assert kinds["dangling"] == "tree/tree"
    said = home.text("fsck", changed, "--repair", code=1)
    assert "dangling: /tree/tree (inode 0x" in said
    assert "clean" in home.text("fsck", changed)
    names = home.text("ls", changed, "tree/tree").split()
    assert "new" not in names
    assert "README" in names


def test_metadata_from_one_volume_to_another(home: Home, written: Path, tmp_path: Path) -> None:
    lines = tmp_path / "meta.jsonl"
    assert "4 inodes with 4 names" in home.text("dump", written, lines)
    assert home.run("dump", written).stdout == lines.read_bytes()
    home.error("dump", written, lines, code=4)
    home.run("dump", written, lines, "--force")
    assert json.loads(lines.read_bytes().splitlines()[0])["format"] == "kvfs metadata"
    place = ["--kv", "lmdb", "--cache", tmp_path / "copy"]
    with lines.open("rb") as stream:
        subprocess.run(
            home.command("load", "scratch://copy", *place),
            env=home.environment,
            stdin=stream,
            check=True,
            capture_output=True,
        )
    assert (
        home.run("dump", "scratch://copy", *place).stdout.splitlines()[1:-1]
        == (lines.read_bytes().splitlines()[1:-1])
    )
    assert "clean" in home.text("fsck", "scratch://copy", *place)
    home.error("load", "scratch://copy", lines, *place, code=4)
    listed = home.json_lines("ls", "-lR", "scratch://copy", *place)
    assert sorted(entry["path"] for entry in listed) == ["dir", "dir/file", "link", "other name"]
