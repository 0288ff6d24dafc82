"""A directory, and real servers over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import SSHD, Web


@pytest.fixture(scope="session")
def sftp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHD]:
    """An SFTP server for the whole run."""
    with SSHD(tmp_path_factory.mktemp("sftp")) as server:
        yield server


@pytest.fixture(scope="session")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """An HTTP server, with index pages, for the whole run."""
    with Web(tmp_path_factory.mktemp("http")) as server:
        yield server


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty directory."""
    path = tmp_path / "root"
    path.mkdir()
    return path
