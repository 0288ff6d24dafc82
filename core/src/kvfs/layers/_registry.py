"""The one table of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.capability import BackingCapability, KVCapability
from kvfs.kv.driver import KVDriver
from kvfs.layers import faults, latency, metrics, prefix, readonly, retry
from kvfs.metrics import Metrics


def _same_kv(capability: KVCapability, settings: Any) -> KVCapability:
    return capability


def _same_backing(capability: BackingCapability, settings: Any) -> BackingCapability:
    return capability


@attrs.frozen(kw_only=True)
class LayerInfo:
    """What is known about a layer before it is used."""

    name: str
    summary: str
    """One line, without a full stop."""
    settings: type[Any]
    """An attrs class made with :func:`kvfs.config.setting`."""
    wrap_kv: Callable[[KVDriver, Any, Metrics, str], KVDriver]
    """``(driver, settings, metrics, store)``"""
    wrap_backing: Callable[[BackingDriver, Any, Metrics], BackingDriver]
    """``(driver, settings, metrics)``"""
    kv_capability: Callable[[KVCapability, Any], KVCapability] = _same_kv
    """What is left of an engine's capability in this layer."""
    backing_capability: Callable[[BackingCapability, Any], BackingCapability] = _same_backing

    def __reduce__(self) -> tuple[Callable[[str], LayerInfo], tuple[str]]:
        """Pickled by name, so that a configuration can be handed to another process."""
        return _of_name, (self.name,)


def _of_name(name: str) -> LayerInfo:
    return LAYERS[name]


_ALL = (
    LayerInfo(
        name="prefix",
        summary="a part of the store, under a prefix, as if it were all of it",
        settings=prefix.PrefixSettings,
        wrap_kv=lambda driver, settings, _metrics, _store: prefix.PrefixKV(driver, settings),
        wrap_backing=lambda driver, settings, _: prefix.PrefixBacking(driver, settings),
        kv_capability=prefix.kv_capability,
        backing_capability=prefix.backing_capability,
    ),
    LayerInfo(
        name="metrics",
        summary="counts and times every call",
        settings=metrics.MetricsSettings,
        wrap_kv=metrics.wrap_kv,
        wrap_backing=metrics.wrap_backing,
    ),
    LayerInfo(
        name="retry",
        summary="makes reads again that failed for a while; never a write that may have been done",
        settings=retry.RetrySettings,
        wrap_kv=lambda driver, settings, _metrics, _store: retry.wrap_kv(driver, settings),
        wrap_backing=lambda driver, settings, _: retry.wrap_backing(driver, settings),
    ),
    LayerInfo(
        name="readonly",
        summary="refuses every write",
        settings=readonly.ReadonlySettings,
        wrap_kv=lambda driver, settings, _metrics, _store: readonly.ReadonlyKV(driver, settings),
        wrap_backing=lambda driver, settings, _: readonly.ReadonlyBacking(driver, settings),
        kv_capability=readonly.kv_capability,
        backing_capability=readonly.backing_capability,
    ),
    LayerInfo(
        name="latency",
        summary="waits as if the store were far away",
        settings=latency.LatencySettings,
        wrap_kv=lambda driver, settings, _metrics, _store: latency.wrap_kv(driver, settings),
        wrap_backing=lambda driver, settings, _: latency.wrap_backing(driver, settings),
    ),
    LayerInfo(
        name="faults",
        summary="makes calls fail according to a plan",
        settings=faults.FaultsSettings,
        wrap_kv=lambda driver, settings, _metrics, _store: faults.inject_kv(
            driver, settings.plan()
        ),
        wrap_backing=lambda driver, settings, _: faults.inject_backing(driver, settings.plan()),
    ),
)

LAYERS: dict[str, LayerInfo] = {info.name: info for info in _ALL}
"""Every layer, by name."""
