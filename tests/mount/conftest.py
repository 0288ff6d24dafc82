"""A site for each test, or one for all tests of a module; every test runs over both bindings.

The bindings have nothing in common but ``kvfs.files`` and the way a mount is made, so each checks
the other.  A module about one of them says why, in a fixture ``frontend`` of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.testing.mounts import Site, site_in


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Owners, devices and loop mounts need root."""
    assert os.geteuid() == 0, "the tests in tests/mount have to run as root"


FRONTENDS = ("fuse", "pyfuse3")


@pytest.fixture(scope="module", params=FRONTENDS)
def frontend(request: pytest.FixtureRequest) -> str:
    """The binding that serves the mounts of a test."""
    return str(request.param)


@pytest.fixture
def site(tmp_path: Path, frontend: str) -> Iterator[Site]:
    """A site of this test's own."""
    with site_in(tmp_path, frontend=frontend) as made:
        yield made


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory, frontend: str) -> Iterator[Site]:
    """A site for all tests of a module."""
    with site_in(tmp_path_factory.mktemp("site"), frontend=frontend) as made:
        yield made
