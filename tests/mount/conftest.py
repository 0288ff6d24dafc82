"""A site for each test, or one for all tests of a module."""

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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of this test's own."""
    with site_in(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for all tests of a module."""
    with site_in(tmp_path_factory.mktemp("site")) as made:
        yield made
