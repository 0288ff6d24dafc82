"""A real server for the whole run, and a bucket of it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvfs.testing.servers.faults import FaultyProxy
from kvfs.testing.servers.moto import Moto
from kvfs.testing.servers.radosgw import Radosgw
from kvfs.testing.servers.rclone import Rclone

from .support import Bucket


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """One server for the whole run."""
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture(scope="session")
def radosgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Radosgw]:
    """One server for the whole run."""
    with Radosgw(tmp_path_factory.mktemp("radosgw")) as server:
        yield server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    """One server for the whole run."""
    with Rclone(tmp_path_factory.mktemp("rclone")) as server:
        yield server


@pytest.fixture
def bucket(moto: Moto) -> Bucket:
    """A new bucket of moto."""
    return Bucket.new(moto)


@pytest.fixture
def proxy(moto: Moto) -> Iterator[FaultyProxy]:
    """Moto on a bad day."""
    with FaultyProxy(moto) as proxy:
        yield proxy
