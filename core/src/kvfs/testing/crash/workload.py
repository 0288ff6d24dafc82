"""What the writers of the crash runner write: a sequence of batches that anybody can compute again.

Batch ``n`` follows from the seed, the writer and ``n`` alone, and so do the records that a writer
has in the store after ``n`` batches.  Nothing but the number has to be remembered, outside the
store, to say what must be in it.

Keys of the store: ``total``, how many batches there were of all writers; ``step/<writer>``, how
many of one; ``data/<writer>/...``, what those left behind.
"""

from __future__ import annotations

import random

import attrs

from kvfs.capability import KVCapability
from kvfs.kv.driver import Batch

EPOCH = 64
"""Every so many batches one deletes all that the writer has, so that few have to be replayed."""
KEYS = 200
PUTS_MAX = 6
DELETES_MAX = 3
VALUE_BYTES_MIN = 10
VALUE_BYTES_MAX = 64 << 10
_ROOM_BYTES = 4 << 10
"""Of a batch, for guards, counters, keys and ranges."""

TOTAL = b"total"


def step_key(writer: int) -> bytes:
    """Where the number of a writer's batches is kept."""
    return b"step/%d" % writer


def data_prefix(writer: int) -> bytes:
    """What all records of a writer begin with."""
    return b"data/%d/" % writer


@attrs.frozen
class Workload:
    """The batches of all writers.

    :param seed: of everything.
    :param value_bytes_max: no value is larger.
    :param batch_bytes_max: no batch is larger.
    """

    seed: int
    value_bytes_max: int = VALUE_BYTES_MAX
    batch_bytes_max: int = PUTS_MAX * VALUE_BYTES_MAX + _ROOM_BYTES

    @classmethod
    def fitting(cls, seed: int, capability: KVCapability) -> Workload:
        """Batches that an engine takes."""
        values = min(VALUE_BYTES_MAX, capability.value_bytes_max)
        most = PUTS_MAX * values + _ROOM_BYTES
        return cls(seed, values, min(most, capability.batch_bytes_max or most))

    def changes(self, writer: int, step: int) -> Batch:
        """The ``step``-th batch of a writer, from 1, without guards and counters."""
        rng = random.Random(f"{self.seed}/{writer}/{step}")
        prefix, batch = data_prefix(writer), Batch()
        if step % EPOCH == 1:
            batch.delete_range(prefix, prefix + b"\xff")
        elif rng.random() < 0.25:
            low = rng.randrange(KEYS)
            high = rng.randrange(low, min(low + KEYS // 4, KEYS))
            batch.delete_range(_key(prefix, low), _key(prefix, high))
        for _ in range(rng.randint(0, DELETES_MAX)):
            batch.delete(_key(prefix, rng.randrange(KEYS)))
        left = self.batch_bytes_max - _ROOM_BYTES
        for _ in range(rng.randint(1, PUTS_MAX)):
            # As many of some bytes as of some tens of thousands.
            span = self.value_bytes_max / VALUE_BYTES_MIN
            size = min(int(VALUE_BYTES_MIN * span ** rng.random()), left)
            left -= size
            batch.put(_key(prefix, rng.randrange(KEYS)), rng.randbytes(size))
        return batch

    def records(self, writer: int, step: int) -> dict[bytes, bytes]:
        """What a writer has in the store after ``step`` batches, counters left out."""
        records: dict[bytes, bytes] = {}
        for number in range(step - (step - 1) % EPOCH, step + 1) if step else ():
            batch = self.changes(writer, number)
            for start, stop in batch.range_deletes:
                for key in [key for key in records if start <= key < stop]:
                    del records[key]
            for key in batch.deletes:
                records.pop(key, None)
            records |= {key: bytes(value) for key, value in batch.puts.items()}
        return records


def _key(prefix: bytes, number: int) -> bytes:
    # Of 3 to 40 bytes behind the prefix; the order is that of the numbers.
    return prefix + b"%03d" % number + b"." * (number * 7 % 38)


__all__ = ["EPOCH", "TOTAL", "Workload", "data_prefix", "step_key"]
