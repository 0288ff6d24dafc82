"""No engine at all: a dictionary behind the same interface, to see what the harness itself costs.

Its figures are an upper bound of the harness's share in everybody's: choosing the next operation,
calling, checking the answer, looking at the clock, and about 0.1 us of dictionary.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Conflict
from kvfs.kv import Batch, KVDriver, KVStats, ReadView

NAME = "harness"
CAPABILITY = KVCapability(
    durability=Durability.POWER,  # it takes part in every table, and keeps nothing
    key_bytes_max=1 << 16,
    value_bytes_max=1 << 30,
    thread_safe=True,
    persistent=False,
)


class Dictionary(KVDriver, ReadView):
    """Records in a dictionary, their keys in a sorted list.  A view is the store itself."""

    capability = CAPABILITY

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [*map(self._values.get, keys)]

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        low = bisect_left(self._keys, start)
        high = len(self._keys) if stop is None else bisect_left(self._keys, stop)
        if limit is not None:
            high = min(high, low + limit)
        values = self._values
        return ((key, values[key]) for key in self._keys[low:high])

    def commit(self, batch: Batch, durability: Durability) -> None:
        values, keys = self._values, self._keys
        for key, expected in batch.guards.items():
            if values.get(key) != expected:
                raise Conflict(f"harness: the guard on {key.hex()} does not hold")
        for start, stop in batch.range_deletes:
            low, high = bisect_left(keys, start), bisect_left(keys, stop)
            for key in keys[low:high]:
                del values[key]
            del keys[low:high]
        for key in batch.deletes:
            if values.pop(key, None) is not None:
                del keys[bisect_left(keys, key)]
        fresh = [key for key in batch.puts if key not in values]
        values.update(batch.puts)  # type: ignore[arg-type]
        if len(fresh) > 100:
            keys.extend(fresh)
            keys.sort()
        else:
            for key in fresh:
                insort(keys, key)

    def snapshot(self) -> ReadView:
        return self

    def refresh(self) -> None:
        """Nothing to do."""

    def stats(self) -> KVStats:
        return KVStats(keys=len(self._keys))

    def compact(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do: a view may be closed, and the store goes on."""
