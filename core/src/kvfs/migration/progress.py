"""What a migration came to."""

from __future__ import annotations

import attrs
import xxhash

from kvfs.kv import Buffer


@attrs.define
class Tally:
    """What the records of one store come to, in the order of their keys."""

    records: int = 0
    bytes: int = 0
    """Of keys and values."""
    longest_key: int = 0
    largest_value: int = 0
    _hash: xxhash.xxh3_128 = attrs.field(factory=xxhash.xxh3_128, repr=False, eq=False)

    def add(self, key: Buffer, value: Buffer) -> None:
        """One more."""
        self.records += 1
        self.bytes += len(key) + len(value)
        self.longest_key = max(self.longest_key, len(key))
        self.largest_value = max(self.largest_value, len(value))
        # The lengths too: else a byte could move from a key to its value.
        self._hash.update(b"%d %d " % (len(key), len(value)))
        self._hash.update(key)
        self._hash.update(value)

    @property
    def digest(self) -> str:
        """xxh3-128 over all of it, in hexadecimal."""
        return self._hash.hexdigest()


@attrs.frozen
class Report:
    """What was moved: by store, as it was verified on the other side."""

    volume: str
    """The volume's uuid."""
    stores: dict[str, Tally]
    written: int
    """Records that were not there yet."""

    @property
    def records(self) -> int:
        """Of all stores."""
        return sum(tally.records for tally in self.stores.values())

    @property
    def bytes(self) -> int:
        """Keys and values of all stores."""
        return sum(tally.bytes for tally in self.stores.values())
