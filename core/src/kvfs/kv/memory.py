"""The memory engine: the executable specification of :class:`~kvfs.kv.KVDriver`.

Everything an engine can be asked for, in the fewest lines: a commit makes a new state, a view keeps
the one it saw.  A commit copies every record, so it is not meant for millions of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from threading import Lock

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Closed, Conflict
from kvfs.kv.driver import Batch, KVDriver, KVStats, ReadView
from kvfs.registry import DriverInfo

CAPABILITY = KVCapability(
    durability=Durability.MEMORY,
    key_bytes_max=1 << 16,
    value_bytes_max=1 << 30,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    persistent=False,
    inline_bytes_best=64 << 10,
)


@attrs.frozen
class MemorySettings:
    """The memory engine has nothing to set."""


@attrs.frozen
class _State:
    """The records, and their keys in order.  Never changed once made."""

    values: dict[bytes, bytes]
    keys: list[bytes]

    def scan(
        self, start: bytes, stop: bytes | None, reverse: bool, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        low = bisect_left(self.keys, start)
        high = len(self.keys) if stop is None else bisect_left(self.keys, stop)
        chosen = range(high - 1, low - 1, -1) if reverse else range(low, high)
        for index in islice(chosen, limit):
            key = self.keys[index]
            yield key, self.values[key]


class MemoryView(ReadView):
    """One state of a :class:`MemoryDriver`."""

    def __init__(self, driver: MemoryDriver) -> None:
        self._driver = driver
        self._state: _State | None = driver.state()

    def _open(self) -> _State:
        if self._state is None:
            raise Closed("memory: this view is closed")
        return self._state

    def get(self, key: bytes) -> bytes | None:
        return self._open().values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [*map(self._open().values.get, keys)]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self._open().scan(start, stop, reverse, limit)

    def refresh(self) -> None:
        self._open()
        self._state = self._driver.state()

    def close(self) -> None:
        self._state = None


class MemoryDriver(KVDriver):
    """A dictionary with sorted keys.  Thread-safe."""

    capability = CAPABILITY

    def __init__(self) -> None:
        self._lock = Lock()
        self._state: _State | None = _State({}, [])

    def state(self) -> _State:
        """The present state."""
        if self._state is None:
            raise Closed("memory: the store is closed")
        return self._state

    def get(self, key: bytes) -> bytes | None:
        return self.state().values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [*map(self.state().values.get, keys)]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        return self.state().scan(start, stop, reverse, limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        with self._lock:
            state = self.state()
            for key, expected in batch.guards.items():
                if state.values.get(key) != expected:
                    raise Conflict(f"memory: the guard on {key.hex()} does not hold")
            values = dict(state.values)
            for start, stop in batch.range_deletes:
                for key, _ in state.scan(start, stop, False, None):
                    values.pop(key, None)
            for key in batch.deletes:
                values.pop(key, None)
            values.update((key, bytes(value)) for key, value in batch.puts.items())
            self._state = _State(values, sorted(values))

    def snapshot(self) -> MemoryView:
        return MemoryView(self)

    def stats(self) -> KVStats:
        values = self.state().values
        used = sum(len(key) + len(value) for key, value in values.items())
        return KVStats(keys=len(values), bytes_used=used)

    def compact(self) -> None:
        self.state()

    def close(self) -> None:
        self._state = None


def open_store(settings: MemorySettings, *, store: str, durability: Durability) -> MemoryDriver:
    """A new, empty store; ``store`` and ``durability`` have no meaning here."""
    return MemoryDriver()


DRIVER = DriverInfo(
    name="memory",
    kind="kv",
    summary="records in the memory of this process: the executable specification, for tests",
    settings=MemorySettings,
    factory="kvfs.kv.memory:open_store",
    capability=CAPABILITY,
)
