"""Buckets to test with: of moto, directly or through a line that can be cut; small disks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.testing.servers.moto import Moto
from kvfs_kv_slatedb import SlateDBSettings
from kvfs_kv_slatedb._driver import SlateDBDriver, open_store

from .line import Line

Opener = Callable[..., SlateDBDriver]
_numbers = count()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """An S3 server with the bucket ``kvfs``."""
    with Moto(tmp_path_factory.mktemp("moto")) as server:
        server.bucket("kvfs")
        yield server


@pytest.fixture
def bucket(moto: Moto) -> dict[str, str]:
    """Settings for an empty prefix."""
    return {
        "url": f"s3://kvfs/test/{next(_numbers)}",
        "endpoint": moto.endpoint,
        "region": moto.region,
        "access_key_id": moto.access_key,
        "secret_access_key": moto.secret_key,
    }


@pytest.fixture
def line(moto: Moto) -> Iterator[Line]:
    """A line to moto."""
    with Line(moto.port) as line:
        yield line


@pytest.fixture
def opener() -> Iterator[Opener]:
    """Opens stores; settings as in TOML."""
    opened = []

    def opens(settings: dict[str, Any], *, store: str = "main") -> SlateDBDriver:
        structured = structure(settings, SlateDBSettings, where="[kv]")
        opened.append(open_store(structured, store=store, durability=Durability.POWER))
        return opened[-1]

    yield opens
    for driver in opened:
        driver.close()


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 48 MiB.  Needs root."""
    point = tmp_path / "tmpfs"
    point.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "none", str(point)]
    subprocess.run(mount, check=True, capture_output=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True, capture_output=True)
