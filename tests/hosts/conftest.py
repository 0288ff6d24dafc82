"""A volume in a server of each kind that is made for several machines, and hosts that mount it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs.testing.gated import Gate
from kvfs.testing.invariants import violations
from kvfs.testing.mounts import Site, site_in
from kvfs.testing.places import Place
from kvfs.testing.servers.base import Server
from kvfs.volume import Volume, from_tables

from .hosts import Host

ENGINES = ("etcd", "postgres", "redis")
REFRESH_S = 0.5
LEASE_S = 2
TIMEOUT_S = 3
PATIENCE_S = 60

Run = Callable[..., Future[Any]]
numbers = count(1)


@pytest.fixture(scope="session", autouse=True)
def _root() -> None:
    """Namespaces and mounts in them need root."""
    assert os.geteuid() == 0, "the tests in tests/hosts have to run as root"


@pytest.fixture(scope="module", params=ENGINES)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """The server of an engine."""
    with Place.of(request.param, tmp_path_factory.mktemp("place")) as made:
        yield made


@attrs.frozen
class Shared:
    """What the hosts have in common."""

    folder: Path
    """Of tarballs."""
    gate: Gate
    """Through which they are read, by the mounts."""
    config: Path
    kv: dict[str, Any]
    server: Server
    site: Site
    """Of the machine on which the test runs: one more host."""
    _path: Path
    _stack: ExitStack

    def boot(self, name: str) -> Host:
        """A host, up until the test ends."""
        gated = {"PYTHONPATH": self.site.environment["PYTHONPATH"]}
        return self._stack.enter_context(Host.boot(self._path / name, **gated))

    def mounted(self, name: str) -> Host:
        """A host that has the volume mounted."""
        host = self.boot(name)
        host.mount(self.config)
        return host

    @contextmanager
    def opened(self) -> Iterator[Volume]:
        """The volume, opened by this process: one more host."""
        backing = {"driver": "posix", "path": str(self.folder)}
        # The same lease: the other hosts expect a sign of life as often as they give one.
        tables = {"kv": self.kv, "backing": backing, "volume": {"lease": LEASE_S}}
        with Volume(from_tables(tables, where="a test")) as volume:
            yield volume

    def check(self) -> None:
        """What holds of a volume at rest, holds of this one."""
        with self.opened() as volume:
            assert [*violations(volume)] == []


@pytest.fixture
def shared(place: Place, tmp_path: Path) -> Iterator[Shared]:
    """A new volume over an empty folder."""
    folder = tmp_path / "folder"
    folder.mkdir()
    kv = place.table(f"volume{next(numbers)}") | {"timeout": TIMEOUT_S}
    volume = {"refresh": REFRESH_S, "lease": LEASE_S}
    assert place.server is not None
    if not all(daemon.is_running() for daemon in place.server.daemons):
        place.server.start()  # a test that failed has left it dead
    with site_in(tmp_path) as site, ExitStack() as stack:
        gate, config = site.gated(folder, kv=kv, volume=volume)
        yield Shared(folder, gate, config, kv, place.server, site, tmp_path, stack)


@pytest.fixture
def run() -> Iterator[Run]:
    """Runs a function in a thread of its own."""
    pool = ThreadPoolExecutor(8)
    yield pool.submit
    # Where a test has failed, one may wait for a host that ends only after this.
    pool.shutdown(wait=False, cancel_futures=True)
