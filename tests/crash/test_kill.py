"""``kill -9`` of the daemon, at rest, in the middle of an ingest, and while it is being read.

What has to hold each time: ``kvfs mount`` at the same place works, what was whole is whole, what
was half there is fetched anew and right, and the records of the cache are consistent.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from kvfs.testing.mounts import Mounted, Site
from kvfs.testing.trees import assert_same_tree, tree_of

from .conftest import Tarball

KILLS = 8
SEED = 20_261_120


def check(mounted: Mounted, tarball: Tarball, name: str) -> None:
    """A tarball is served as it is."""
    root = mounted.path / name
    os.listdir(root)
    assert assert_same_tree(tree_of(tarball.tree), tree_of(root), ignoring=["root"]) > 400


def test_idle(site: Site, tarball: Tarball) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar", "b.tar")
    config = site.config({"driver": "posix", "path": str(folder)})
    mounted = site.mount(config)
    check(mounted, tarball, "a")
    mounted.kill()
    assert mounted.is_mounted()
    with pytest.raises(OSError, match="not connected"):
        os.statvfs(mounted.path)
    again = site.mount(config)
    assert again.pid != mounted.pid
    assert again.states() == {"absent": 1, "sealed": 1}
    check(again, tarball, "a")
    check(again, tarball, "b")
    again.umount()
    assert site.violations(folder) == []


def test_in_the_middle_of_an_ingest(site: Site, tarball: Tarball) -> None:
    """At seeded points: each time the next mount serves what the last was killed over.

    Half of the times the ingest waits for bytes when it is killed, half of the times it runs.
    """
    folder = site.path / "folder"
    names = [f"t{number:02}" for number in range(KILLS)]
    tarball.put(folder, *(f"{name}.tar" for name in names))
    gate, config = site.gated(folder)
    size = tarball.archive.stat().st_size
    generator = random.Random(SEED)
    mounted = site.mount(config)
    for number, name in enumerate(names):
        point = generator.randrange(1, size)
        toucher = subprocess.Popen(
            ["ls", mounted.path / name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stream = gate.opened(f"{name}.tar")
        stream.allow(point)
        stream.wait_for(point)
        if number % 2:
            stream.allow(None)
        mounted.kill()
        was_whole = toucher.wait(60) == 0
        where = f"{name}, byte {point}, seed {SEED}"
        assert not was_whole or number % 2, where
        gate.leave_open(f"{name}.tar")
        mounted = site.mount(config)
        assert site.violations(folder) == [], where
        check(mounted, tarball, name)
        # One that ran may have come to its end before the signal came to it.
        assert gate.count(f"{name}.tar") == 2 or number % 2, where
    assert mounted.states() == {"sealed": KILLS}
    mounted.umount()
    assert site.violations(folder) == []


READ_ALL = """
import os, sys
print("reading", flush=True)
while True:
    for path, _, files in os.walk(sys.argv[1]):
        for name in files:
            with open(os.path.join(path, name), "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                file.read()
"""


def test_while_it_is_read(site: Site, tarball: Tarball) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    config = site.config({"driver": "posix", "path": str(folder)})
    mounted = site.mount(config)
    check(mounted, tarball, "a")
    readers = [site.beside(sys.executable, "-c", READ_ALL, mounted.path / "a") for _ in range(4)]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "reading\n"
    mounted.kill()
    for reader in readers:
        # It is told so, whatever it was doing: nobody hangs.
        _, errors = reader.communicate(timeout=60)
        assert "Transport endpoint is not connected" in errors or "Software caused" in errors
    again = site.mount(config)
    check(again, tarball, "a")
    again.umount()
    assert site.violations(folder) == []


def test_umount_of_a_dead_mount(site: Site, tarball: Tarball) -> None:
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    mounted = site.mount(folder)
    held = os.open(mounted.path / "a" / "last", os.O_RDONLY)
    mounted.kill()
    mounted.umount()  # no force, though a file of it is open
    with pytest.raises(OSError, match="not connected"):
        os.close(held)
    assert "no KVFS is mounted" in site.error("umount", mounted.path, code=3)
    assert site.json("status") == []
    check(site.mount(folder), tarball, "a")


def test_killed_while_another_serves_the_same_cache(site: Site, tarball: Tarball) -> None:
    """The other one takes over what the killed one was fetching."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar")
    gate, config = site.gated(folder)
    first = site.mount(config, at="first")
    second = site.mount(config, at="second")
    touchers = [site.beside("cat", first.path / "a/last")]
    stream = gate.opened("a.tar")
    stream.allow(1_000_000)
    stream.wait_for(1_000_000)
    touchers.append(site.beside("cat", second.path / "a/last"))
    gate.leave_open("a.tar")
    first.kill()
    assert touchers[0].wait(60) != 0
    assert touchers[1].communicate(timeout=60)[0] == "the last member\n"
    assert gate.count("a.tar") == 2
    check(second, tarball, "a")
    second.umount()
    assert site.violations(folder) == []
