"""The locks on one file: who holds which bytes of it, and how.  A value: no I/O, no waiting.

There are two spaces of locks, which know nothing of each other: those of flock(2), of the whole
file, and those of fcntl(2), of ranges of bytes.  In each an owner is never in its own way: what it
locks takes the place of what it held of the same bytes, and what then touches becomes one lock.

A table is stored as JSON: ``{"stamp": n, "mounts": [...], "locks": [[space, mount, number, start,
last, exclusive, pid, handle], ...]}``, with the place of the mount among ``mounts``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import StrEnum
from typing import Self

import attrs

from kvfs.errors import Corrupt
from kvfs.kv import Buffer

LAST_BYTE = (1 << 63) - 1
"""Where a lock ends that goes on to the end of the file, wherever that will be."""


class Space(StrEnum):
    """Locks that know of each other."""

    FLOCK = "flock"
    POSIX = "posix"


@attrs.frozen
class Owner:
    """Whose a lock is."""

    mount: str
    """The mount that it was taken through: names one of all there are."""
    number: int
    """Who, among the programs there; the kernel's number."""


@attrs.frozen(kw_only=True)
class Lock:
    """Bytes ``start`` to ``last`` of a file, both included, for one owner."""

    space: Space
    owner: Owner
    start: int = 0
    last: int = LAST_BYTE
    exclusive: bool
    pid: int = 0
    """The process that took it, as its mount numbers processes."""
    handle: int = 0
    """The open file that it was taken through; of its mount."""

    def is_of(self, other: Lock) -> bool:
        """Is it the same owner's, in the same space?"""
        return self.space is other.space and self.owner == other.owner

    def overlaps(self, start: int, last: int) -> bool:
        """Has it one of these bytes?"""
        return self.start <= last and start <= self.last

    def is_in_the_way_of(self, wanted: Lock) -> bool:
        """Do the two exclude each other?"""
        return (
            self.space is wanted.space
            and self.owner != wanted.owner
            and (self.exclusive or wanted.exclusive)
            and self.overlaps(wanted.start, wanted.last)
        )


def _place(lock: Lock) -> tuple[str, str, int, int]:
    return lock.space, lock.owner.mount, lock.owner.number, lock.start


@attrs.frozen
class LockTable:
    """All locks on a file; none is in the way of another."""

    locks: tuple[Lock, ...] = ()

    def conflict(self, wanted: Lock) -> Lock | None:
        """A lock that is in the way of another one, the first by its bytes; ``None``: none is."""
        found = [lock for lock in self.locks if lock.is_in_the_way_of(wanted)]
        return min(found, key=lambda lock: lock.start, default=None)

    def with_lock(self, wanted: Lock) -> Self:
        """After a lock was taken that nothing is in the way of."""
        rest = self.without(wanted.space, wanted.owner, wanted.start, wanted.last).locks
        apart = []
        start, last = wanted.start, wanted.last
        for lock in rest:
            touches = lock.overlaps(wanted.start - 1, wanted.last + 1)
            if touches and lock.is_of(wanted) and lock.exclusive == wanted.exclusive:
                start, last = min(start, lock.start), max(last, lock.last)
            else:
                apart.append(lock)
        return self._of([*apart, attrs.evolve(wanted, start=start, last=last)])

    def without(self, space: Space, owner: Owner, start: int = 0, last: int = LAST_BYTE) -> Self:
        """After an owner gave up bytes ``start`` to ``last``, as far as it held them."""
        kept = []
        for lock in self.locks:
            if lock.space is not space or lock.owner != owner or not lock.overlaps(start, last):
                kept.append(lock)
                continue
            if lock.start < start:
                kept.append(attrs.evolve(lock, last=start - 1))
            if last < lock.last:
                kept.append(attrs.evolve(lock, start=last + 1))
        return self._of(kept)

    def keeping(self, keeps: Callable[[Lock], bool]) -> Self:
        """With those alone that ``keeps`` says yes to."""
        return self._of(list(filter(keeps, self.locks)))

    def mounts(self) -> set[str]:
        """Those that the locks were taken through."""
        return {lock.owner.mount for lock in self.locks}

    @classmethod
    def _of(cls, locks: list[Lock]) -> Self:
        # In one order, so that the same locks are the same bytes.
        return cls(tuple(sorted(locks, key=_place)))

    # -- as bytes ----------------------------------------------------------------------------------

    def pack(self, *, stamp: int) -> bytes | None:
        """As it is stored; ``None``: there are no locks, and so no record.

        :param stamp: tells this record from every earlier one of the same locks.
        """
        if not self.locks:
            return None
        mounts = sorted(self.mounts())
        rows = [
            [
                lock.space,
                mounts.index(lock.owner.mount),
                lock.owner.number,
                lock.start,
                lock.last,
                lock.exclusive,
                lock.pid,
                lock.handle,
            ]
            for lock in self.locks
        ]
        stored = {"stamp": stamp, "mounts": mounts, "locks": rows}
        return json.dumps(stored, separators=(",", ":")).encode()

    @classmethod
    def unpack(cls, raw: Buffer | None) -> Self:
        """The opposite of :meth:`pack`.

        :raises Corrupt: these are no locks.
        """
        if raw is None:
            return cls()
        try:
            stored = json.loads(bytes(raw))
            mounts = stored["mounts"]
            return cls(
                tuple(
                    Lock(
                        space=Space(space),
                        owner=Owner(mounts[mount], number),
                        start=start,
                        last=last,
                        exclusive=exclusive,
                        pid=pid,
                        handle=handle,
                    )
                    for space, mount, number, start, last, exclusive, pid, handle in stored["locks"]
                )
            )
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Corrupt(f"a record of locks is damaged: {error!r}") from error


__all__ = ["LAST_BYTE", "Lock", "LockTable", "Owner", "Space"]
