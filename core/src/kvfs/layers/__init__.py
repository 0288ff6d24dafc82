"""Layers: drivers around drivers, each doing one thing, for any engine and any store.

In a configuration the tables ``[[kv.layer]]`` and ``[[backing.layer]]`` name them, the innermost
(that next to the engine) first::

    [[kv.layer]]
    name = "latency"
    delay = "1 ms"
    [[kv.layer]]
    name = "retry"

A layer has the interface of what it wraps, and a capability record of its own where it takes
something away.  Every layer passes the conformance kit around the memory drivers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kvfs.backing.driver import BackingDriver
from kvfs.capability import BackingCapability, KVCapability
from kvfs.config import nearest, structure
from kvfs.errors import Invalid
from kvfs.kv.driver import KVDriver
from kvfs.layers._registry import LAYERS, LayerInfo
from kvfs.metrics import Metrics


def wrap_kv(
    driver: KVDriver, name: str, settings: Mapping[str, Any], *, metrics: Metrics, store: str = ""
) -> KVDriver:
    """An engine in one more layer.

    :param name: of the layer.
    :param settings: the layer's table, without its name.
    :param metrics: where the layer ``metrics`` puts what it measures.
    :param store: which of the volume's stores this is; a part of the metrics' names.
    :raises Invalid: there is no such layer, or its settings are wrong.
    """
    info = _find(name, "kv")
    return info.wrap_kv(driver, _settings(info, settings, "kv"), metrics, store)


def wrap_backing(
    driver: BackingDriver, name: str, settings: Mapping[str, Any], *, metrics: Metrics
) -> BackingDriver:
    """A store of objects in one more layer; as :func:`wrap_kv`."""
    info = _find(name, "backing")
    return info.wrap_backing(driver, _settings(info, settings, "backing"), metrics)


def kv_capability(capability: KVCapability, tables: Sequence[Mapping[str, Any]]) -> KVCapability:
    """What an engine can do in layers, given as the tables of a configuration."""
    for table in tables:
        info, settings = _read(table, "kv")
        capability = info.kv_capability(capability, settings)
    return capability


def backing_capability(
    capability: BackingCapability, tables: Sequence[Mapping[str, Any]]
) -> BackingCapability:
    """What a store of objects can do in layers, given as the tables of a configuration."""
    for table in tables:
        info, settings = _read(table, "backing")
        capability = info.backing_capability(capability, settings)
    return capability


def split(table: Mapping[str, Any], kind: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings of a table ``[[kv.layer]]`` or ``[[backing.layer]]``.

    :raises Invalid: it has no name.
    """
    name = table.get("name")
    if not isinstance(name, str):
        raise Invalid(f"[[{kind}.layer]] needs a name; known: {', '.join(sorted(LAYERS))}")
    return name, {key: value for key, value in table.items() if key != "name"}


def _read(table: Mapping[str, Any], kind: str) -> tuple[LayerInfo, Any]:
    name, settings = split(table, kind)
    info = _find(name, kind)
    return info, _settings(info, settings, kind)


def _find(name: str, kind: str) -> LayerInfo:
    if name not in LAYERS:
        raise Invalid(f"[[{kind}.layer]] {name!r} is not a layer: {nearest(name, [*LAYERS])}")
    return LAYERS[name]


def _settings(info: LayerInfo, settings: Mapping[str, Any], kind: str) -> Any:
    return structure(settings, info.settings, where=f"[[{kind}.layer]] {info.name}")


__all__ = [
    "LAYERS",
    "LayerInfo",
    "backing_capability",
    "kv_capability",
    "split",
    "wrap_backing",
    "wrap_kv",
]
