"""A real etcd for the tests, and a way to lose its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.testing.servers.etcd import Etcd
from kvfs_kv_etcd import EtcdSettings
from kvfs_kv_etcd._driver import EtcdDriver, open_store

from .proxy import Proxy

Opener = Callable[..., EtcdDriver]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One for all tests that do not stop it; each uses a namespace of its own."""
    with Etcd(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Opens the store ``main`` with settings as in a TOML table."""
    opened: list[EtcdDriver] = []

    def opens(table: dict[str, Any], *, store: str = "main") -> EtcdDriver:
        settings = structure(table, EtcdSettings, where="[kv]")
        opened.append(open_store(settings, store=store, durability=Durability.POWER))
        return opened[-1]

    yield opens
    for driver in opened:
        driver.close()


@pytest.fixture
def proxy(server: Etcd) -> Iterator[Proxy]:
    """Stands between a client and the server."""
    with Proxy(int(server.endpoints[0].rpartition(":")[2])) as proxy:
        yield proxy
