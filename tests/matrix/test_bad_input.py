"""What goes wrong with an engine, as a user of the command meets it: one line that says what to do.

That each driver tells its errors apart is tested with the drivers.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kvfs.testing import disks
from kvfs.testing.mounts import Site, wait_until
from kvfs.testing.places import SERVERS, Place
from kvfs.testing.servers.base import free_port
from kvfs.testing.servers.redis import Redis
from kvfs.testing.trees import assert_same_tree, tree_of

from .folders import pack
from .test_engines import at_rest

USAGE, NOT_FOUND, CONFLICT, UNAVAILABLE, CORRUPT, PERMISSION, EXHAUSTED = 2, 3, 4, 5, 6, 7, 9
"""Exit codes."""
DISK_BYTES = 640 << 20
ROOM = {"lmdb": 24 << 20, "rocksdb": (256 + 48) << 20, "sqlite": (128 + 24) << 20}
"""Engines that share a disk with others, and how much is left for them: what they keep free for
the end, and less than a tarball takes."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two tarballs of one file."""
    path = tmp_path / "folder"
    path.mkdir()
    for name in ("a", "b"):
        pack(path / f"{name}.tar", {"file": b"contents\n"})
    return path


@pytest.fixture
def config(site: Site, folder: Path) -> Callable[..., Path]:
    """Makes the configuration of a volume over the folder, out of its table ``[kv]``."""

    def make(**kv: Any) -> Path:
        return site.config({"driver": "posix", "path": str(folder)}, kv=kv)

    return make


# -- servers ---------------------------------------------------------------------------------------

NOBODY: dict[str, Callable[[int], dict[str, Any]]] = {
    "etcd": lambda port: {"endpoints": [f"127.0.0.1:{port}"], "namespace": "v"},
    "postgres": lambda port: {"host": "127.0.0.1", "port": port, "password": "hush"},
    "redis": lambda port: {"url": f"redis://127.0.0.1:{port}/0", "password": "hush"},
    "rados": lambda port: {"conf": f"/nowhere/{port}/ceph.conf", "pool": "p", "namespace": "v"},
}
"""Settings that lead nowhere."""


def test_all_servers_are_tried() -> None:
    assert NOBODY.keys() == SERVERS.keys()


@pytest.mark.parametrize("driver", NOBODY)
def test_nobody_there(driver: str, site: Site, config: Callable[..., Path]) -> None:
    port = free_port()
    kv = NOBODY[driver](port)
    code = NOT_FOUND if driver == "rados" else UNAVAILABLE
    volume = config(driver=driver, timeout=1, **kv)
    for words in (("ls", volume), ("mount", volume, site.target())):
        said = site.error(*words, code=code)
        assert said.startswith(f"kvfs: {driver} ")
        assert str(port) in said
        assert "hush" not in said


def test_wrong_password_and_wrong_database(
    site: Site, config: Callable[..., Path], tmp_path: Path
) -> None:
    with Place.of("postgres", tmp_path / "postgres") as place:
        kv = place.table("v")
        said = site.error("ls", config(**kv | {"password": "hush"}), code=PERMISSION)
        assert "hush" not in said
        said = site.error("ls", config(**kv | {"database": "nobodys"}), code=NOT_FOUND)
        assert "nobodys" in said
    home = tmp_path / "redis"
    home.mkdir()
    with Redis(home, options=("--requirepass", "right")) as redis:
        kv = {"driver": "redis", **redis.settings("v")}
        for wrong in ({}, {"password": "hush"}):
            said = site.error("ls", config(**kv, **wrong), code=PERMISSION)
            assert "hush" not in said
        assert site.run("ls", config(**kv, password="right")).stdout == "a\nb\n"


def test_a_namespace_that_cannot_be(site: Site, config: Callable[..., Path]) -> None:
    for driver, settings in NOBODY.items():
        kv = settings(1) | {"namespace": ""}
        assert "namespace" in site.error("ls", config(driver=driver, **kv), code=USAGE)


def test_a_list_is_a_list(site: Site, config: Callable[..., Path]) -> None:
    said = site.error("ls", config(driver="etcd", namespace="v", endpoints="one:1"), code=USAGE)
    assert "[kv] endpoints: 'one:1' is not a list" in said


