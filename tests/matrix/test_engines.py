"""One volume, mounted by the real command, over every engine that is installed.

Networked engines have their real servers; tarballs are compared with what GNU tar unpacks.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from kvfs.capability import KVCapability
from kvfs.registry import find, installed
from kvfs.tarballs.catalogue import State
from kvfs.testing.invariants import violations
from kvfs.testing.mounts import Mounted, Site, wait_until
from kvfs.testing.places import Place
from kvfs.testing.trees import assert_same_tree, tree_of
from kvfs.volume import Volume, from_tables

from .folders import Folder, pack, shown

numbers = count(1)


@pytest.fixture
def table(place: Place) -> dict[str, Any]:
    """The table ``[kv]`` of a new volume."""
    return place.table(f"volume{next(numbers)}")


@contextmanager
def at_rest(kv: dict[str, Any], directory: Path) -> Iterator[Volume]:
    """A volume that nothing serves, opened by this process; it is whole before and after."""
    tables = {"kv": kv, "backing": {"driver": "posix", "path": str(directory)}}
    with Volume(from_tables(tables, where="a test")) as volume:
        assert [*violations(volume)] == []
        yield volume
        assert [*violations(volume)] == []


def capability(place: Place) -> KVCapability:
    """What the engine of a place can do at its best."""
    found = find("kv", place.driver).capability
    assert isinstance(found, KVCapability)
    return found


def compare(mounted: Mounted, folder: Folder) -> None:
    """Every attribute and every byte, with GNU tar's."""
    for name in map(shown, folder.objects):
        served, unpacked = mounted.path / name, folder.unpacked / name
        os.listdir(served)
        # The kernel may believe for a second what was known before it was fetched.
        same = partial(_same_links, served, unpacked)
        wait_until(same, f"the root of {name} is known")
        assert_same_tree(tree_of(unpacked), tree_of(served))


def _same_links(one: Path, other: Path) -> bool:
    return one.stat().st_nlink == other.stat().st_nlink


def test_there_are_engines() -> None:
    names = {engine.name for engine in installed("kv")}
    assert {"lmdb", "rocksdb", "sqlite", "redis", "etcd", "postgres", "rados", "slatedb"} <= names


def test_killed_in_mid_ingest_then_the_same_as_tar(
    place: Place, table: dict[str, Any], site: Site, made: Folder, tmp_path: Path
) -> None:
    folder = made.linked(tmp_path / "folder")
    half = (folder / "many.tar.gz").stat().st_size // 2
    gate, config = site.gated(folder, kv=table)
    gate.leave_open("every.tar")
    mounted = site.mount(config)
    site.beside("ls", "-R", mounted.path / "many")
    stream = gate.opened("many.tar.gz")
    stream.allow(half)
    stream.wait_for(half)
    mounted.kill()

    gate.leave_open("many.tar.gz")
    mounted = site.mount(config)
    if capability(place).persistent:
        assert "many.tar.gz was left ingesting; it is rolled back" in mounted.log()
    compare(mounted, made)
    mounted.umount()
    assert (gate.count("every.tar"), gate.count("many.tar.gz")) == (1, 2)

    mounted = site.mount(config)
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", made.unpacked / "many", mounted.path / "many"],
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    mounted.umount()
    # What is kept is not fetched again.
    assert gate.count("many.tar.gz") == (2 if capability(place).persistent else 3)


def test_replaced_under_readers_then_evicted(
    place: Place, table: dict[str, Any], site: Site, tmp_path: Path
) -> None:
    """A file is of one version, however often its tarball is replaced while it is read."""
    folder = tmp_path / "folder"
    folder.mkdir()

    def publish(version: int) -> None:
        # Small ones and one of several extents.
        files = {f"d{number % 3}/{number}": b"%d" % version * 2000 for number in range(50)}
        pack(folder / "t.tar", files | {"large": b"%d" % version * 400_000})

    publish(1)
    backing = {"driver": "posix", "path": str(folder)}
    mounted = site.mount(site.config(backing, kv=table, volume={"refresh": 0.1}))
    wrong: list[str] = []
    reads = count()
    stop = Event()

    def read() -> None:
        while not stop.is_set():
            for directory, _, names in os.walk(mounted.path / "t"):
                for name in names:
                    next(reads)
                    try:
                        data = Path(directory, name).read_bytes()
                    except OSError as error:
                        if error.errno not in (errno.ESTALE, errno.ENOENT):
                            wrong.append(f"{name}: {error}")
                        continue
                    if len(data) != (400_000 if name == "large" else 2000) or len({*data}) != 1:
                        wrong.append(f"{name}: {len(data)} bytes of {sorted({*data})}")

    readers = [Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for version in (2, 3, 4):
            publish(version)
            seen = partial(_holds, mounted.path / "t" / "large", b"%d" % version)
            wait_until(seen, f"version {version} is seen")
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert next(reads) > 100
    mounted.umount()
    if not capability(place).persistent:
        return
    with at_rest(table, folder) as volume:
        [(number, record)] = volume.tarballs.catalogue
        assert record.state is State.SEALED
        assert volume.tarballs.evict(number)
        assert [record.state for _, record in volume.tarballs.catalogue] == [State.ABSENT]


def _holds(path: Path, start: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False


def test_chosen_on_the_command_line(place: Place, site: Site, made: Folder, tmp_path: Path) -> None:
    folder = made.linked(tmp_path / "folder")
    settings = place.settings(f"volume{next(numbers)}")
    words = []
    for name, value in settings.items():
        text = ",".join(value) if isinstance(value, list) else str(value)
        words += ["--set", f"kv.{name}={text}"]
    listed = site.run("ls", "--kv", place.driver, *words, folder, "/every/names").stdout
    assert "gr\u00fcn\n" in listed
