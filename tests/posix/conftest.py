"""A scratch volume, mounted: what these tests do needs nothing but a file system.

And a tarball that can be written to, for what is laid over something.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import attrs
import pytest

from kvfs.testing.mounts import Mounted, site_in


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Owners, devices and attributes of the system need root."""
    assert os.geteuid() == 0, "the tests in tests/posix have to run as root"


@pytest.fixture(scope="module")
def mountpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where it is mounted."""
    with site_in(tmp_path_factory.mktemp("site"), frontend="fuse") as site:
        mounted = site.mount(site.config({"driver": "scratch", "url": "scratch://posix"}))
        yield mounted.path
        assert mounted.is_alive(), mounted.log()


@pytest.fixture
def place(mountpoint: Path, tmp_path: Path) -> Path:
    """A directory of the test's own on it."""
    path = mountpoint / tmp_path.name
    path.mkdir()
    return path


@attrs.define
class Sealed:
    """A mounted folder of tarballs, each of one file."""

    mounted: Mounted

    def file(self, size: int) -> tuple[Path, bytes]:
        """A file as it was fetched, and what is in it."""
        return self.mounted.path / f"t{size}" / "file", contents(size)


SIZES = (6000, 1 << 19, 12 << 20)


def contents(size: int) -> bytes:
    """What is in the file of a size; it differs everywhere."""
    return Random(size).randbytes(size)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    """Tarballs of one file each, which nobody has written to."""
    with site_in(tmp_path_factory.mktemp("site"), frontend="fuse") as site:
        folder = site.path / "folder"
        folder.mkdir()
        for size in SIZES:
            with tarfile.open(folder / f"t{size}.tar", "w") as tar:
                member = tarfile.TarInfo("file")
                member.size = size
                tar.addfile(member, io.BytesIO(contents(size)))
        backing = {"driver": "posix", "path": str(folder)}
        mounted = site.mount(site.config(backing, volume={"writable": True}))
        yield Sealed(mounted)
        assert mounted.is_alive(), mounted.log()