# -- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["lmdb", "rocksdb", "sqlite", "slatedb", "template"])
def test_files_of_something_else(
    driver: str, site: Site, config: Callable[..., Path], tmp_path: Path
) -> None:
    with Place.of(driver, tmp_path / "place") as place:
        volume = config(**place.table("v"))
        assert site.run("cat", volume, "/a/file").stdout == "contents\n"
        before = {}
        for path in filter(Path.is_file, (tmp_path / "place").rglob("*")):
            before[path] = random.Random(driver).randbytes(path.stat().st_size)
            path.write_bytes(before[path])
        said = site.error("cat", volume, "/a/file", code=CORRUPT)
        assert str(tmp_path / "place") in said
        # Nothing was put right by taking it away.
        assert {path: path.read_bytes() for path in before} == before


# -- one process -----------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["rocksdb", "slatedb", "template"])
def test_commands_leave_a_mount_alone_whose_engine_is_for_one_process(
    driver: str, site: Site, config: Callable[..., Path], tmp_path: Path
) -> None:
    with Place.of(driver, tmp_path / "place") as place:
        volume = config(**place.table("v"))
        mounted = site.mount(volume)
        assert (mounted.path / "a" / "file").read_text() == "contents\n"
        # What the mount knows, status asks it.
        for named in (volume, mounted.path):
            found = site.json("status", named)
            assert found["tarballs"]["states"] == {"absent": 1, "sealed": 1}
            assert found["engine"]["driver"] == driver
            assert [mount["target"] for mount in found["mounts"]] == [str(mounted.path)]
        for words in (
            ("ls", volume),
            ("ls", mounted.path, "/b"),
            ("info", mounted.path, "/a"),
            ("mount", volume, site.target("other")),
        ):
            said = site.error(*words, code=CONFLICT)
            assert f"is mounted at {mounted.path}, and its engine, {driver}, is for one" in said
        assert (mounted.path / "b" / "file").read_text() == "contents\n"
        mounted.umount()
        assert site.run("ls", volume, "/b").stdout == "file\n"


# -- a full disk -----------------------------------------------------------------------------------


@pytest.fixture
def disk(site: Site) -> Iterator[Path]:
    """A small ext4 file system in an image file."""
    image, place = site.path / "image", site.path / "disk"
    with disks.small_ext4(image, place, size_bytes=DISK_BYTES):
        yield place
        site.close()  # daemons first: they have files open there


def files_of(count: int, size: int) -> dict[str, bytes]:
    """That many random files."""
    return {f"{number:03}": random.Random(number).randbytes(size) for number in range(count)}


@pytest.mark.parametrize("driver", ROOM)
def test_the_disk_is_full_at_the_first_touch(
    driver: str, site: Site, disk: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    pack(folder / "small.tar", files_of(40, 50_000))
    pack(folder / "big.tar", files_of(100, 1_000_000))
    kv = {"driver": driver, "path": str(disk / "cache")}
    mounted = site.mount(site.config({"driver": "posix", "path": str(folder)}, kv=kv))
    small, served = folder / "small.tree", mounted.path / "small"
    assert_same_tree(tree_of(small), tree_of(served), ignoring=["root"])
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with (disk / "filler").open("wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free - ROOM[driver])
    with pytest.raises(OSError, match="No space left on device") as raised:
        os.listdir(mounted.path / "big")
    assert raised.value.errno == errno.ENOSPC
    assert mounted.is_alive()
    assert_same_tree(tree_of(small), tree_of(served), ignoring=["root"])
    # Once there is room, the same mount goes on.
    (disk / "filler").unlink()
    wait_until(partial(_lists, mounted.path / "big"), "the tarball is tried again")
    assert_same_tree(tree_of(folder / "big.tree"), tree_of(mounted.path / "big"), ignoring=["root"])
    mounted.umount()
    with at_rest(kv, folder) as volume:
        states = {record.object: record.state.value for _, record in volume.tarballs.catalogue}
    assert states == {"small.tar": "sealed", "big.tar": "sealed"}


def _lists(path: Path) -> bool:
    try:
        return len(os.listdir(path)) > 0
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
