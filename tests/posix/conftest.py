"""A scratch volume, mounted: what these tests do needs nothing but a file system."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import site_in


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
