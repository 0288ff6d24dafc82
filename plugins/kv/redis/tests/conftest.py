"""Servers to test with, and stores in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.testing import disks
from kvfs.testing.servers.redis import Redis
from kvfs_kv_redis import RedisSettings
from kvfs_kv_redis._driver import RedisDriver, open_store

Opener = Callable[..., RedisDriver]
_numbers = count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A server that all tests use which do not harm it."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """That of a volume nobody else uses."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Redis]]:
    """Starts servers of a test's own; options as on the command line."""
    started: list[Redis] = []

    def starts(*options: str) -> Redis:
        home = tmp_path / f"server-{len(started)}"
        home.mkdir()
        started.append(Redis(home, options=options))
        started[-1].start()
        return started[-1]

    yield starts
    for server in started:
        server.stop()


@pytest.fixture
def opener(namespace: str) -> Iterator[Opener]:
    """Opens stores of a server; settings by name."""
    opened: list[RedisDriver] = []

    def opens(
        server: Redis,
        wanted: Durability = Durability.MEMORY,
        *,
        store: str = "main",
        **settings: object,
    ) -> RedisDriver:
        table = {**server.settings(namespace), **settings}
        chosen = structure(table, RedisSettings, where="[kv]")
        opened.append(open_store(chosen, store=store, durability=wanted))
        return opened[-1]

    yield opens
    for driver in opened:
        driver.close()


@pytest.fixture
def small_ext4(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 64 MiB, of which 32 MiB are taken by a file.  Needs root."""
    with disks.small_ext4(tmp_path / "image", tmp_path / "ext4", size_bytes=64 << 20) as place:
        (place / "ballast").write_bytes(bytes(32 << 20))
        yield place
