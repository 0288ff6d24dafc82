"""The layer ``metrics``: how often each call is made, how long it takes, what it carries.

Every operation gets a histogram of durations ``<label>.<operation>``, and, where it carries bytes,
a counter ``<label>.<operation>.bytes``; failures are counted in ``<label>.<operation>.errors``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TypeVar

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.config import setting
from kvfs.kv.driver import KVDriver
from kvfs.layers.around import Around, BackingAround, KVAround, Measure, nothing
from kvfs.metrics import Metrics

T = TypeVar("T")


@attrs.frozen
class MetricsSettings:
    """What the metrics are called."""

    label: str = setting("", help="what metric names begin with; empty for the kind and the store")


@attrs.define
class Measuring(Around):
    """Times each call; a scan or a listing counts as one, by the time it spent in the engine."""

    metrics: Metrics
    label: str

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        start = perf_counter()
        try:
            result = function()
        except Exception:
            self.metrics.counter(f"{self.label}.{operation}.errors").add()
            raise
        finally:
            self.metrics.histogram(f"{self.label}.{operation}").record(perf_counter() - start)
        self._carried(operation, sent() + received(result))
        return result

    def items(
        self,
        operation: str,
        begin: Callable[[], Iterator[T]],
        *,
        received: Measure[T] = nothing,
        resume: Callable[[T, int], Iterator[T]] | None = None,
    ) -> Iterator[T]:
        start = perf_counter()
        return self._timed(operation, begin(), received, perf_counter() - start)

    def _timed(
        self, operation: str, iterator: Iterator[T], received: Measure[T], spent_s: float
    ) -> Iterator[T]:
        size = 0
        try:
            while True:
                start = perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                except Exception:
                    self.metrics.counter(f"{self.label}.{operation}.errors").add()
                    raise
                finally:
                    spent_s += perf_counter() - start
                size += received(item)
                yield item
        finally:
            self.metrics.histogram(f"{self.label}.{operation}").record(spent_s)
            self._carried(operation, size)

    def _carried(self, operation: str, size: int) -> None:
        if size:
            self.metrics.counter(f"{self.label}.{operation}.bytes").add(size)


def wrap_kv(driver: KVDriver, settings: MetricsSettings, metrics: Metrics, store: str) -> KVDriver:
    """An engine that is measured, as ``kv.<store>.<operation>``."""
    label = settings.label or ".".join(filter(None, ("kv", store)))
    return KVAround(driver, Measuring(metrics, label))


def wrap_backing(
    driver: BackingDriver, settings: MetricsSettings, metrics: Metrics
) -> BackingDriver:
    """A store of objects that is measured, as ``backing.<operation>``."""
    return BackingAround(driver, Measuring(metrics, settings.label or "backing"))
