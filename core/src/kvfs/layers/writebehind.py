"""Group commit: batches are acknowledged at once and committed together, in their order.

A commit at durability ``MEMORY`` returns when its batch is queued; readers of this driver see it
from then on.  A thread commits what has gathered as one batch of the engine: after an interval,
when it has become much, or when somebody waits.  A commit at a higher durability is a barrier: it
returns when everything before it, and itself, is in the engine at that level.  So what a crash
loses is the end of one order, never something before it.

The queue is seen by this process alone.  So only one process may write to the store through this
layer, and ``guards`` make sure of it: every group carries them, and once one does not hold, nothing
is committed any more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from threading import Condition, Thread
from typing import cast

import attrs

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Closed, Conflict, KVFSError, Unavailable, Unsupported
from kvfs.kv.driver import Batch, Buffer, KVDriver, KVStats, ReadView, Watch
from kvfs.layers.passing import KVLayer, ViewLayer

log = logging.getLogger(__name__)

INTERVAL_S = 0.05
"""How long an acknowledged batch waits for company: what a crash may lose."""
GROUP_BYTES = 4 << 20
"""A group of more bytes is committed at once."""
GROUP_KEYS = 8192
QUEUE_BYTES = 64 << 20
"""Who writes more than this ahead of the engine waits."""
RANGES_MAX = 64
"""Every read of a key goes through the ranges that a group deletes."""
RETRY_S = 1.0
"""After a failure the queue is tried again so often."""

_NOT_HERE = object()
_State = tuple[dict[bytes, bytes | None], tuple[tuple[bytes, bytes], ...]]


class _Group:
    """Batches that are committed as one.  Only the last group of the queue still changes."""

    __slots__ = ("begun_s", "durability", "ops", "size", "state")

    def __init__(self) -> None:
        self.state: _State = ({}, ())
        """What each key holds afterwards (``None``: nothing), and the ranges that are deleted
        before that.  In one, since others read while it changes."""
        self.begun_s = time.monotonic()
        self.durability = Durability.MEMORY
        self.size = 0
        self.ops = 0

    @property
    def is_awaited(self) -> bool:
        """Does somebody wait until it is committed?"""
        return self.durability is not Durability.MEMORY

    def due_s(self, interval_s: float) -> float:
        """When it is to be committed at the latest."""
        return 0.0 if self.is_awaited or self.size >= GROUP_BYTES else self.begun_s + interval_s

    def level(self, least: Durability) -> Durability:
        """What it is committed at."""
        return max(self.durability, least)

    def has_room(self, batch: Batch, size: int, limits: KVCapability) -> bool:
        """May a batch of ``size`` bytes join?"""
        ops = self.ops + batch.ops
        return (
            self.size < GROUP_BYTES
            and ops <= min(GROUP_KEYS, limits.batch_ops_max or GROUP_KEYS)
            and (limits.batch_bytes_max is None or self.size + size <= limits.batch_bytes_max)
            and len(self.state[1]) + len(batch.range_deletes) <= RANGES_MAX
        )

    def add(self, batch: Batch, size: int) -> None:
        """Take a batch in, whose guards hold.  Who reads a key now sees it before or after."""
        fresh: dict[bytes, bytes | None] = dict.fromkeys(batch.deletes)
        fresh.update((key, bytes(value)) for key, value in batch.puts.items())
        changes, ranges = self.state
        if gone := tuple(batch.range_deletes):
            kept = {
                key: value
                for key, value in changes.items()
                if not any(start <= key < stop for start, stop in gone)
            }
            self.state = (kept | fresh, ranges + gone)
        else:
            changes.update(fresh)  # in one step, whoever reads
        self.size += size
        self.ops += batch.ops - len(batch.guards)

    def find(self, key: bytes) -> object:
        """What it makes of a key: bytes, ``None``, or ``_NOT_HERE`` if it leaves it alone."""
        changes, ranges = self.state
        value = changes.get(key, _NOT_HERE)
        if value is _NOT_HERE and ranges:
            for start, stop in ranges:
                if start <= key < stop:
                    return None
        return value

    def as_batch(self, guards: Mapping[bytes, bytes | None]) -> Batch:
        changes, ranges = self.state
        return Batch(
            guards=dict(guards),
            range_deletes=[*ranges],
            deletes={key for key, value in changes.items() if value is None},
            puts={key: value for key, value in changes.items() if value is not None},
        )


_Groups = tuple[_Group, ...]


def _find(groups: _Groups, key: bytes) -> object:
    for group in reversed(groups):
        value = group.find(key)
        if value is not _NOT_HERE:
            return value
    return _NOT_HERE


def _overlay(
    groups: _Groups, start: bytes, stop: bytes | None
) -> tuple[dict[bytes, bytes | None], list[tuple[bytes, bytes]]]:
    """What the queue makes of a range of keys: the changes, and the ranges deleted below."""
    changes: dict[bytes, bytes | None] = {}
    ranges: list[tuple[bytes, bytes]] = []
    for group in groups:
        ours, gone = group.state
        for low, high in gone:
            ranges.append((low, high))
            for key in [key for key in changes if low <= key < high]:
                del changes[key]
        # A copy is made in one step, whoever writes meanwhile.
        for key, value in ours.copy().items():
            if start <= key and (stop is None or key < stop):
                changes[key] = value
    return changes, ranges


def _merged(
    inner: Iterator[tuple[Buffer, Buffer]],
    changes: dict[bytes, bytes | None],
    ranges: list[tuple[bytes, bytes]],
    reverse: bool,
) -> Iterator[tuple[Buffer, Buffer]]:
    """The records of ``inner`` as the queue leaves them."""
    pending = sorted(changes, reverse=not reverse)  # the next one is last
    for found, value in inner:
        key = bytes(found)  # the engine's memory has no order
        while pending and (pending[-1] > key if reverse else pending[-1] < key):
            ours = pending.pop()
            if (queued := changes[ours]) is not None:
                yield ours, queued
        if pending and pending[-1] == key:
            ours = pending.pop()
            if (queued := changes[ours]) is not None:
                yield ours, queued
        elif not any(low <= key < high for low, high in ranges):
            yield key, value
    while pending:
        ours = pending.pop()
        if (queued := changes[ours]) is not None:
            yield ours, queued


class _View(ViewLayer):
    """A view of the engine, and the groups that were queued when it was taken."""

    def __init__(self, driver: WriteBehind) -> None:
        # First the queue: a group that gets into the engine in between is in both.
        self._driver = driver
        self._groups = driver.groups
        super().__init__(driver.inner.snapshot())
        self._closed = False

    def get(self, key: bytes) -> Buffer | None:
        if self._groups:
            value = _find(self._groups, key)
            if value is not _NOT_HERE:
                self._check()
                return cast(bytes | None, value)
        return self.inner.get(key)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[Buffer | None]:
        return _get_many(self._groups, self.inner, keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Buffer, Buffer]]:
        return _scan(self._groups, self.inner, start, stop, reverse, limit)

    def refresh(self) -> None:
        self._check()
        self._groups = self._driver.groups
        self.inner.refresh()

    def close(self) -> None:
        self._closed = True
        self._groups = ()
        self.inner.close()

    def _check(self) -> None:
        if self._closed:
            raise Closed("this view is closed")


def _get_many(
    groups: _Groups, inner: KVDriver | ReadView, keys: Sequence[bytes]
) -> Sequence[Buffer | None]:
    if not groups:
        return inner.get_many(keys)
    found = [_find(groups, key) for key in keys]
    missing = [key for key, value in zip(keys, found, strict=True) if value is _NOT_HERE]
    rest = iter(inner.get_many(missing) if missing else ())
    return [next(rest) if value is _NOT_HERE else cast(bytes | None, value) for value in found]


def _scan(
    groups: _Groups,
    inner: KVDriver | ReadView,
    start: bytes,
    stop: bytes | None,
    reverse: bool,
    limit: int | None,
) -> Iterator[tuple[Buffer, Buffer]]:
    changes, ranges = _overlay(groups, start, stop)
    if not changes and not ranges:
        return inner.scan(start, stop, reverse=reverse, limit=limit)
    # Each change hides one record of the engine at most; a range may hide any number.
    enough = None if limit is None or ranges else limit + len(changes)
    found = inner.scan(start, stop, reverse=reverse, limit=enough)
    return islice(_merged(found, changes, ranges, reverse), limit)


class WriteBehind(KVLayer):
    """An engine whose commits are gathered; see the module.  Closing it commits what is queued.

    :param durability: the level that groups are committed at, at least.
    :param guards: facts that every group depends on.
    :param interval_s: how long a batch may wait for others.
    """

    def __init__(
        self,
        inner: KVDriver,
        *,
        durability: Durability,
        guards: Mapping[bytes, bytes | None] | None = None,
        interval_s: float = INTERVAL_S,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        super().__init__(inner)
        self._guards = dict(guards or {})
        taken = Batch(guards=self._guards)
        most_ops, most_bytes = inner.capability.batch_ops_max, inner.capability.batch_bytes_max
        # What is queued shows at once, so a view is of no one instant; and it shows only here.
        self.capability = attrs.evolve(
            inner.capability,
            snapshot=False,
            multi_process_read=False,
            multi_process_write=False,
            fork_safe=False,
            watch=False,
            batch_ops_max=None if most_ops is None else most_ops - taken.ops,
            batch_bytes_max=None if most_bytes is None else most_bytes - taken.total_bytes,
        )
        self.groups: _Groups = ()
        """The queue, oldest first.  Replaced, never changed."""
        self._filling: _Group | None = None
        self._durability = durability
        self._interval_s = interval_s
        self._queue_bytes = queue_bytes
        self._told = Condition()
        self._due_s: float | None = None
        self._queued = 0
        self._failure: KVFSError | None = None
        self._is_final = False
        """Is the failure one after which nothing is committed any more?"""
        self._tries = 0
        self._over = False
        self._thread = Thread(target=self._run, name="group commit", daemon=True)
        self._thread.start()

    @property
    def is_congested(self) -> bool:
        """Has so much gathered that the next commit may have to wait?"""
        return self._queued > self._queue_bytes // 2

    # -- reading -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        value = _find(self.groups, key)
        return self.inner.get(key) if value is _NOT_HERE else cast(bytes | None, value)

    def get_many(self, keys: Sequence[bytes]) -> Sequence[bytes | None]:
        return cast(Sequence[bytes | None], _get_many(self.groups, self.inner, keys))

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        records = _scan(self.groups, self.inner, start, stop, reverse, limit)
        return cast(Iterator[tuple[bytes, bytes]], records)

    def snapshot(self) -> ReadView:
        return _View(self)

    def watch(self, start: bytes, stop: bytes | None) -> Watch:
        raise Unsupported("watch: a change is told of when it is in the engine, which is too late")

    def stats(self) -> KVStats:
        """Of the engine; what is queued is counted in, but not how many keys it adds."""
        stats = self.inner.stats()
        used = None if stats.bytes_used is None else stats.bytes_used + self._queued
        return attrs.evolve(stats, keys=None, bytes_used=used)

    # -- writing -----------------------------------------------------------------------------------

    def commit(self, batch: Batch, durability: Durability) -> None:
        size = batch.total_bytes
        with self._told:
            self._await_room(size)
            for key, expected in batch.guards.items():
                if self.get(key) != expected:
                    raise Conflict(f"the guard on {key.hex()} does not hold")
            group = self._group_for(batch, size)
            group.add(batch, size)
            self._queued += size
            if durability is Durability.MEMORY:
                self._commit_within(self._interval_s if group.size < GROUP_BYTES else 0)
                return
            group.durability = max(group.durability, durability)
            self._commit_within(0)
            self._await(group)

    def _group_for(self, batch: Batch, size: int) -> _Group:
        """The group that a batch joins."""
        group, limits = self._filling, self.capability
        if group is None or not group.has_room(batch, size, limits):
            if group is not None:
                self._commit_within(0)
            group = self._filling = _Group()
            self.groups += (group,)
        return group

    def _commit_within(self, seconds: float) -> None:
        due_s = time.monotonic() + seconds
        if self._due_s is None or due_s < self._due_s:
            self._due_s = due_s
            self._told.notify_all()

    def _await_room(self, size: int) -> None:
        """Wait until the queue takes so much more.

        :raises KVFSError: the engine does not take what is queued.
        """
        while not self._over and self._queued and self._queued + size > self._queue_bytes:
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            self._told.wait()
        if self._is_final and self._failure is not None:
            raise self._failure.with_traceback(None)
        if self._over:
            raise Closed("the store is closed")

    def _await(self, group: _Group) -> None:
        """Wait until a group is committed.

        :raises KVFSError: it cannot be, now; it stays in the queue.
        """
        tries = self._tries
        while group in self.groups:
            if self._failure is not None and self._tries > tries:
                raise self._failure.with_traceback(None)
            self._told.wait()

    def _run(self) -> None:
        while (group := self._next()) is not None:
            try:
                self.inner.commit(group.as_batch(self._guards), group.level(self._durability))
            except Conflict as error:
                # No Conflict for those who wait: what they would do anew is not what failed.
                lost = Unavailable(
                    "another process has taken over writing to the store: what was queued here is "
                    "lost, and nothing more is taken",
                    retryable=False,
                )
                lost.__cause__ = error
                self._fail(lost, final=True)
            except KVFSError as error:
                self._fail(error)
            except BaseException as error:
                log.exception("the engine failed in an unknown way: nothing more is committed")
                failed = Unavailable(f"the engine failed: {error!r}", retryable=False)
                failed.__cause__ = error
                self._fail(failed, final=True)
            else:
                self._succeed(group)

    def _next(self) -> _Group | None:
        """Wait until a group is to be committed; ``None``: nothing more comes."""
        with self._told:
            while True:
                if self._is_final or (self._over and (not self.groups or self._failure)):
                    return None
                if self.groups and (self._over or self._due_s is not None):
                    left_s = 0.0 if self._over else (self._due_s or 0.0) - time.monotonic()
                    if left_s <= 0:
                        break
                    self._told.wait(left_s)
                else:
                    self._told.wait()
            group = self.groups[0]
            if group is self._filling:
                self._filling = None
            return group

    def _succeed(self, group: _Group) -> None:
        with self._told:
            self.groups = self.groups[1:]
            self._queued -= group.size
            self._failure = None
            self._tries += 1
            if len(self.groups) > 1:
                self._due_s = 0.0
            else:
                self._due_s = self.groups[0].due_s(self._interval_s) if self.groups else None
            self._told.notify_all()

    def _fail(self, error: KVFSError, *, final: bool = False) -> None:
        with self._told:
            if self._failure is None:
                log.error("what was written does not reach the engine: %s", error)
            self._failure = error
            self._is_final = final
            self._tries += 1
            self._due_s = time.monotonic() + RETRY_S
            self._told.notify_all()

    def finish(self) -> None:
        """Commit what is queued, and take nothing more; the engine stays open.  Idempotent.

        :raises KVFSError: something of it could not be committed, and is lost.
        """
        with self._told:
            if not self._over:
                self._over = True
                if not self._is_final:
                    self._failure = None  # tried once more
                self._told.notify_all()
        self._thread.join()
        if self.groups and self._failure is not None:
            raise self._failure.with_traceback(None)

    def close(self) -> None:
        """Commit what is queued, and close the engine.

        :raises KVFSError: something of it could not be committed, and is lost.
        """
        try:
            self.finish()
        finally:
            self.inner.close()


__all__ = ["WriteBehind"]
