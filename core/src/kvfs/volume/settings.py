"""The configuration of a volume: tables of TOML, each a settings class."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

import attrs

from kvfs import registry
from kvfs.backing.scratch import SCRATCH
from kvfs.capability import Durability
from kvfs.config import Seconds, nearest, read_toml, setting, structure
from kvfs.errors import Invalid, NotFound
from kvfs.layers import LAYERS, LayerInfo
from kvfs.registry import KINDS, DriverInfo, DriverKind
from kvfs.tarballs.settings import IngestSettings

DEFAULT_KV = "lmdb"
DEFAULT_BACKING = SCRATCH
DEFAULT_FRONTEND = "fuse"


class LockScope(Enum):
    """Among whom the locks of programs hold."""

    HOST = "host"
    CLUSTER = "cluster"


@attrs.frozen
class VolumeSettings:
    """The table ``[volume]``."""

    name: str = setting("kvfs", help="name of the volume, as df and mount show it")
    durability: Durability = setting(
        Durability.POWER, help="what the catalogue and unpersisted data survive"
    )
    uid: int = setting(0, help="owner of directories that no tarball describes")
    gid: int = setting(0, help="group of directories that no tarball describes")
    refresh: Seconds = setting(
        Seconds(60),
        help="how often a mounted volume looks for changes in the store; 0: only at start",
    )
    writable: bool = setting(
        False, help="may what is in tarballs be changed; what is in no tarball always may"
    )
    shared: bool = setting(
        False,
        help="may several machines write at once: each change is then in the engine before it is "
        "acknowledged, and all of them have to say so (networked engines, no backing store)",
    )
    write_behind: Seconds = setting(
        Seconds(0.05),
        help="how long a change waits for others before it is committed; fsync waits for none",
    )
    locks: LockScope = setting(
        LockScope.HOST,
        help="flock(2) and fcntl(2) locks hold among the processes of one mount (host) or of all "
        "mounts of the volume that say so (cluster: networked engines)",
    )
    lease: Seconds = setting(
        Seconds(30),
        help="how long another machine may be silent before its unfinished work is taken over "
        "(networked engines)",
    )


@attrs.frozen
class Layer:
    """One layer around a driver."""

    info: LayerInfo
    settings: Any


@attrs.frozen
class Choice:
    """A driver, its settings and the layers around it, innermost first."""

    info: DriverInfo
    settings: Any
    layers: tuple[Layer, ...] = ()


@attrs.frozen(kw_only=True)
class VolumeConfig:
    """Everything that a volume is made from."""

    volume: VolumeSettings
    kv: Choice
    backing: Choice
    ingest: IngestSettings = attrs.field(factory=IngestSettings)
    frontend: Mapping[str, Any] = attrs.field(factory=dict)
    """The table ``[frontend]`` as it stands: read when something is served."""

    def frontend_choice(self, **overrides: Any) -> Choice:
        """The frontend to serve with; ``overrides`` replace what the table says."""
        return choose("frontend", {"driver": DEFAULT_FRONTEND} | dict(self.frontend) | overrides)


def choose(kind: DriverKind, table: Mapping[str, Any]) -> Choice:
    """A driver out of the table ``[kind]``: ``driver``, ``layer`` and the driver's own settings.

    :raises Invalid: a setting is wrong.
    :raises NotFound: no such driver is installed.
    """
    rest = dict(table)
    name = rest.pop("driver", None)
    if not isinstance(name, str):
        raise Invalid(f"[{kind}] needs a setting 'driver': the name of a {kind} driver")
    layers = tuple(_layer(kind, layer) for layer in rest.pop("layer", ()))
    info = registry.find(kind, name)
    return Choice(info, structure(rest, info.settings, where=f"[{kind}]"), layers)


def _layer(kind: DriverKind, table: Mapping[str, Any]) -> Layer:
    rest = dict(table)
    name = rest.pop("name", None)
    if name not in LAYERS:
        raise Invalid(f"[[{kind}.layer]] name {name!r}: {nearest(str(name), [*LAYERS])}")
    info = LAYERS[name]
    return Layer(info, structure(rest, info.settings, where=f"[[{kind}.layer]] {name}"))


_TABLES = ("volume", "kv", "backing", "ingest", "frontend")


def from_tables(tables: Mapping[str, Any], *, where: str) -> VolumeConfig:
    """A configuration out of parsed TOML.  :raises Invalid: says what is wrong, and where."""
    for name, table in tables.items():
        if name not in _TABLES:
            raise Invalid(f"{where}: there is no table [{name}]: {nearest(name, _TABLES)}")
        if not isinstance(table, Mapping):
            raise Invalid(f"{where}: {name} must be a table: [{name}]")
    if "kv" not in tables:
        raise Invalid(f"{where}: a table [kv] with a 'driver' is needed")
    return VolumeConfig(
        volume=structure(tables.get("volume", {}), VolumeSettings, where="[volume]"),
        kv=choose("kv", tables["kv"]),
        backing=choose("backing", tables.get("backing", {"driver": DEFAULT_BACKING})),
        ingest=structure(tables.get("ingest", {}), IngestSettings, where="[ingest]"),
        frontend=tables.get("frontend", {}),
    )


def from_file(path: Path) -> VolumeConfig:
    """A configuration out of a TOML file; relative paths in it are relative to the file.

    :raises Invalid: says what is wrong, and where.
    :raises NotFound: there is no such file, or no such driver.
    """
    tables = with_absolute_paths(read_toml(path), path.resolve().parent)
    return from_tables(tables, where=str(path))


def with_absolute_paths(tables: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Tables in which the paths that drivers are given are absolute; what is wrong is left alone.

    :param base: what relative paths are relative to; ``~`` is a home directory.
    """
    return {
        name: _absolute(name, table, base) if isinstance(table, Mapping) else table
        for name, table in tables.items()
    }


def _absolute(name: str, table: Mapping[str, Any], base: Path) -> dict[str, Any]:
    rest = dict(table)
    default = DEFAULT_FRONTEND if name == "frontend" else None
    driver = table.get("driver", default)
    for kind in KINDS:
        if kind == name and isinstance(driver, str):
            try:
                hints = get_type_hints(registry.find(kind, driver).settings)
            except NotFound:
                break  # reported, with the table's name, when the configuration is made
            for key, value in table.items():
                if hints.get(key) is Path and isinstance(value, str) and value:
                    rest[key] = str(base / Path(value).expanduser())
    return rest
