"""A site for each test, and a tarball to be killed over."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from kvfs.testing.mounts import Site, site_in

LARGE_BYTES = 60_000
FILES = 400


@attrs.frozen
class Tarball:
    """A tarball, and what is in it, unpacked."""

    archive: Path
    tree: Path

    def put(self, folder: Path, *names: str) -> None:
        """Have it in a folder, under names."""
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).hardlink_to(self.archive)


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Unmounting what is dead, and loop mounts, need root."""
    assert os.geteuid() == 0, "the tests in tests/crash have to run as root"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of this test's own."""
    with site_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="session")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Tarball:
    """Small and large files, links and extended attributes: of every kind of record some."""
    base = tmp_path_factory.mktemp("tarball")
    tree = base / "tree"
    for number in range(FILES):
        directory = tree / f"dir {number % 7}"
        directory.mkdir(parents=True, exist_ok=True)
        size = LARGE_BYTES if number % 3 == 0 else number
        (directory / f"{number:03}").write_bytes(os.urandom(size))
    (tree / "link").symlink_to("dir 3/003")
    for number in range(0, FILES, 10):
        (tree / f"hard {number}").hardlink_to(tree / f"dir {number % 7}" / f"{number:03}")
        os.setxattr(tree / f"hard {number}", "user.number", b"%d" % number)
    (tree / "last").write_text("the last member\n")
    archive = base / "tarball.tar"
    words = ["tar", "--format=pax", "--xattrs", "--sort=name", "-C", str(tree), "-cf", str(archive)]
    subprocess.run([*words, "."], check=True, capture_output=True)
    return Tarball(archive, tree)
