"""``kvfs kv``: what a volume has fetched arrives at another engine, whole or not as a volume."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs import migration
from kvfs.errors import AlreadyExists, Corrupt
from kvfs.migration import dumpfile
from kvfs.migration.ends import Destination
from kvfs.volume import from_file
from kvfs_frontend_cli._exits import Exit

from .conftest import Home

Configure = Callable[..., Path]


@pytest.fixture
def configure(tmp_path: Path, tarballs: Path) -> Configure:
    """Writes a configuration of a volume over the same tarballs, in an engine of its own."""

    def write(name: str, layer: str = "") -> Path:
        path = tmp_path / f"{name}.toml"
        path.write_text(
            f'[kv]\ndriver = "lmdb"\npath = "{tmp_path / name}"\n{layer}\n'
            f'[backing]\ndriver = "posix"\npath = "{tarballs}"\n'
        )
        return path

    return write


@pytest.fixture
def source(home: Home, configure: Configure) -> Path:
    """A volume that has fetched everything."""
    path = configure("source")
    home.run("ingest", path, "--all")
    return path


def _archives(home: Home, volume: Path) -> list[bytes]:
    return [home.run("tar", volume, name).stdout for name in ("tree", "plain")]


def _states(home: Home, volume: Path) -> object:
    return home.json("status", volume)["tarballs"]["states"]


def test_a_copy_is_the_same_volume(
    home: Home, source: Path, configure: Configure, tarballs: Path
) -> None:
    target = configure("target")
    report = home.json("kv", "copy", source, target)
    assert report["written"] == sum(store["records"] for store in report["stores"].values())
    assert _states(home, target) == {"sealed": 3}
    expected = _archives(home, source)
    shutil.rmtree(tarballs / "below")  # what is copied needs no store behind it
    assert home.run("tar", target, "tree").stdout == expected[0]
    assert home.json("info", target)["uuid"] == home.json("info", source)["uuid"]


def test_the_mount_shows_the_same(
    home: Home, source: Path, configure: Configure, tree: Path, tmp_path: Path
) -> None:
    """Copied while it is mounted: the engine has snapshots."""
    target = configure("target")
    point = tmp_path / "point"
    point.mkdir()
    home.run("mount", source, point)
    home.run("kv", "copy", source, target)
    home.run("umount", point)
    home.run("mount", target, point)
    assert (point / "tree/tree/binary").read_bytes() == (tree / "binary").read_bytes()
    assert sorted(os.listdir(point / "tree/tree")) == sorted(os.listdir(tree))
    assert "mounted" in home.error("kv", "copy", source, point, "--force", code=Exit.USAGE)
    home.run("umount", point)


def test_changes_come_along(
    home: Home, changed: Path, configure: Configure, tmp_path: Path
) -> None:
    expected = home.run("tar", changed, "tree")
    assert b"1 sockets were left out" in expected.stderr
    copied, loaded, file = configure("copied"), configure("loaded"), tmp_path / "file"
    home.run("kv", "copy", changed, copied)
    home.run("kv", "dump", changed, file)
    home.run("kv", "load", file, loaded)
    for target in (copied, loaded):
        assert home.run("tar", target, "tree").stdout == expected.stdout
        assert "1 tarballs were written to" in home.text("fsck", target)


def test_what_is_there_is_replaced_only_by_force(
    home: Home, source: Path, configure: Configure
) -> None:
    target = configure("target")
    home.run("ls", target)
    assert "--force" in home.error("kv", "copy", source, target, code=Exit.CONFLICT)
    home.run("kv", "copy", source, target, "--force")
    assert _archives(home, target) == _archives(home, source)
    assert "same engine" in home.error("kv", "copy", source, source, code=Exit.USAGE)


def test_a_volume_that_is_not_there(home: Home, configure: Configure) -> None:
    missing = configure("missing")
    for words in (["copy", missing, configure("target")], ["dump", missing, missing.parent / "x"]):
        assert "no volume" in home.error("kv", *words, code=Exit.NOT_FOUND)


def test_an_incomplete_copy_is_no_volume(
    home: Home, source: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = configure("target")

    def fail(_: Destination) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Destination, "complete", fail)
        with pytest.raises(KeyboardInterrupt):
            migration.copy(from_file(source), from_file(target))
    assert "incomplete-copy" in home.error("ls", target, code=Exit.UNSUPPORTED)
    assert "--resume" in home.error("kv", "copy", source, target, code=Exit.CONFLICT)
    assert home.json("kv", "copy", source, target, "--resume")["written"] == 0
    assert _archives(home, target) == _archives(home, source)


def test_a_killed_copy_goes_on(home: Home, source: Path, configure: Configure) -> None:
    slow = configure("target", '[[kv.layer]]\nname = "latency"\ndelay = "100 ms"')
    with home.start("kv", "copy", source, slow) as child:
        while not (slow.parent / "target" / "sealed-1" / "data.mdb").exists():
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    target = configure("target")
    home.run("kv", "copy", source, target, "--resume")
    assert _archives(home, target) == _archives(home, source)


def test_what_changed_before_it_goes_on_is_put_right(
    home: Home, configure: Configure, tarballs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = configure("source"), configure("target")
    home.run("ingest", source, "plain")
    with monkeypatch.context() as patched:
        patched.setattr(Destination, "complete", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migration.copy(from_file(source), from_file(target))
    shutil.copy(tarballs / "tree.tar.gz", tarballs / "new.tar.gz")
    (tarballs / "plain.tar").unlink()
    home.run("ingest", source, "--all")
    home.run("kv", "copy", source, target, "--resume")
    for name in ("new", "tree"):
        assert home.run("tar", target, name).stdout == home.run("tar", source, name).stdout


@pytest.mark.parametrize("name", ["x.kvfs", "x.kvfs.zst"])
def test_dump_and_load(
    home: Home, source: Path, configure: Configure, tmp_path: Path, name: str
) -> None:
    target, file = configure("target"), tmp_path / name
    dumped = home.json("kv", "dump", source, file)
    assert "--force" in home.error("kv", "dump", source, file, code=Exit.CONFLICT)
    loaded = home.json("kv", "load", file, target)
    assert loaded["stores"] == dumped["stores"]
    assert _archives(home, target) == _archives(home, source)
    assert "--force" in home.error("kv", "load", file, target, code=Exit.CONFLICT)


@pytest.mark.parametrize("name", ["x.kvfs", "x.kvfs.zst"])
def test_a_dump_that_was_broken_off_goes_on(source: Path, tmp_path: Path, name: str) -> None:
    config, file = from_file(source), tmp_path / name
    migration.dump(config, file)
    whole = file.read_bytes()
    draft = file.with_name(f"{name}.part")
    for length in (0, 10, len(whole) // 2, len(whole) - 1, len(whole)):
        file.unlink(missing_ok=True)
        draft.write_bytes(whole[:length])
        with pytest.raises(AlreadyExists, match="--resume"):
            migration.dump(config, file)
        migration.dump(config, file, resume=True)
        assert file.read_bytes() == whole
        assert not draft.exists()


@pytest.mark.parametrize("name", ["x.kvfs", "x.kvfs.zst"])
def test_a_damaged_dump_is_refused_before_anything_is_written(
    source: Path, configure: Configure, tmp_path: Path, name: str
) -> None:
    file = tmp_path / name
    migration.dump(from_file(source), file)
    whole, true = file.read_bytes(), _digests(file)
    target = from_file(configure("target"))
    step = max(len(whole) // 40, 1)
    cut = [whole[:length] for length in (*range(0, len(whole), step), len(whole) - 1)]
    for data in (*cut, whole + b"x", whole + whole):
        file.write_bytes(data)
        with pytest.raises(Corrupt):
            migration.load(file, target)
    for at in range(0, len(whole), step):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            found = _digests(file)
        except Corrupt:
            continue
        # A few bits of a zstd frame mean nothing.
        assert name.endswith(".zst")
        assert found == true
    assert not (tmp_path / "target").exists()
    file.write_bytes(whole)
    migration.load(file, target)


def _digests(file: Path) -> dict[str, str]:
    return {name: tally.digest for name, tally in migration.examine(file).stores.items()}


def test_what_is_no_dump(home: Home, source: Path, configure: Configure, tmp_path: Path) -> None:
    target, other = configure("target"), tmp_path / "other"
    other.write_bytes(b"this is no dump" * 10)
    home.error("kv", "load", other, target, code=Exit.CORRUPT)
    home.error("kv", "load", tmp_path / "none", target, code=Exit.NOT_FOUND)
    home.error("kv", "dump", source, tmp_path / "none" / "x", code=Exit.USAGE)
    header = {"magic": dumpfile.MAGIC, "version": 99}
    other.write_bytes(dumpfile.pack_block(0, dumpfile.HEADER, json.dumps(header).encode()))
    assert "version 99" in home.error("kv", "load", other, target, code=Exit.UNSUPPORTED)


NARROW = """
import attrs
from kvfs_kv_lmdb import DRIVER as LMDB

