"""One server for all tests, and a namespace in it for each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.testing import disks
from kvfs.testing.servers.postgres import PASSWORD, Postgres
from kvfs_kv_postgres import PostgresSettings
from kvfs_kv_postgres._driver import PostgresDriver, open_store

_numbers = count(1)
Opener = Callable[..., PostgresDriver]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that speaks TLS where it is asked to."""
    with Postgres(tmp_path_factory.mktemp("postgres"), tls=True) as server:
        yield server


@pytest.fixture
def namespace() -> str:
    """A schema that nobody has used."""
    return f"n{next(_numbers)}"


@pytest.fixture
def admin(server: Postgres) -> Iterator[psycopg.Connection]:
    """The server by its side door."""
    with connect(server) as connection:
        yield connection


def connect(server: Postgres) -> psycopg.Connection:
    """A connection that is not the driver's."""
    return psycopg.connect(
        host="127.0.0.1",
        port=server.port,
        user="postgres",
        password=PASSWORD,
        dbname="postgres",
        sslmode="disable",
        autocommit=True,
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 file system of 24 MiB in an image file, open to all users.  Needs root."""
    # Not below the test's directory, which other users may not enter.
    point = Path(tempfile.mkdtemp(prefix="kvfs-small-"))
    try:
        with disks.small_ext4(tmp_path / "image", point, size_bytes=24 << 20):
            point.chmod(0o755)
            inside = point / "tables"  # PostgreSQL wants it empty, without lost+found
            inside.mkdir()
            yield inside
    finally:
        point.rmdir()


@pytest.fixture
def opener(server: Postgres, namespace: str) -> Iterator[Opener]:
    """Opens stores of the test's namespace; settings by name."""
    opened = []

    def opens(store: str = "main", *, of: Postgres = server, **settings: object) -> PostgresDriver:
        table = of.settings(namespace) | {"sslmode": "disable"} | settings
        made = structure(table, PostgresSettings, where="[kv]")
        driver = open_store(made, store=store, durability=Durability.POWER)
        opened.append(driver)
        return driver

    yield opens
    for driver in opened:
        driver.close()
