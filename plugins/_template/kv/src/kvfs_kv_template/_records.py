"""The records in memory: a table that is never changed once made."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import attrs

from kvfs.errors import Conflict
from kvfs.kv import Batch


@attrs.frozen
class Records:
    """Records, and their keys in order.  A commit makes another table; views keep theirs."""

    values: dict[bytes, bytes] = attrs.field(factory=dict)
    keys: list[bytes] = attrs.field(factory=list)

    @classmethod
    def replayed(cls, batches: Iterable[Batch]) -> Records:
        """The table after all these batches."""
        values: dict[bytes, bytes] = {}
        for batch in batches:
            for start, stop in batch.range_deletes:
                for key in [key for key in values if start <= key < stop]:
                    del values[key]
            for key in batch.deletes:
                values.pop(key, None)
            values.update((key, bytes(value)) for key, value in batch.puts.items())
        return cls(values, sorted(values))

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of ``keys``."""
        return [self.values.get(key) for key in keys]

    def scan(
        self, start: bytes, stop: bytes | None, *, reverse: bool, limit: int | None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Records in order."""
        low = bisect_left(self.keys, start)
        high = len(self.keys) if stop is None else bisect_left(self.keys, stop)
        chosen = range(high - 1, low - 1, -1) if reverse else range(low, high)
        return (
            (key, self.values[key]) for key in map(self.keys.__getitem__, islice(chosen, limit))
        )

    def check(self, batch: Batch) -> None:
        """Raise :class:`~kvfs.errors.Conflict` if a guard does not hold."""
        for key, expected in batch.guards.items():
            if self.values.get(key) != expected:
                raise Conflict(f"template: the guard on {key.hex()} does not hold")

    def applied(self, batch: Batch) -> Records:
        """The table after the batch; its guards are not looked at."""
        values = self.values.copy()
        for start, stop in batch.range_deletes:
            for key in self.keys[bisect_left(self.keys, start) : bisect_left(self.keys, stop)]:
                values.pop(key, None)
        for key in batch.deletes:
            values.pop(key, None)
        values.update((key, bytes(value)) for key, value in batch.puts.items())
        return Records(values, sorted(values))
