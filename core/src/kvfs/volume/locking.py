"""Locks that hold among all mounts of a volume, on all machines: taken, tested and given up.

The state store has one record for each file that is locked.  Each change of it is one batch, which
is guarded by the record as it was read: of two that want the same, one is refused and looks again.

A lock is its mount's, for which the process stands that made the mount, for as long as that lives
(:meth:`.sessions.Sessions.is_alive`): a worker that is killed takes no lock along.  The locks of a
mount that is dead are dropped by whoever finds them in the way.

Concurrency: any thread may call anything.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Container, Iterator
from uuid import uuid4

from kvfs.capability import Durability
from kvfs.errors import Conflict, Corrupt, Exhausted
from kvfs.files.locks import LAST_BYTE, Lock, LockTable, Owner, Space
from kvfs.files.records import inode_of_locks, locks_key
from kvfs.kv import Batch, KVStore
from kvfs.tarballs import holders
from kvfs.volume import demands
from kvfs.volume.sessions import Sessions

log = logging.getLogger(__name__)

_LOCKS = locks_key(0)[:1]
_MARK = "#"
_PAUSE_MAX_S = 0.02


class TooManyLocks(Exhausted):
    """The record of a file's locks would be larger than an engine has to take."""

    errno = errno.ENOLCK


def name_mount() -> str:
    """A name for a mount that this process makes, and that is there as long as the process is."""
    return f"{holders.myself()}{_MARK}{uuid4().hex}"


def _holder_of(mount: str) -> str:
    return mount.partition(_MARK)[0]


def _without(table: LockTable, mounts: Container[str]) -> LockTable:
    return table.keeping(lambda lock: lock.owner.mount not in mounts)


