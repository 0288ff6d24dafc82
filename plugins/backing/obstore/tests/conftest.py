"""A real server for the whole run, and a bucket of it for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvfs.testing.servers.faults import FaultyProxy
from kvfs.testing.servers.moto import Moto
from kvfs.testing.servers.s3 import Bucket


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """One server for the whole run."""
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def bucket(moto: Moto) -> Bucket:
    """A new bucket of moto."""
    return Bucket.new(moto)


@pytest.fixture
def proxy(moto: Moto) -> Iterator[FaultyProxy]:
    """The same server, on a bad day."""
    with FaultyProxy(moto) as proxy:
        yield proxy
