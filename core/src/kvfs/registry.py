"""Drivers by name, found through entry points.

A plugin's entry point names a :class:`DriverInfo`, which is importable without the native library
behind the driver.  Using one driver never imports another; a plugin that is broken is reported, and
harms nobody else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, requires, version
from typing import Any, Literal

import attrs

from kvfs.capability import BackingCapability, FrontendCapability, KVCapability
from kvfs.errors import Invalid, NotFound, Unsupported

DriverKind = Literal["kv", "backing", "frontend"]

KINDS: tuple[DriverKind, ...] = ("kv", "backing", "frontend")
INTERFACE_VERSION = 1
"""Raised when an interface changes so that existing drivers would misbehave."""


@attrs.frozen(kw_only=True)
class DriverInfo:
    """What a plugin says about its driver before the driver is loaded."""

    name: str
    kind: DriverKind
    summary: str
    """One line, without a full stop."""
    settings: type[Any]
    """An attrs class made with :func:`kvfs.config.setting`."""
    factory: str
    """``module:function``; imported only when the driver is used.

    kv: ``(settings, *, store: str, durability: Durability) -> KVDriver``, where ``store`` tells
    the stores of one volume apart (a folder, database or prefix) and ``durability`` is the level
    that commits to it will ask for.  backing: ``(settings) -> BackingDriver``.  frontend:
    ``(settings) -> Frontend``.
    """
    capability: KVCapability | BackingCapability | FrontendCapability
    """What the driver can do at its best; the open driver's record counts."""
    remove: str | None = None
    """kv only, ``module:function``: ``(settings, *, store: str) -> None`` removes a store that is
    not open, without reading it.  ``None``: a store leaves nothing behind."""
    schemes: tuple[str, ...] = ()
    """backing only: the schemes of the URLs (``s3`` for ``s3://bucket``) that its setting ``url``
    takes."""
    interface: int = INTERFACE_VERSION

    def load(self) -> Callable[..., Any]:
        """The factory.

        :raises Unsupported: what it needs is not installed or does not load.
        """
        return self._load(self.factory)

    def remove_store(self, settings: Any, *, store: str) -> None:
        """Remove a store of a KV driver that is not open."""
        if self.remove is not None:
            self._load(self.remove)(settings, store=store)

    def _load(self, target: str) -> Callable[..., Any]:
        module_name, _, function_name = target.partition(":")
        try:
            function: Callable[..., Any] = getattr(import_module(module_name), function_name)
        except Exception as error:
            raise Unsupported(
                f"the {self.kind} driver {self.name!r} does not load: {error!r}"
            ) from error
        return function


@attrs.frozen
class Installed:
    """One entry point: a driver, or the reason why it is none."""

    kind: DriverKind
    name: str
    distribution: str
    version: str
    info: DriverInfo | None
    problem: str | None


def _resolve(entry: EntryPoint, kind: DriverKind) -> tuple[DriverInfo | None, str | None]:
    try:
        info = entry.load()
    except Exception as error:
        return None, f"{entry.value} cannot be imported: {error!r}"
    if not isinstance(info, DriverInfo):
        return None, f"{entry.value} is a {type(info).__name__}, not a DriverInfo"
    if (info.kind, info.name) != (kind, entry.name):
        return None, f"{entry.value} calls itself {info.kind} {info.name!r}"
    if info.interface != INTERFACE_VERSION:
        return None, (
            f"made for interface version {info.interface}, this is {INTERFACE_VERSION}: "
            "install matching versions of kvfs-core and the plugin"
        )
    return info, None


def _describe(entry: EntryPoint, kind: DriverKind) -> Installed:
    info, problem = _resolve(entry, kind)
    distribution = entry.dist
    return Installed(
        kind=kind,
        name=entry.name,
        distribution=distribution.name if distribution else "?",
        version=distribution.version if distribution else "?",
        info=info,
        problem=problem,
    )


@lru_cache(maxsize=8)
def _entries(kind: DriverKind) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=f"kvfs.{kind}"), key=lambda entry: entry.name))


def _claimants(entries: list[EntryPoint]) -> list[str]:
    return sorted({entry.dist.name if entry.dist else "?" for entry in entries})


def find(kind: DriverKind, name: str) -> DriverInfo:
    """The driver of that name, importing only its plugin.

    :raises NotFound: nothing of that name is installed; says what is.
    :raises Invalid: two distributions claim the name; names both.
    :raises Unsupported: its plugin is broken.
    """
    matching = [entry for entry in _entries(kind) if entry.name == name]
    if not matching:
        known = ", ".join(dict.fromkeys(entry.name for entry in _entries(kind))) or "none"
        raise NotFound(
            f"no {kind} driver {name!r} is installed (installed: {known}); "
            f"try: pip install kvfs-{kind}-{name}"
        )
    if len(claimants := _claimants(matching)) > 1:
        raise Invalid(
            f"the {kind} driver {name!r} is claimed by {' and '.join(claimants)}: uninstall one"
        )
    info, problem = _resolve(matching[0], kind)
    if info is None:
        raise Unsupported(f"the {kind} driver {name!r} is broken: {problem}")
    return info


def versions_of(kind: DriverKind, name: str) -> dict[str, str]:
    """Of the distribution of an installed driver, and of the packages that it stands on."""
    found = {}
    for entry in installed(kind):
        if entry.name == name:
            found[entry.distribution] = entry.version
            for requirement in requires(entry.distribution) or ():
                named = re.match(r"[\w.-]+", requirement)
                if named is not None and "extra ==" not in requirement:
                    found[named[0]] = version_of(named[0])
    return found


def version_of(distribution: str) -> str:
    """The version that is installed; if none is, it says so."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def installed(kind: DriverKind) -> list[Installed]:
    """Every plugin of a kind, the broken ones with their reason."""
    entries = _entries(kind)
    found = []
    for entry in entries:
        described = _describe(entry, kind)
        claimants = _claimants([other for other in entries if other.name == entry.name])
        if len(claimants) > 1:
            problem = f"the name is claimed by {' and '.join(claimants)}: uninstall one"
            described = attrs.evolve(described, info=None, problem=problem)
        found.append(described)
    return found
