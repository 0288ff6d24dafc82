"""A batch as one transaction of etcd.

A transaction may not touch a key twice: a put within a range that it deletes is refused.  So
ranges are merged, and split around the keys that are put: ``[a, z)`` with a put of ``k`` becomes
``[a, k)`` and ``[k\\0, z)``.  That may nearly double the number of operations.  Where they are too
many for one list, they go into two nested transactions, one for the keys and one for the ranges:
etcd counts the operations of each, and of what encloses them.  So any batch of at most
``max_txn_ops - 2`` operations fits (``checkTxnRequest`` in etcd's v3rpc/key.go).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import attrs

from kvfs.kv import Batch
from kvfs_kv_etcd._messages import Message, RequestOp, TxnRequest, delete_op, equals, put_op


@attrs.frozen
class Transaction:
    """Conditions and operations, without those that prove what became of it."""

    guards: list[Message]
    keys: list[Message]
    """Puts and deletes of single keys."""
    ranges: list[Message]
    has_puts: bool

    @property
    def has_changes(self) -> bool:
        """Does it do anything?"""
        return bool(self.keys or self.ranges)

    def success(self, more: list[Message], *, ops_max: int) -> list[Message]:
        """The operations, and ``more``, in at most ``ops_max`` of them."""
        keys = [*self.keys, *more]
        if len(keys) + len(self.ranges) <= ops_max:
            return keys + self.ranges
        return [
            RequestOp(request_txn=TxnRequest(success=keys)),
            RequestOp(request_txn=TxnRequest(success=self.ranges)),
        ]


def merged(ranges: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same keys in ranges that are apart from each other, in order."""
    apart: list[tuple[bytes, bytes]] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if apart and start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(stop, apart[-1][1]))
        else:
            apart.append((start, stop))
    return apart


def around(ranges: list[tuple[bytes, bytes]], keys: list[bytes]) -> list[tuple[bytes, bytes]]:
    """What is left of the ranges without the keys; both in order."""
    left = []
    for start, stop in ranges:
        low = start
        for key in keys[bisect_left(keys, start) : bisect_left(keys, stop)]:
            if low < key:
                left.append((low, key))
            low = key + b"\0"
        if low < stop:
            left.append((low, stop))
    return left


def _within(ranges: list[tuple[bytes, bytes]], starts: list[bytes], key: bytes) -> bool:
    index = bisect_right(starts, key) - 1
    return index >= 0 and key < ranges[index][1]


def transaction(batch: Batch, prefix: bytes) -> Transaction:
    """The batch, with its keys below ``prefix``."""
    ranges = merged(batch.range_deletes)
    starts = [start for start, _ in ranges]
    keys = [
        delete_op(prefix + key) for key in sorted(batch.deletes) if not _within(ranges, starts, key)
    ]
    keys += [put_op(prefix + key, bytes(value)) for key, value in batch.puts.items()]
    return Transaction(
        guards=[equals(prefix + key, value) for key, value in batch.guards.items()],
        keys=keys,
        ranges=[
            delete_op(prefix + start, prefix + stop)
            for start, stop in around(ranges, sorted(batch.puts))
        ],
        has_puts=bool(batch.puts),
    )
