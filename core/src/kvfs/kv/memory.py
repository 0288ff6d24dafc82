"""The memory engine: the executable specification of :class:`~kvfs.kv.KVDriver`.

Everything an engine can be asked for, in the fewest lines: a commit makes a new state, a view keeps
the one it saw.  A commit copies every record, so it is not meant for millions of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from threading import Condition, Lock

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Closed, Conflict
from kvfs.kv.driver import Batch, KVDriver, KVStats, ReadView, Watch
from kvfs.registry import DriverInfo

CAPABILITY = KVCapability(
    durability=Durability.MEMORY,
    key_bytes_max=1 << 16,
    value_bytes_max=1 << 30,
    scan_can_reverse=True,
    snapshot=True,
    thread_safe=True,
    watch=True,
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


class MemoryWatch(Watch):
    """Changes of a range, kept until somebody asks for them."""

    def __init__(self, driver: MemoryDriver, start: bytes, stop: bytes | None) -> None:
        self._driver = driver
        self._start, self._stop = start, stop
        self._told = Condition()
        self._keys: list[bytes] = []
        self._closed = False

    def tell(self, keys: Iterable[bytes]) -> None:
        """Some keys were changed by one commit."""
        with self._told:
            self._keys += [
                key
                for key in keys
                if self._start <= key and (self._stop is None or key < self._stop)
            ]
            self._told.notify_all()

    def wait(self, timeout_s: float | None = None) -> list[bytes]:
        with self._told:
            self._told.wait_for(lambda: self._keys or self._closed, timeout_s)
            if self._closed:
                raise Closed("memory: this watch is closed")
            keys, self._keys = self._keys, []
        return keys

    def close(self) -> None:
        self._driver.forget(self)
        with self._told:
            self._closed = True
            self._told.notify_all()


class MemoryDriver(KVDriver):
    """A dictionary with sorted keys.  Thread-safe."""

    capability = CAPABILITY

    def __init__(self) -> None:
        self._lock = Lock()
        self._state: _State | None = _State({}, [])
        self._watches: set[MemoryWatch] = set()

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
            gone = set(batch.deletes)
            for start, stop in batch.range_deletes:
                gone.update(key for key, _ in state.scan(start, stop, False, None))
            for key in gone:
                values.pop(key, None)
            values.update((key, bytes(value)) for key, value in batch.puts.items())
            self._state = _State(values, sorted(values))
            changed = sorted(gone.intersection(state.values) | batch.puts.keys())
            for watch in self._watches:
                watch.tell(changed)

    def snapshot(self) -> MemoryView:
        return MemoryView(self)

    def watch(self, start: bytes, stop: bytes | None) -> MemoryWatch:
        watch = MemoryWatch(self, start, stop)
        with self._lock:
            self.state()
            self._watches.add(watch)
        return watch

    def forget(self, watch: MemoryWatch) -> None:
        """A watch was closed."""
        with self._lock:
            self._watches.discard(watch)

    def stats(self) -> KVStats:
        values = self.state().values
        used = sum(len(key) + len(value) for key, value in values.items())
        return KVStats(keys=len(values), bytes_used=used)

    def compact(self) -> None:
        self.state()

    def close(self) -> None:
        with self._lock:
            self._state = None
            watches = [*self._watches]
        for watch in watches:
            watch.close()


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
