"""Where an engine can have a store on this machine: in a directory, or in a server of the kit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Invalid
from kvfs.registry import find, installed
from kvfs.testing.crash.runner import CrashRun
from kvfs.testing.harness import KVHarness
from kvfs.testing.servers.base import Server

_BY_URL = {"slatedb"}
"""Engines to which a directory is one of several places that a URL can name."""
_OTHER_NAMES = {"rados": "ceph"}
"""Engines whose server is not called as they are."""
NAMESPACE = "crash"


def local_settings(driver: str, directory: Path) -> dict[str, Any] | None:
    """The table ``[kv]`` of a store below a directory; ``None`` for an engine that needs a server.

    :raises NotFound: there is no such engine.
    """
    names = {field.name for field in attrs.fields(find("kv", driver).settings)}
    if "path" in names:
        return {"path": str(directory)}
    return {"url": directory.resolve().as_uri()} if driver in _BY_URL else None


def server_of(driver: str, home: Path) -> Server:
    """The server of an engine, not started.

    :param home: a directory that does not exist; its data go there.
    :raises Invalid: there is none, or it is not installed.
    """
    name = _OTHER_NAMES.get(driver, driver)
    try:
        module = import_module(f"kvfs.testing.servers.{name}")
    except ModuleNotFoundError as error:
        raise Invalid(f"the kit has no server for the engine {driver!r}") from error
    (kind,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Server) and vars(kind).get("name") == name
    )
    if missing := kind.missing():
        raise Invalid(missing)
    home.mkdir(parents=True)
    server: Server = kind(home)
    return server


def settings_of(server: Server, namespace: str = NAMESPACE) -> dict[str, Any]:
    """The table ``[kv]`` of a volume in a server that was started."""
    settings: dict[str, Any] = server.settings(namespace=namespace)  # type: ignore[attr-defined]
    return settings


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
        settings = local_settings(driver, directory / "stores")
        if settings is not None:
            yield cls(driver, directory, settings, None)
            return
        with server_of(driver, directory / "server") as server:
            yield cls(driver, directory, settings_of(server), server)

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


__all__ = [
    "Place",
    "capability_of",
    "durable_engines",
    "local_settings",
    "server_of",
    "settings_of",
]
