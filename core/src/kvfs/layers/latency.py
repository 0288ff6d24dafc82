"""The layer ``latency``: a store far away, simulated by waiting.

Each call waits a fixed time, and longer for each byte that it carries, there and back.  The records
of a scan and the objects of a listing come in one answer: they cost their bytes, not a trip each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.config import Bytes, Seconds, setting
from kvfs.errors import Invalid
from kvfs.kv.driver import KVDriver
from kvfs.layers.around import Around, BackingAround, KVAround, Measure, nothing

T = TypeVar("T")

SLEEP_LEAST_S = 0.001
"""Shorter waits within a scan or a listing are saved up: sleeping less is not exact."""


@attrs.frozen
class LatencySettings:
    """How far away the store is."""

    delay: Seconds = setting(Seconds(0.001), help="how long every call takes longer")
    bytes_per_s: Bytes = setting(
        Bytes(0), help="how many bytes are carried per second; 0 for any number"
    )

    def __attrs_post_init__(self) -> None:
        if self.delay < 0 or self.bytes_per_s < 0:
            raise Invalid("the layer latency cannot wait less than no time")


@attrs.define
class Latency(Around):
    """Waits after each call.

    :param sleep: injected by tests.
    """

    settings: LatencySettings
    sleep: Callable[[float], None] = attrs.field(default=time.sleep, kw_only=True)

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        result = function()
        wait_s = self.settings.delay
        if operation.startswith("stream."):
            wait_s = Seconds(0.0)
        self.sleep(wait_s + self._carry_s(sent() + received(result)))
        return result

    def _carry_s(self, size: int) -> float:
        return size / self.settings.bytes_per_s if self.settings.bytes_per_s else 0.0

    def _steps(self, operation: str, iterator: Iterator[T], received: Measure[T]) -> Iterator[T]:
        saved_s = 0.0
        for item in iterator:
            saved_s += self._carry_s(received(item))
            if saved_s >= SLEEP_LEAST_S:
                self.sleep(saved_s)
                saved_s = 0.0
            yield item
        if saved_s:
            self.sleep(saved_s)


def wrap_kv(driver: KVDriver, settings: LatencySettings) -> KVDriver:
    """An engine far away."""
    return KVAround(driver, Latency(settings))


def wrap_backing(driver: BackingDriver, settings: LatencySettings) -> BackingDriver:
    """A store of objects far away."""
    return BackingAround(driver, Latency(settings))
