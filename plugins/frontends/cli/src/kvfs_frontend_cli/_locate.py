"""What the argument VOLUME means: a directory, a configuration file, a mount point or a URL."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
from cyclopts import Parameter

from kvfs import registry
from kvfs.config import nearest, read_toml
from kvfs.errors import Invalid, NotFound
from kvfs.tarballs.settings import IngestSettings
from kvfs.volume import VolumeConfig, VolumeSettings, from_tables
from kvfs.volume.settings import (
    DEFAULT_BACKING,
    DEFAULT_FRONTEND,
    DEFAULT_KV,
    with_absolute_paths,
)
from kvfs_frontend_cli import _runtime
from kvfs_frontend_cli._values import hints_of, parse_value

Tables = dict[str, dict[str, Any]]

_URL = re.compile(r"([a-z][a-z0-9+.-]*)://")
WRITABLE = "volume.writable"
_TABLE_NAMES = ("volume", "kv", "backing", "ingest", "frontend")
_FIRST_CHOICE = ("obstore", "s3")
"""Of several drivers for a scheme, the first of these is taken, then any other one."""
_LAST_CHOICE = ("fsspec",)
_PACKAGES = {
    "s3": "kvfs-backing-obstore",
    "gs": "kvfs-backing-obstore",
    "az": "kvfs-backing-obstore",
    "sftp": "kvfs-backing-fsspec",
    "http": "kvfs-backing-fsspec",
    "https": "kvfs-backing-fsspec",
    "memory": "kvfs-backing-fsspec",
}
"""What brings the driver of a scheme, where none is installed."""


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Place:
    """The options that every command with a VOLUME has."""

    kv: Annotated[
        str | None, Parameter(help="Engine that keeps what was fetched (see: kvfs drivers kv).")
    ] = None
    backing: Annotated[
        str | None,
        Parameter(help="Driver for the URL, if several take it (see: kvfs drivers backing)."),
    ] = None
    cache: Annotated[
        Path | None, Parameter(help="Where the engine keeps it, instead of below ~/.cache/kvfs.")
    ] = None
    set_: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            help="Override a setting: --set table.name=value (see: kvfs config explain).",
        ),
    ] = ()


@attrs.frozen(kw_only=True)
class Located:
    """A volume that was found, not yet opened."""

    config: VolumeConfig
    tables: Tables
    """What ``config`` was made from; paths in it are absolute."""
    origin: str
    """VOLUME, resolved, as it is shown."""
    cache: Path | None = None
    """The directory that the CLI chose for the engine; ``None`` where a configuration names it."""
    served: _runtime.MountRecord | None = None
    """The mount that VOLUME is the mount point of."""


def locate(volume: str, place: Place | None = None) -> Located:
    """Find the volume that the argument ``volume`` means.

    :raises NotFound: there is nothing there, or a driver is not installed.
    :raises Invalid: it is something else, or a setting is wrong.
    """
    place = place or Place()
    if (url := _URL.match(volume)) is not None:
        return _of_url(volume, url[1], place)
    path = os.path.realpath(volume)
    for record in _runtime.records():
        if record.target == path:
            return _of_mount(record, place)
        if path.startswith(record.target + "/"):
            inside = os.path.relpath(path, record.target)
            raise Invalid(
                f"{volume} is inside the mount {record.target}: "
                f"give VOLUME and PATH apart: {record.target} {inside}"
            )
    if os.path.isdir(path):
        return _of_directory(path, place)
    if os.path.isfile(path):
        return _of_file(Path(path), place)
    if os.path.lexists(path):
        raise Invalid(f"{volume} is neither a directory of tarballs nor a configuration file")
    raise NotFound(f"there is no {volume}: give a directory of tarballs, a .toml or a mount point")


def _of_mount(record: _runtime.MountRecord, place: Place) -> Located:
    tables = {name: dict(table) for name, table in record.tables.items()}
    if place.kv or place.backing or place.cache:
        raise Invalid(f"{record.target} is mounted: --kv, --backing and --cache are settled for it")
    return _located(tables, place, where=record.target, origin=record.origin, served=record)


def _of_file(path: Path, place: Place) -> Located:
    if path.suffix != ".toml":
        raise Invalid(
            f"{path} is a file: give the directory that holds it as VOLUME "
            f"({path.parent}), or a configuration whose name ends in .toml"
        )
    tables: Tables = {}
    for name, table in read_toml(path).items():
        if not isinstance(table, Mapping):
            raise Invalid(f"{path}: {name} must be a table: [{name}]")
        tables[name] = dict(table)
    if place.kv:
        tables["kv"] = {"driver": place.kv}
    if place.backing:
        tables.setdefault("backing", {})["driver"] = place.backing
    if place.cache:
        tables.setdefault("kv", {})["path"] = str(place.cache.absolute())
    return _located(tables, place, where=str(path), origin=str(path), base=path.parent)


def _of_directory(path: str, place: Place) -> Located:
    if place.backing not in (None, "posix"):
        raise Invalid(f"{path} is a directory: --backing {place.backing} needs a URL")
    return _made_up(
        {"driver": "posix", "path": path}, path, place, name=os.path.basename(path) or "root"
    )


def _of_url(url: str, scheme: str, place: Place) -> Located:
    if scheme == "file":
        return _of_directory(os.path.realpath(url.removeprefix("file://")), place)
    driver = place.backing or _driver_of(scheme)
    if not _takes_url(registry.find("backing", driver)):
        raise Invalid(
            f"the backing driver {driver!r} takes no URL: name its settings in a configuration file"
        )
    name = url.rstrip("/").rpartition("/")[2] or scheme
    return _made_up({"driver": driver, "url": url}, url, place, name=name)


def _driver_of(scheme: str) -> str:
    """The installed driver for URLs of that scheme.

    :raises NotFound: there is none.
    """
    entries = registry.installed("backing")
    infos = [entry.info for entry in entries if entry.info is not None]
    taking = [info.name for info in infos if scheme in info.schemes]
    if not taking and any(entry.name == scheme for entry in entries):
        return scheme
    if not taking:
        known = ", ".join(sorted({each for info in infos for each in info.schemes})) or "none"
        package = _PACKAGES.get(scheme, f"kvfs-backing-{scheme}")
        raise NotFound(
            f"no backing driver is installed for {scheme}:// (installed: {known}); "
            f"try: pip install {package}"
        )
    order = {name: place for place, name in enumerate(_FIRST_CHOICE)}
    return min(taking, key=lambda name: (name in _LAST_CHOICE, order.get(name, len(order))))


def _takes_url(info: registry.DriverInfo) -> bool:
    return "url" in hints_of(info.settings)


def _made_up(backing: dict[str, Any], location: str, place: Place, *, name: str) -> Located:
    """A volume without a configuration file: the defaults, and a cache of its own."""
    said = {
        name.strip(): value.strip()
        for name, _, value in (assignment.partition("=") for assignment in place.set_)
    }
    driver = said.get("kv.driver") or place.kv or DEFAULT_KV
    # What was changed is nowhere else: whoever clears caches must not find it.
    usual = default_home(location, name)
    lasts = backing["driver"] == DEFAULT_BACKING or said.get(WRITABLE) == "true"
    if not lasts and not usual.is_dir():
        usual = default_cache(location, name)
    cache = place.cache.absolute() if place.cache else usual
    kv: dict[str, Any] = {"driver": driver}
    if "path" in hints_of(registry.find("kv", driver).settings):
        kv["path"] = str(cache)
    elif place.cache:
        raise Invalid(f"the kv driver {driver!r} keeps nothing on disk: --cache has no meaning")
    volume = {"name": name, "uid": os.getuid(), "gid": os.getgid()}
    tables: Tables = {"volume": volume, "kv": kv, "backing": backing}
    return _located(tables, place, where="the settings", origin=location, cache=cache)


def default_cache(location: str, name: str) -> Path:
    """Where the cache of a volume at ``location`` is kept."""
    return _below("XDG_CACHE_HOME", "~/.cache", location, name)


def default_home(location: str, name: str) -> Path:
    """Where a volume is kept that is, or was, written to: it is no cache, there is nothing else."""
    return _below("XDG_DATA_HOME", "~/.local/share", location, name)


def _below(variable: str, default: str, location: str, name: str) -> Path:
    home = os.environ.get(variable, "")
    base = Path(home) if os.path.isabs(home) else Path(default).expanduser()
    digest = hashlib.sha256(os.fsencode(location)).hexdigest()[:8]
    return base / "kvfs" / "volumes" / f"{name}-{digest}"


def _located(
    tables: Tables,
    place: Place,
    *,
    where: str,
    origin: str,
    base: Path | None = None,
    cache: Path | None = None,
    served: _runtime.MountRecord | None = None,
) -> Located:
    _apply(tables, place.set_)
    # So that it means the same from everywhere, in the background too.
    tables = with_absolute_paths(tables, base or Path.cwd())
    config = from_tables(tables, where=where)
    if cache is not None and tables["kv"].get("path") != str(cache):
        cache = None
    return Located(config=config, tables=tables, origin=origin, cache=cache, served=served)


def _apply(tables: Tables, assignments: Sequence[str]) -> None:
    """Write ``table.name=value`` into the tables; drivers first, since they type the rest."""
    for assignment in sorted(assignments, key=lambda text: ".driver=" not in text):
        name, equals, value = assignment.partition("=")
        table, dot, key = name.strip().partition(".")
        if not (equals and dot and key):
            raise Invalid(f"--set {assignment}: write --set table.name=value")
        if table not in _TABLE_NAMES:
            raise Invalid(
                f"--set {assignment}: there is no table {table!r}: {nearest(table, _TABLE_NAMES)}"
            )
        hint = hints_of(settings_class(tables, table)).get(key)
        tables.setdefault(table, {})[key] = parse_value(
            value.strip(), str if key == "driver" else hint
        )


def settings_class(tables: Tables, table: str) -> type[Any] | None:
    """The settings class behind a table, as far as it is known which."""
    if table == "volume":
        return VolumeSettings
    if table == "ingest":
        return IngestSettings
    default = DEFAULT_FRONTEND if table == "frontend" else None
    driver = tables.get(table, {}).get("driver", default)
    for kind in registry.KINDS:
        if kind == table and isinstance(driver, str):
            return registry.find(kind, driver).settings
    return None
