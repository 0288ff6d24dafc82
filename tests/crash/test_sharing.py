"""Several processes over one cache: two mounts, and commands beside a mount."""

from __future__ import annotations

import os
from pathlib import Path

from kvfs.testing.mounts import Site
from kvfs.testing.trees import assert_same_tree, tree_of

from .conftest import Tarball


def test_two_mounts_of_one_cache(site: Site, tarball: Tarball) -> None:
    """One ingest, whoever of both is asked, and what one fetched the other has."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar", "b.tar", "c.tar")
    gate, config = site.gated(folder)
    first = site.mount(config, at="first")
    second = site.mount(config, at="second")
    readers = [site.beside("cat", each.path / "a/last") for each in (first, second) * 3]
    stream = gate.opened("a.tar")
    stream.allow(1_000_000)
    stream.wait_for(1_000_000)
    stream.allow(None)
    for reader in readers:
        assert reader.communicate(timeout=60) == ("the last member\n", "")
    for name, one, other in (("b", first, second), ("c", second, first)):
        gate.leave_open(f"{name}.tar")
        assert len(os.listdir(one.path / name)) == len(os.listdir(other.path / name)) > 7
    assert [gate.count(f"{name}.tar") for name in "abc"] == [1, 1, 1]
    for mounted in (first, second):
        for name in "abc":
            assert_same_tree(tree_of(tarball.tree), tree_of(mounted.path / name), ignoring=["root"])
    first.umount()
    assert (second.path / "b/last").read_text() == "the last member\n"
    second.umount()
    assert site.violations(folder) == []


def test_commands_beside_a_mount(site: Site, tarball: Tarball, tmp_path: Path) -> None:
    """They see what the mount has fetched, and the mount has what they fetched."""
    folder = site.path / "folder"
    tarball.put(folder, "a.tar", "b.tar")
    gate, config = site.gated(folder)
    gate.leave_open("a.tar")
    gate.leave_open("b.tar")
    mounted = site.mount(config)
    assert (mounted.path / "a/last").read_text() == "the last member\n"
    assert site.run("cat", config, "/a/last").stdout == "the last member\n"
    assert site.run("cat", mounted.path, "/a/last").stdout == "the last member\n"
    names = sorted(site.run("ls", config, "/b").stdout.splitlines())
    assert names == sorted(os.listdir(tarball.tree))
    assert mounted.states() == {"sealed": 2}
    assert sorted(os.listdir(mounted.path / "b")) == names
    assert (gate.count("a.tar"), gate.count("b.tar")) == (1, 1)
    site.run("cp", "-r", mounted.path, "/b", tmp_path / "copy")
    assert_same_tree(tree_of(tarball.tree), tree_of(tmp_path / "copy"), ignoring=["root"])
