"""A batch as one LMDB transaction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

import lmdb

from kvfs.errors import Conflict
from kvfs.kv import Batch
from kvfs_kv_lmdb._resident import PUTS_PER_CHECK


def apply(
    txn: lmdb.Transaction[bytes],
    batch: Batch,
    *,
    check: Callable[[], None],
) -> None:
    """Guards, range deletes, deletes, puts, in this order.  If it raises, abort ``txn``.

    :param check: called after some changes each; bounds the resident memory.
    :raises Conflict: a guard does not hold.
    """
    for key, expected in batch.guards.items():
        if txn.get(key) != expected:
            raise Conflict(f"the guard on {key.hex()} does not hold")
    for start, stop in batch.range_deletes:
        _delete_range(txn, start, stop, check)
    for key in sorted(batch.deletes):
        txn.delete(key)
    if batch.puts:
        _put(txn, batch, check)


def _delete_range(
    txn: lmdb.Transaction[bytes], start: bytes, stop: bytes, check: Callable[[], None]
) -> None:
    with txn.cursor() as cursor:
        if not cursor.set_range(start):
            return
        count = 0
        # Deleting moves on to the next record; behind the last one the key is empty.
        while (key := cursor.key()) and key < stop:
            cursor.delete()
            count += 1
            if count % PUTS_PER_CHECK == 0:
                check()


def _put(txn: lmdb.Transaction[bytes], batch: Batch, check: Callable[[], None]) -> None:
    # In key order neighbouring records fall on the same pages, and pages are written in order.
    keys = sorted(batch.puts)
    puts = batch.puts
    with txn.cursor() as cursor:
        # What lies behind the last record is appended: no search, and pages are filled to the end.
        appended = bisect_right(keys, cursor.key()) if cursor.last() else 0
        for low, high, append in ((0, appended, False), (appended, len(keys), True)):
            for start in range(low, high, PUTS_PER_CHECK):
                part = keys[start : min(start + PUTS_PER_CHECK, high)]
                cursor.putmulti([(key, puts[key]) for key in part], append=append)
                check()
