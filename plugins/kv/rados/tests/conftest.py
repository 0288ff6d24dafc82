"""A cluster to test with, and stores in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.testing.servers.ceph import Ceph
from kvfs_kv_rados import RadosSettings
from kvfs_kv_rados._driver import RadosDriver, open_store

Opener = Callable[..., RadosDriver]
_numbers = count()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """With authentication: clients need a key."""
    with Ceph(tmp_path_factory.mktemp("ceph"), auth=True) as cluster:
        yield cluster


@pytest.fixture
def namespace() -> str:
    """That of a volume nobody else uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def opener(cluster: Ceph, namespace: str) -> Iterator[Opener]:
    """Opens stores; settings by name."""
    opened: list[RadosDriver] = []

    def opens(*, store: str = "main", **settings: object) -> RadosDriver:
        table = {**cluster.settings(namespace), **settings}
        chosen = structure(table, RadosSettings, where="[kv]")
        opened.append(open_store(chosen, store=store, durability=Durability.POWER))
        return opened[-1]

    yield opens
    for driver in opened:
        driver.close()
