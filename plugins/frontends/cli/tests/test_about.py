"""What is told about volumes, records, drivers, settings and machines is true, and JSON parses."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs import registry
from kvfs.config import Bytes, setting
from kvfs.files.records import KEYSPACES, inode_of
from kvfs.layers import LAYERS
from kvfs.testing.mounts import wait_until
from kvfs_frontend_cli._exits import Exit
from kvfs_frontend_cli._values import dump_toml, parse_value, settings_table

from .conftest import Home

BROKEN = "raise ImportError('libbroken.so.3: not found')\n"


@pytest.mark.parametrize(
    "words",
    [
        ["info", "{v}"], ["info", "{v}", "tree"], ["info", "{v}", "tree/tree/README"],
        ["status"], ["status", "{v}"], ["drivers"], ["drivers", "kv"], ["config", "explain"],
        ["config", "explain", "{v}"], ["config", "show", "{v}"],
    ],
)  # fmt: skip
def test_json_parses(home: Home, tarballs: Path, words: list[str]) -> None:
    assert home.json(*(word.format(v=tarballs) for word in words)) is not None


def test_info_of_a_tarball_fetches_nothing(home: Home, tarballs: Path) -> None:
    about = home.json("info", tarballs, "tree")
    assert about["state"] == "absent"
    assert about["object"] == "tree.tar.gz"
    assert about["size"] == (tarballs / "tree.tar.gz").stat().st_size
    home.run("ingest", tarballs, "tree")
    about = home.json("info", tarballs, "tree")
    assert (about["state"], about["compression"], about["problems"]) == ("sealed", "gzip", [])
    assert "sealed" in home.text("info", tarballs, "tree")


def test_info_of_a_file(home: Home, tarballs: Path, tree: Path) -> None:
    about = home.json("info", tarballs, "tree/tree/README")
    real = (tree / "README").stat()
    assert about["attributes"]["mtime_ns"] == real.st_mtime_ns
    assert sorted(about["names"]) == ["tree/tree/README", "tree/tree/sub/hard"]
    assert about["xattrs"] == [{"name": "user.note", "value": "kept\u0000raw"}]
    assert "981173106" not in home.text("info", tarballs, "tree/tree/README")  # a date instead
    about = home.json("info", tarballs, "tree/tree/binary")
    assert about["records"]["contents"].startswith("4 extents of 512,000 bytes")
    assert home.json("info", tarballs, "tree/tree/sub/link")["target"] == "../README"


def test_info_of_the_volume(home: Home, tarballs: Path) -> None:
    about = home.json("info", tarballs)
    assert about["tarballs"]["total"] == 3
    assert about["backing"]["path"] == str(tarballs)
    assert about["engine"]["driver"] == "lmdb"


# -- inspect ---------------------------------------------------------------------------------------


def test_the_records_of_a_path(home: Home, tarballs: Path) -> None:
    dirent, inode = home.json_lines("inspect", tarballs, "/tree/tree/README")
    assert dirent["key"].startswith("D:")
    assert dirent["fields"]["name"] == "README"
    assert inode["key"] == f"I:{dirent['fields']['inode']}"
    assert bytes.fromhex(inode["value_hex"]).endswith(b"read me\n")
    (again,) = home.json_lines("inspect", tarballs, inode["key"])
    assert again == inode
    (by_bytes,) = home.json_lines("inspect", tarballs, f"hex:{inode['key_hex']}")
    assert by_bytes == inode
    parent = dirent["fields"]["parent"]
    (by_name,) = home.json_lines("inspect", tarballs, f"D:{parent}:README")
    assert by_name == dirent
    assert len(home.json_lines("inspect", tarballs, "/")) == 1


def test_every_keyspace_of_a_real_volume(home: Home, tarballs: Path) -> None:
    plain = (tarballs / "plain.tar").read_bytes()
    (tarballs / "cut.tar").write_bytes(plain[: plain.index(b"deep\n")])
    home.run("ingest", tarballs, "tree", "plain")
    home.run("ingest", tarballs, "cut", code=Exit.CORRUPT)
    covered = set()
    # Those are only in volumes that are written to.
    spaces = [s for s in KEYSPACES if s.name not in ("unlinked", "written", "locks")]
    for space in spaces:
        for record in home.json_lines("inspect", tarballs, f"{space.letter}:", "--limit", 1000):
            assert record["fields"]["keyspace"] == space.name
            assert "damaged" not in record["fields"], record
            covered.add(space.letter)
    assert covered == {space.letter for space in spaces}


def test_a_tarball_by_name_or_number(home: Home, tarballs: Path) -> None:
    (by_name,) = home.json_lines("inspect", tarballs, "T:tree.tar.gz")
    assert by_name["fields"]["object"] == "tree.tar.gz"
    (by_number,) = home.json_lines("inspect", tarballs, by_name["key"])
    assert by_number == by_name
    tarball = int(by_name["key"].partition(":")[2])
    (root,) = home.json_lines("inspect", tarballs, f"I:{inode_of(tarball, 1)}")
    assert root["store"] == "state"


def test_records_that_lie_over_others(home: Home, changed: Path) -> None:
    records = home.json_lines("inspect", changed, "/tree/tree/binary")
    assert [(each["store"], each.get("over"), each.get("under")) for each in records] == [
        ("state", "sealed", None), ("sealed", None, "state"),
    ] * 2  # fmt: skip
    above, below = (each["fields"] for each in records[2:])
    assert (above["size"], below["size"]) == ("400000", "512000")
    assert "cut" in above
    (new, inode) = home.json_lines("inspect", changed, "/tree/tree/new")
    assert (new["store"], inode["store"]) == ("state", "state")
    assert "over" not in new
    parent = new["fields"]["parent"]
    hidden, gone = home.json_lines("inspect", changed, f"D:{parent}:empty")
    assert hidden["fields"]["hides"] == "the record of sealed"
    assert gone["fields"]["name"] == "empty"
    assert "sealed" in home.text("inspect", changed, "/tree/tree/binary", "--no-raw")
    (written,) = home.json_lines("inspect", changed, "W:")
    assert int(written["fields"]["value"]) > 1 << 31
    assert len(home.json_lines("inspect", changed, "D:", "--limit", 3)) >= 3


def test_inspect_for_people(home: Home, tarballs: Path) -> None:
    text = home.text("inspect", tarballs, "V:superblock")
    assert "hash_seed" in text
    assert '|{"format":' in text.replace(" ", "")
    assert "|" not in home.text("inspect", tarballs, "V:superblock", "--no-raw")
    assert len(home.json_lines("inspect", tarballs, "T:", "--limit", 2)) == 2


@pytest.mark.parametrize(
    ("key", "code"),
    [("I:77", Exit.NOT_FOUND), ("T:nope.tar", Exit.NOT_FOUND), ("/nope", Exit.NOT_FOUND),
     ("X:1", Exit.USAGE), ("I:x", Exit.USAGE)],
)  # fmt: skip
def test_no_such_record(home: Home, tarballs: Path, key: str, code: Exit) -> None:
    home.error("inspect", tarballs, key, code=code)


# -- drivers, config, doctor -----------------------------------------------------------------------


def test_drivers_are_those_that_are_installed(home: Home) -> None:
    found = {(driver["kind"], driver["name"]) for driver in home.json("drivers")}
    assert found == {
        (kind, entry.name) for kind in registry.KINDS for entry in registry.installed(kind)
    }
    only = home.json("drivers", "backing")
    assert {driver["kind"] for driver in only} == {"backing"}
    assert all(driver["ok"] and driver["version"] and driver["distribution"] for driver in only)
    assert "longest key" in home.text("drivers", "kv", "--capabilities")


def test_a_broken_driver_is_listed_with_its_reason(
    home: Home, plugin: Callable[[str, str, str], None]
) -> None:
    plugin("kvfs.kv", "broken", BROKEN)
    text = home.text("drivers", "kv")
    assert "BROKEN" in text
    assert "libbroken.so.3" in text
    assert "plugin_broken" in text
    entry = next(driver for driver in home.json("drivers") if driver["name"] == "broken")
    assert (entry["ok"], entry["version"]) == (False, "1.5")


def test_every_setting_is_explained(home: Home) -> None:
    sections = home.json("config", "explain")
    for kind in registry.KINDS:
        for entry in registry.installed(kind):
            assert entry.info is not None
            rows = sections[f'[{kind}] driver = "{entry.name}"']
            names = [field.name for field in attrs.fields(entry.info.settings)]
            assert [row["name"] for row in rows] == names
            assert all(row["help"] and row["type"] for row in rows)
    for layer in LAYERS:
        assert any(layer in title for title in sections)
    assert "map_size" in home.text("config", "explain")


def test_values_are_explained(home: Home, tarballs: Path) -> None:
    sections = home.json("config", "explain", tarballs, "--set", "ingest.workers=9")
    rows = {row["name"]: row for row in sections["[ingest]"]}
    assert (rows["workers"]["value"], rows["workers"]["default"]) == ("9", "2")


def test_what_is_shown_is_a_configuration_of_the_same_volume(home: Home, tarballs: Path) -> None:
    config = tarballs.parent / "shown.toml"
    words = ("--set", "volume.refresh=7s", "--set", 'kv.layer=[{name="metrics"}]')
    config.write_text(home.text("config", "show", tarballs, *words))
    assert home.json("config", "show", config) == home.json("config", "show", tarballs, *words)
    assert home.lines("ls", config) == ["below", "plain", "tree"]


@attrs.frozen
class _Settings:
    password: str = setting("hunter2", help="secret", secret=True)
    size: Bytes = setting(Bytes(3), help="a size")
    names: tuple[str, ...] = setting(('q"uote\n\x7f', "ä"), help="names")
    nothing: str | None = setting(None, help="unset")


def test_secrets_are_masked_and_toml_is_toml() -> None:
    table = settings_table(_Settings())
    text = dump_toml({"kv": table | {"layer": [{"name": "x", "ratio": 0.5}], "on": False}})
    assert "hunter2" not in text
    assert tomllib.loads(text) == {
        "kv": {
            "password": "********",
            "size": 3,
            "names": ['q"uote\n\x7f', "ä"],
            "on": False,
            "layer": [{"name": "x", "ratio": 0.5}],
        }
    }


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("12", str, "12"), ("12", int, 12), ("'12'", str, "12"), ("true", bool, True),
        ("5 GiB", Bytes, "5 GiB"), ("512", Bytes, 512), ("/x", Path, "/x"), ("x", None, "x"),
        ("[1, 2]", None, [1, 2]), ("1", str | None, "1"),
    ],
)  # fmt: skip
def test_values_typed_at_a_shell(text: str, hint: Any, value: Any) -> None:
    assert parse_value(text, hint) == value


def test_doctor_of_a_machine_that_is_well(home: Home) -> None:
    def is_well() -> bool:
        # It looks at all mounts of the machine, and other tests kill what serves theirs.
        try:
            checks = {check["name"]: check for check in home.json("doctor")}
            assert {"python", "kernel", "/dev/fuse", "kv drivers", "cache", "mounts"} <= set(checks)
            assert all(check["ok"] and check["detail"] for check in checks.values())
            assert all(line.startswith("ok") for line in home.lines("doctor"))
        except AssertionError as error:
            print(error)
            return False
        return True

    wait_until(is_well, "doctor finds nothing wrong")


def test_doctor_finds_what_is_broken(home: Home, plugin: Callable[[str, str, str], None]) -> None:
    plugin("kvfs.kv", "broken", BROKEN)
    plugin("kvfs.kvs", "lost", "DRIVER = None\n")
    plugin(
        "kvfs.hooks",
        "check",
        "from kvfs.hooks import Check, hookimpl\n"
        "@hookimpl\ndef kvfs_doctor_checks():\n"
        "    return [Check(name='oil', ok=False, detail='none', advice='pour some')]\n",
    )
    home.path.joinpath("run").chmod(0o755)
    checks = {check["name"]: check for check in home.json("doctor", code=Exit.FAILURE)}
    assert not checks["kv drivers"]["ok"]
    assert "libbroken.so.3" in checks["kv drivers"]["detail"]
    assert "'kvfs.kv'" in checks["hook plugins"]["detail"]
    assert not checks["oil"]["ok"]
    assert checks["python"]["ok"]
    assert "pour some" in home.text("doctor", code=Exit.FAILURE)


def test_doctor_sees_a_cache_that_cannot_be_written(home: Home, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        place = "/proc/1"  # not even root can make a directory there
    else:
        place = str(tmp_path / "closed")
        Path(place).mkdir(mode=0o500)
    done = home.run("doctor", code=Exit.FAILURE, environment={"XDG_CACHE_HOME": place})
    assert b"FAIL  cache" in done.stdout
    assert b"XDG_CACHE_HOME" in done.stdout
