"""Every engine that is installed, each with its server; a site for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.registry import installed
from kvfs.testing.mounts import Site, site_in
from kvfs.testing.places import Place

from .folders import Folder, make_folder

ENGINES = [engine.name for engine in installed("kv")]


@pytest.fixture(scope="module", params=ENGINES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Where volumes of an engine are."""
    with Place.of(request.param, tmp_path_factory.mktemp("place")) as made:
        yield made


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Tarballs, and what is in them; not to be changed."""
    return make_folder(tmp_path_factory.mktemp("made"))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site of this test's own."""
    with site_in(tmp_path) as made:
        yield made
