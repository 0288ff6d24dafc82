"""Where an engine can have stores on this machine: in a directory, or in a server of the kit.

The one table from engines to what they need, for tests of volumes and mounts, for the crash runner
and for the benchmarks::

    with Place.of("etcd", tmp_path) as place:  # its server is started
        config = site.config(backing, kv=place.table("a-volume"))
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import attrs

from kvfs.errors import Invalid
from kvfs.registry import find
from kvfs.testing.servers.base import Server

SERVERS = {
    "etcd": "kvfs.testing.servers.etcd:Etcd",
    "postgres": "kvfs.testing.servers.postgres:Postgres",
    "rados": "kvfs.testing.servers.ceph:Ceph",
    "redis": "kvfs.testing.servers.redis:Redis",
}
"""Engine -> ``module:class`` of a :class:`~kvfs.testing.servers.base.Server`, whose ``settings``
make the table ``[kv]`` of a namespace."""


def local_settings(driver: str, directory: Path) -> dict[str, Any] | None:
    """The settings of a store below a directory; ``None`` for an engine that needs a server.

    :raises NotFound: there is no such engine.
    """
    info = find("kv", driver)
    names = {field.name for field in attrs.fields(info.settings)}
    if "path" in names:
        return {"path": str(directory)}
    if driver in SERVERS:
        return None
    # To some a directory is one of several places that a URL can name; others need none.
    return {"url": directory.resolve().as_uri()} if "url" in names else {}


def server_kind(driver: str) -> type[Server]:
    """What serves an engine.

    :raises Invalid: there is none, or it is not installed.
    """
    if driver not in SERVERS:
        raise Invalid(f"the kit has no server for the engine {driver!r}")
    module, _, name = SERVERS[driver].partition(":")
    kind: type[Server] = getattr(import_module(module), name)
    if missing := kind.missing():
        raise Invalid(missing)
    return kind


def settings_of(server: Server, namespace: str) -> dict[str, Any]:
    """The settings of a volume in a server that was started."""
    settings: dict[str, Any] = server.settings(namespace=namespace)  # type: ignore[attr-defined]
    return settings


@attrs.frozen
class Place:
    """Where volumes of one engine are."""

    driver: str
    directory: Path
    """Their directories are made below it."""
    server: Server | None = None
    """Started."""

    @classmethod
    @contextmanager
    def of(cls, driver: str, directory: Path) -> Iterator[Self]:
        """A place below a directory: a server is started where one is needed, and stopped.

        :raises NotFound: there is no such engine.
        :raises Invalid: the kit has no server for it, or it is not installed.
        """
        if local_settings(driver, directory) is not None:
            yield cls(driver, directory)
            return
        home = directory / "server"
        kind = server_kind(driver)
        home.mkdir(parents=True)
        with kind(home) as server:
            yield cls(driver, directory, server)

    def settings(self, name: str) -> dict[str, Any]:
        """The settings of the engine for the volume of a name; the same for the same name."""
        if self.server is not None:
            return settings_of(self.server, name)
        settings = local_settings(self.driver, self.directory / name)
        assert settings is not None, "another place would have a server"
        return settings

    def table(self, name: str) -> dict[str, Any]:
        """The table ``[kv]`` of the volume of a name."""
        return {"driver": self.driver, **self.settings(name)}


__all__ = ["SERVERS", "Place", "local_settings", "server_kind", "settings_of"]
