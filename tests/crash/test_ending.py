"""How a mount ends when it is told to, and how one that cannot begin says so."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.testing.mounts import Site, mounted_below, wait_for_end, wait_until

from .conftest import Tarball


@pytest.fixture
def folder(site: Site, tarball: Tarball) -> Path:
    """A folder with one tarball, ``a``."""
    tarball.put(site.path / "folder", "a.tar")
    return site.path / "folder"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_mount_in_the_foreground(site: Site, folder: Path, number: int) -> None:
    config = site.config({"driver": "posix", "path": str(folder)})
    mounted, process = site.foreground(config)
    assert (mounted.path / "a/last").read_text() == "the last member\n"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (0, "", "")
    assert not mounted.is_mounted()
    assert site.json("status") == []
    assert site.violations(folder) == []


def test_ctrl_c_in_the_middle_of_an_ingest(site: Site, folder: Path) -> None:
    gate, config = site.gated(folder)
    mounted, process = site.foreground(config)
    reader = site.beside("cat", mounted.path / "a/last")
    stream = gate.opened("a.tar")
    stream.allow(1_000_000)
    stream.wait_for(1_000_000)
    process.send_signal(signal.SIGINT)
    wait_until(lambda: not mounted.is_mounted(), "it is unmounted")
    stream.allow(None)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in errors) == (0, False), errors
    assert reader.wait(60) != 0
    assert site.violations(folder) == []
    with site.opened(folder) as volume:
        states = {record.state for _, record in volume.tarballs.catalogue}
    assert states < {"absent", "sealed"}  # whichever came first, and nothing between


def test_sigterm_while_it_is_in_use(site: Site, folder: Path) -> None:
    """A program that stands in the mount does not keep the daemon from ending."""
    mounted = site.mount(folder)
    inside = subprocess.Popen(["sleep", "1000"], cwd=mounted.path / "a")
    try:
        mounted.signal(signal.SIGTERM)
        assert not mounted.is_mounted()
        assert "in use: detached" in mounted.log()
    finally:
        inside.kill()
        inside.wait()
    assert os.listdir(site.mount(folder).path) == ["a"]


def test_umount_is_refused_while_it_is_in_use(site: Site, folder: Path) -> None:
    mounted = site.mount(folder)
    inside = subprocess.Popen(["sleep", "1000"], cwd=mounted.path / "a")
    try:
        assert "in use" in site.error("umount", mounted.path, code=4)
        assert (mounted.path / "a/last").read_text() == "the last member\n"
        mounted.umount("--force")
        assert not mounted.is_alive()
    finally:
        inside.kill()
        inside.wait()


def test_plain_umount_ends_the_daemon_too(site: Site, folder: Path) -> None:
    """umount(8) as root: the daemon sees that it is unmounted, and closes its cache."""
    mounted = site.mount(folder)
    descriptor = os.pidfd_open(mounted.pid)
    subprocess.run(["umount", mounted.path], check=True)
    wait_for_end(descriptor)
    os.close(descriptor)
    assert site.json("status") == []


def _nothing(path: Path) -> None:
    pass


@pytest.mark.parametrize(
    ("prepare", "options", "code", "told"),
    [
        (Path.rmdir, (), 3, "does not exist"),
        (lambda path: (path / "file").touch(), (), 2, "not empty"),
        (lambda path: (path.rmdir(), path.touch()), (), 2, "not a directory"),
        (_nothing, ("--kv=leveldb",), 3, "leveldb"),
        (_nothing, ("--set=kv.map_sice=1 GB",), 2, "map_size"),
        (_nothing, ("--frontend=nfs",), 3, "nfs"),
        (_nothing, ("-o", "waiters=0"), 2, "waiters"),
        (_nothing, ("--set=backing.path=/no/such/place",), 3, "/no/such/place"),
        (_nothing, ("--cache=/proc/no/such/cache",), 7, "/proc/no/such/cache"),
    ],
)
def test_a_mount_that_cannot_be_says_why(
    site: Site,
    folder: Path,
    prepare: Callable[[Path], object],
    options: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    target = site.target()
    prepare(target)
    assert told in site.error("mount", *options, folder, target, code=code)
    assert mounted_below(site.path) == []
    assert not [*(site.path / "run" / "kvfs").glob("*")]  # nobody says that it serves


def test_a_mount_point_that_is_taken(site: Site, folder: Path) -> None:
    mounted = site.mount(folder)
    assert "alive" in site.error("mount", folder, mounted.path, code=4)
    assert "no_such" in site.error("mount", folder.parent / "no_such", mounted.path, code=3)
    assert (mounted.path / "a/last").read_text() == "the last member\n"