DRIVER = attrs.evolve(
    LMDB,
    name="narrow",
    factory="plugin_narrow:open_store",
    capability=attrs.evolve(LMDB.capability, value_bytes_max=100_000),
)

def open_store(settings, *, store, durability):
    driver = LMDB.load()(settings, store=store, durability=durability)
    driver.capability = attrs.evolve(driver.capability, value_bytes_max=100_000)
    return driver
"""


def test_a_record_that_the_engine_does_not_take(
    home: Home, source: Path, configure: Configure, plugin: Callable[[str, str, str], None]
) -> None:
    """Named with the limit before anything is written: the place is as empty as before."""
    plugin("kvfs.kv", "narrow", NARROW)
    target = configure("target")
    narrow = target.with_name("narrow.toml")
    narrow.write_text(target.read_text().replace("lmdb", "narrow"))
    file = target.with_name("x.kvfs")
    home.run("kv", "dump", source, file)
    for words in (["copy", source], ["load", file]):
        said = home.error("kv", *words, narrow, code=Exit.UNSUPPORTED)
        assert "value of 131,072 bytes" in said
        assert "takes 100,000" in said
    home.run("kv", "copy", source, target)


def test_an_engine_that_no_volume_fits_into(home: Home, source: Path, configure: Configure) -> None:
    short = configure("target", f'[[kv.layer]]\nname = "prefix"\nprefix = "{"p" * 400}"')
    assert "too small" in home.error("kv", "copy", source, short, code=Exit.UNSUPPORTED)
