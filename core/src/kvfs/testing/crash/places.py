"""Where the crash runner puts the stores of each engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.registry import find, installed
from kvfs.testing import places
from kvfs.testing.crash.runner import CrashRun
from kvfs.testing.harness import KVHarness
from kvfs.testing.servers.base import Server

_STORES = "crash"


def durable_engines() -> list[str]:
    """Every installed engine that holds, opened again, what it held."""
    names = []
    for engine in installed("kv"):
        capability = capability_of(engine.name)
        if capability.persistent and capability.writable:
            names.append(engine.name)
    return names


def capability_of(driver: str) -> KVCapability:
    """What an engine can do at its best.

    :raises Unsupported: its plugin is broken.
    """
    capability = find("kv", driver).capability
    assert isinstance(capability, KVCapability)
    return capability


@attrs.frozen
class Place:
    """Where the stores of one engine are."""

    driver: str
    directory: Path
    settings: Mapping[str, Any]
    server: Server | None

    @classmethod
    @contextmanager
    def of(cls, driver: str, directory: Path) -> Iterator[Self]:
        """A place below a directory: a server is started, and stopped at the end."""
        with places.Place.of(driver, directory) as place:
            yield cls(driver, directory, place.settings(_STORES), place.server)

    def levels(self) -> list[Durability]:
        """The durabilities of a store here, as an open one declares them; the best first."""
        harness = KVHarness(self.driver, self.settings)
        try:
            best = harness.open("probe").capability.durability
        finally:
            harness.close()
        harness.remove("probe")
        return [level for level in reversed(Durability) if level <= best]

    def crash_run(
        self, level: Durability, *, seed: int, writers: int = 1, kill_server: bool = False
    ) -> CrashRun:
        """A run over an empty store here."""
        KVHarness(self.driver, self.settings).remove()
        killed = "server" if kill_server else "writer"
        work = self.directory / f"{killed}-{writers}-{level.name.lower()}"
        work.mkdir()
        return CrashRun(
            driver=self.driver,
            settings=self.settings,
            durability=level,
            work=work,
            seed=seed,
            writers=writers,
            server=self.server if kill_server else None,
        )


__all__ = ["Place", "capability_of", "durable_engines"]
