"""Where each engine puts a store that nobody used before.

An embedded engine gets a directory on the scratch disk; an engine with a server gets one that is
started for it, from :mod:`kvfs.testing.places`, unless the user names one.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.config import nearest, read_toml
from kvfs.errors import Invalid
from kvfs.registry import DriverInfo, installed
from kvfs.testing.places import SERVERS, server_kind, settings_of
from kvfs_bench.kv import dictionary

_NO_SYNC = {"fsync": "off", "full_page_writes": "off"}
SERVER_OPTIONS: Mapping[str, Mapping[Durability, Mapping[str, Any]]] = {
    "postgres": {level: {"options": _NO_SYNC} for level in (Durability.MEMORY, Durability.PROCESS)},
    "redis": {Durability.MEMORY: {"options": ("--appendonly", "no")}},
}
"""What the server of an engine is started with for a level, so that it promises that level and no
more.  It is as its makers mean it where nothing is said."""
_NAMESPACE = "kvfs-bench"

_DIRECTORY_SETTINGS = {"path": "{}", "url": "file://{}"}
"""Settings that take a directory, the preferred one first, and how it is written there."""
_TEMPLATE = "template"

Settings = Mapping[str, Mapping[str, Any]]
"""Engine -> what the user set for it."""


@attrs.frozen
class Place:
    """Where a store may be put, and what can be seen of it from outside."""

    settings: dict[str, Any]
    directory: Path | None = None
    """Holds all that is on the disk; ``None``: nothing is, or it is elsewhere."""
    server_pids: Sequence[int] = ()
    server_version: str | None = None
    server_options: str = ""
    """What the server was started with because of the level."""

    @property
    def is_local(self) -> bool:
        """Does the client's process keep the store in a directory by itself?"""
        return self.directory is not None and not self.server_pids


@attrs.frozen
class Engine:
    """An engine that can be run."""

    name: str
    info: DriverInfo | None
    """``None``: the dictionary of the harness."""
    own: dict[str, Any] = attrs.field(factory=dict)
    """What the user set."""
    server: type[Any] | None = None

    @property
    def capability(self) -> KVCapability:
        """At its best."""
        if self.info is None:
            return dictionary.CAPABILITY
        assert isinstance(self.info.capability, KVCapability)
        return self.info.capability

    @contextmanager
    def place(self, directory: Path, level: Durability) -> Iterator[Place]:
        """A place for new stores, for as long as the block lasts.

        :param directory: an empty one.
        :param level: what will be asked of commits.
        """
        if self.server is not None:
            options = SERVER_OPTIONS.get(self.name, {}).get(level, {})
            with self.server(directory, **options) as server:
                pids = [daemon.pid for daemon in server.daemons]
                yield Place(
                    {**settings_of(server, _NAMESPACE), **self.own},
                    _data_of(pids[0], directory),
                    pids,
                    _version_of(pids[0]),
                    _told(options),
                )
            return
        name = None if self.info is None else _directory_setting(self.info)
        if name is None or name in self.own:
            yield Place(self.own)
        else:
            path = _DIRECTORY_SETTINGS[name].format(directory / "stores")
            yield Place({name: path, **self.own}, directory)


def _data_of(pid: int, home: Path) -> Path:
    """Where a server keeps its data: some go there, and may have had to choose another place."""
    now = Path(f"/proc/{pid}/cwd").resolve()
    return home if now in (Path.cwd(), Path("/")) or now.is_relative_to(home) else now


def _told(options: Mapping[str, Any]) -> str:
    """Options of a server as a reader of the tables wants to see them."""
    words = options.get("options", ())
    if isinstance(words, Mapping):
        return " ".join(f"{name}={value}" for name, value in words.items())
    return " ".join(words)


def _directory_setting(info: DriverInfo) -> str | None:
    fields = attrs.fields_dict(info.settings)
    return next((name for name in _DIRECTORY_SETTINGS if name in fields), None)


def _version_of(pid: int) -> str | None:
    program = Path(f"/proc/{pid}/exe").resolve()
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    match = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return match[0] if match else None


def choose(names: Sequence[str], settings: Settings) -> tuple[list[Engine], dict[str, str]]:
    """The engines that can be run, and why others cannot.

    :param names: only these; all that are installed by default.
    :raises Invalid: there is no engine of a name.
    """
    drivers = {driver.name: driver for driver in installed("kv")}
    for name in (*names, *settings):
        if name not in drivers:
            raise Invalid(f"there is no engine {name}: {nearest(name, [*drivers])}")
    found, missing = [], {}
    for name, driver in drivers.items():
        if (names and name not in names) or (not names and name == _TEMPLATE):
            continue
        reason = driver.problem
        server = None
        if driver.info is not None:
            try:
                driver.info.load()
            except Exception as error:
                reason = str(error)
        if not reason and name in SERVERS and name not in settings:
            server, reason = _server(name)
        if reason:
            missing[name] = reason
            continue
        assert driver.info is not None
        engine = Engine(name, driver.info, dict(settings.get(name, {})), server)
        if lacking := _lacking(engine):
            missing[name] = lacking
        else:
            found.append(engine)
    return found, missing


def _server(name: str) -> tuple[type[Any] | None, str | None]:
    try:
        return server_kind(name), None
    except Invalid as error:
        return None, str(error)


def _lacking(engine: Engine) -> str | None:
    """A setting that it needs and that nobody can guess."""
    assert engine.info is not None
    if engine.server is not None:
        return None
    for field in attrs.fields(engine.info.settings):
        given = field.name in engine.own or field.name == _directory_setting(engine.info)
        if field.default is attrs.NOTHING and not given:
            return f"it needs a setting: --settings {engine.name}.{field.name}=VALUE"
    return None


def reaches(engine: Engine, durability: Durability) -> bool:
    """Can its commits be as durable?"""
    return engine.capability.durability >= durability


def parse_settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``NAME.key=value``, or a TOML file with a table for each engine.

    :raises Invalid: neither of them.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        name, dot, rest = word.partition(".")
        key, equals, value = rest.partition("=")
        if equals and dot and name and key:
            found.setdefault(name, {})[key] = _value(value)
        elif word.endswith(".toml"):
            for table, settings in read_toml(Path(word)).items():
                if not isinstance(settings, dict):
                    raise Invalid(f"{word}: {table} is no table of an engine's settings")
                found.setdefault(table, {}).update(settings)
        else:
            raise Invalid(f"--settings {word}: give ENGINE.KEY=VALUE, or a file ENGINES.toml")
    return found


def _value(text: str) -> Any:
    """As TOML where it is TOML, else as text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