class Locking:
    """The locks of a volume, for one mount.

    :param mount: its name, of :func:`name_mount`; another process may have made it.
    :param alone: does no other process ask for locks for this mount?
    """

    def __init__(
        self,
        state: KVStore,
        sessions: Sessions,
        *,
        mount: str,
        durability: Durability,
        alone: bool = True,
    ) -> None:
        self._state = state
        self._sessions = sessions
        self._mount = mount
        self._durability = min(durability, state.capability.durability)
        self._alone = alone
        self._locked: dict[int, bool] | None = None
        """Files that this mount may have locks on, and whether it surely has."""
        sessions.vouch_for(_holder_of(mount))

    def resume(self) -> None:
        """Find the locks that an earlier process of the mount took; before :meth:`may_hold`."""
        locked = {inode for inode, table in self._sweep() if any(map(self.is_here, table.locks))}
        if self._alone:
            self._locked = dict.fromkeys(locked, True)

    def owner(self, number: int) -> Owner:
        """A program of this mount."""
        return Owner(self._mount, number)

    def is_here(self, lock: Lock) -> bool:
        """Was a lock taken through this mount?"""
        return lock.owner.mount == self._mount

    def may_hold(self, inode: int) -> bool:
        """May a program of this mount have a lock on a file?  Asks nobody."""
        return self._locked is None or inode in self._locked

    # -- asking and changing -----------------------------------------------------------------------

    def test(self, inode: int, wanted: Lock) -> Lock | None:
        """A lock that is in the way of ``wanted``; ``None``: it could be taken now."""
        return self._conflict(self._table(inode)[1], wanted)[1]

    def acquire(self, inode: int, *wanted: Lock) -> int | None:
        """Take the first of several locks of this mount that nothing is in the way of, if any.

        One that is held already is taken again; so a call that failed can be made anew, whatever
        has become of it.

        :returns: which one; ``None``: something is in the way of each.
        :raises TooManyLocks: there are too many on this file.
        """
        taken: list[int] = []

        def take(table: LockTable) -> LockTable:
            taken.clear()
            for index, lock in enumerate(wanted):
                table, blocking = self._conflict(table, lock)
                if blocking is None:
                    taken.append(index)
                    return table.with_lock(lock)
            return table

        if self._locked is not None:
            self._locked.setdefault(inode, False)
        # Who was silent for long may be thought dead, and its locks dropped by somebody who read
        # the record before it was heard of again: so it is written once more after that.
        self._sessions.renew_if_due()
        self._change(inode, take)
        while taken and self._sessions.renew_if_due():
            self._change(inode, take, always=True)
        return taken[0] if taken else None

    def release(
        self, inode: int, space: Space, number: int, start: int = 0, last: int = LAST_BYTE
    ) -> None:
        """Give up bytes ``start`` to ``last``, as far as a program of this mount holds them."""
        owner = self.owner(number)
        self._give_up(inode, lambda table: table.without(space, owner, start, last))

    def release_handle(self, inode: int, handle: int) -> None:
        """Give up what was taken through an open file of this mount, which nobody has any more."""
        self._give_up(
            inode,
            lambda table: table.keeping(lambda it: it.handle != handle or not self.is_here(it)),
        )

    def release_all(self) -> None:
        """Give up every lock of this mount: it has ended."""
        for inode, table in self._sweep():
            if any(map(self.is_here, table.locks)):
                self._change(inode, lambda table: table.keeping(lambda it: not self.is_here(it)))

    def _sweep(self) -> Iterator[tuple[int, LockTable]]:
        """All files that are locked; drops what the dead have left."""
        for key, raw in list(self._state.scan_prefix(_LOCKS)):
            inode = inode_of_locks(key)
            try:
                table = LockTable.unpack(raw)
            except Corrupt as error:
                log.error("inode %#x cannot be locked: %s", inode, error)
                continue
            if self._dead(table):
                # They are judged once more, after the record that is to go was read.
                self._change(inode, lambda table: _without(table, self._dead(table)))
            yield inode, table

    def _dead(self, table: LockTable) -> set[str]:
        return {mount for mount in table.mounts() if not self._is_alive(mount)}

    def _is_alive(self, mount: str) -> bool:
        return mount == self._mount or self._sessions.is_alive(_holder_of(mount))

    def _give_up(self, inode: int, change: Callable[[LockTable], LockTable]) -> None:
        def see(table: LockTable) -> LockTable:
            had = self._locked is not None and self._locked.get(inode)
            if had and not any(map(self.is_here, table.locks)):
                log.warning(
                    "the locks of this mount on inode %#x were lost: it was silent for longer "
                    "than its lease",
                    inode,
                )
            return change(table)

        self._change(inode, see)

    # -- the record --------------------------------------------------------------------------------

    def _conflict(self, table: LockTable, wanted: Lock) -> tuple[LockTable, Lock | None]:
        """What is in the way, and the table without the dead that were."""
        while (blocking := table.conflict(wanted)) is not None:
            if self._is_alive(blocking.owner.mount):
                break
            table = _without(table, {blocking.owner.mount})
        return table, blocking

    def _table(self, inode: int) -> tuple[bytes | None, LockTable]:
        raw = self._state.get(locks_key(inode))
        return None if raw is None else bytes(raw), LockTable.unpack(raw)

    def _change(
        self, inode: int, change: Callable[[LockTable], LockTable], *, always: bool = False
    ) -> None:
        """Have a file's locks be others; done anew for as long as somebody else is first.

        :param always: write the record even if they are the same.
        """
        pause_s = 0.0
        while True:
            before, table = self._table(inode)
            changed = change(table)
            if changed == table and not always:
                break
            try:
                self._commit(inode, before, changed)
                table = changed
                break
            except Conflict:
                time.sleep(random.uniform(0, pause_s))
                pause_s = min(2 * pause_s + 0.001, _PAUSE_MAX_S)
        if self._locked is None:
            return
        if any(map(self.is_here, table.locks)):
            self._locked[inode] = True
        else:
            self._locked.pop(inode, None)

    def _commit(self, inode: int, before: bytes | None, table: LockTable) -> None:
        key, packed = locks_key(inode), table.pack(stamp=random.getrandbits(53))
        batch = Batch().guard(key, before)
        if packed is None:
            batch.delete(key)
        elif len(packed) > demands.VALUE_BYTES:
            raise TooManyLocks(
                f"{self._state.name}: inode {inode:#x} has {len(table.locks)} locks, and there is "
                "room for no more: give some up first"
            )
        else:
            batch.put(key, packed)
        self._state.commit(batch, self._durability)


__all__ = ["Locking", "TooManyLocks", "name_mount"]
