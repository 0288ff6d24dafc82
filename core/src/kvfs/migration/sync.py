"""Making the stores of one volume equal to another's: copying, and taking a copy up again.

There is one way of copying: what is missing is put, what differs is replaced, what is too much is
deleted.  On an empty destination that copies everything; on one where a copy was broken off it
verifies what is there and goes on behind it, whatever happened to either side in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from kvfs.capability import Durability
from kvfs.errors import Corrupt, Invalid
from kvfs.kv import Batch, KVStore
from kvfs.metrics import Progress
from kvfs.migration.ends import (
    STATE,
    Destination,
    Record,
    Source,
    destination_of,
    is_copied,
    source_of,
)
from kvfs.migration.progress import Report, Tally
from kvfs.volume import VolumeConfig
from kvfs.volume import superblock as superblocks

_BATCH_OPS = 20_000


def copy(
    source: VolumeConfig,
    destination: VolumeConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Copy a volume's records, of one instant, to another engine, and compare the two.

    :param resume: go on with a copy of the same volume that was broken off.
    :param force: replace what is at the destination.
    :raises Unsupported: a record is too large for the engine; nothing was written.
    :raises AlreadyExists: the destination is not empty.
    :raises Corrupt: the copy is not what was written; it stays marked as incomplete.
    """
    if source.kv == destination.kv:
        raise Invalid("source and destination are the same engine in the same place")
    progress = progress or Progress()
    with source_of(source) as volume:
        return write(volume, destination, resume=resume, force=force, progress=progress)


def write(
    volume: Source,
    config: VolumeConfig,
    *,
    resume: bool,
    force: bool,
    progress: Progress,
) -> Report:
    """Make a volume at ``config`` out of the records of another; as :func:`copy`."""
    with destination_of(config, volume.superblock, resume=resume, force=force) as target:
        _check_sizes(volume, target, progress)
        target.begin()
        written = 0
        for name in volume.stores:
            progress.begin(f"copying {name}", volume.counts[name])
            written += _Sync(target, name, progress).run(volume.records(name))
        stores = {}
        for name in volume.stores:
            progress.begin(f"comparing {name}", volume.counts[name])
            stores[name] = _compare(volume.records(name), target.store(name), progress)
        target.complete()
    return Report(volume.superblock.uuid, stores, written)


def _check_sizes(volume: Source, target: Destination, progress: Progress) -> None:
    """Look at every record, unless it is known that the engine takes them all.

    :raises Unsupported: there is one that it does not take.
    """
    for name in volume.stores:
        if not target.takes(name, *volume.longest[name]):
            progress.begin(f"checking {name}", volume.counts[name])
            for key, value in volume.records(name):
                target.check(name, key, value)
                progress.saw(len(key) + len(value))


class _Sync:
    """Makes one store equal to a sequence of records."""

    def __init__(self, target: Destination, name: str, progress: Progress) -> None:
        self._target = target
        self._name = name
        self._store = target.store(name)
        self._progress = progress
        capability = self._store.capability
        self._ops_max = min(_BATCH_OPS, capability.batch_ops_max or _BATCH_OPS)
        best = capability.commit_bytes_best
        self._bytes_max = min(best, capability.batch_bytes_max or best)
        self._batch = Batch()
        self._weight = 0

    def run(self, records: Iterator[Record]) -> int:
        """How many records had to be put."""
        with self._store.snapshot() as view:
            # A view that nothing is read from would only hold back the engine.
            there = view.scan(b"", None) if self._target.may_hold_records else iter(())
            if not self._target.may_hold_records:
                view.close()
            return self._merge(records, there)

    def _merge(self, records: Iterator[Record], there: Iterator[Record]) -> int:
        written = 0
        have = next(there, None)
        for key, value in records:
            own = bytes(key)
            while have is not None and bytes(have[0]) < own:
                self._delete(bytes(have[0]))
                have = next(there, None)
            is_same = False
            if have is not None and bytes(have[0]) == own:
                is_same = bytes(have[1]) == bytes(value)
                have = next(there, None)
            if not is_same:
                self._target.check(self._name, own, value)
                self._room_for(len(own) + len(value))
                self._batch.put(own, value)
                written += 1
            self._progress.saw(len(key) + len(value))
        while have is not None:
            self._delete(bytes(have[0]))
            have = next(there, None)
        self._flush()
        return written

    def _delete(self, key: bytes) -> None:
        # The mark lies among the records of the state store.
        if key != superblocks.KEY:
            self._room_for(len(key))
            self._batch.delete(key)

    def _room_for(self, size: int) -> None:
        if self._batch.ops >= self._ops_max or self._weight + size > self._bytes_max:
            self._flush()
        self._weight += size

    def _flush(self) -> None:
        if self._batch.ops:
            level = self._target.config.volume.durability
            wanted = level if self._name == STATE else Durability.PROCESS
            self._store.commit(self._batch, min(wanted, self._store.capability.durability))
            self._batch.clear()
            self._weight = 0


def _compare(records: Iterator[Record], store: KVStore, progress: Progress) -> Tally:
    """Read both sides once more.

    :raises Corrupt: they differ.
    """
    tally = Tally()
    with store.snapshot() as view:
        there = (record for record in view.scan(b"", None) if is_copied(record[0]))
        for ours, theirs in zip_longest(records, there):
            if ours is None or theirs is None or _bytes(ours) != _bytes(theirs):
                key = bytes((ours or theirs)[0])
                raise Corrupt(
                    f"{store.name}: the record {key.hex()} is not that of the source: either was "
                    "changed meanwhile, or the engine is damaged; try again with --resume"
                )
            tally.add(*theirs)
            progress.saw(len(theirs[0]) + len(theirs[1]))
    return tally


def _bytes(record: Record) -> tuple[bytes, bytes]:
    return bytes(record[0]), bytes(record[1])
