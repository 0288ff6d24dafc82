"""Writing to a volume alone: the queue of changes, and new inode numbers.

What is committed depends on the claim to be the one who writes (:mod:`kvfs.volume.writers`): who is
taken for dead, and is not, cannot do harm.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from threading import Lock

import attrs

from kvfs.capability import Durability
from kvfs.closing import Closing
from kvfs.errors import Conflict, Exhausted, Unavailable
from kvfs.files import Contents, References
from kvfs.files.records import (
    EPOCH_BITS,
    EPOCH_MASK,
    NUMBER_BITS,
    NUMBER_MASK,
    NUMBER_MAX,
    OWN_TREE_MAX,
    ROOT_INODE,
    VOLUME_ID,
    inode_of,
    is_own_tree,
    volume_key,
    written_key,
)
from kvfs.kv import Batch, KVStore, prefix_end
from kvfs.layers.writebehind import WriteBehind
from kvfs.tarballs.service import Tarballs
from kvfs.volume import writers
from kvfs.volume.sessions import Sessions

_NEXT = volume_key("next")
_WRITTEN = written_key(VOLUME_ID)[:1]
_NUMBERS_AT_ONCE = 1 << 16
_MADE_AT_ONCE = 1 << 10
"""Of a tarball: there are fewer numbers, and fewer files are made in one."""
_NUMBERS_END = OWN_TREE_MAX + 1 << NUMBER_BITS
_NUMBERS_KEPT = 16
"""The first numbers of each range of 32 bits are not given out: one of them is a root."""


@attrs.define
class _Numbers:
    """The inode numbers of one tree that are to be given out next."""

    key: bytes
    """The record that says up to which they are claimed."""
    end: int
    """No number is as high as this."""
    at_once: int
    """So many are claimed together; what of them is not given out is lost."""
    inode: Callable[[int], int]
    """The inode that has a number."""
    number: int = 0
    claimed: int = 0


class InodeNumbers:
    """Gives out inode numbers that were never given out, by whomever.

    Concurrency: any thread may call anything.

    :param commit: has a batch, which is guarded, be in the engine; it may raise
        :class:`~kvfs.errors.Conflict` if another process can have been first.
    """

    def __init__(self, state: KVStore, commit: Callable[[Batch], None]) -> None:
        self._state = state
        self._commit = commit
        self._lock = Lock()
        self._trees: dict[int, _Numbers] = {}

    def new(self, tree: int) -> int:
        """An inode number of a tree.

        :raises Exhausted: all are used up.
        """
        tree = VOLUME_ID if is_own_tree(tree) else tree
        with self._lock:
            numbers = self._trees.get(tree)
            if numbers is None:
                numbers = self._trees[tree] = self._numbers_of(tree)
            while numbers.number >= numbers.claimed:
                self._claim(numbers)
            number = numbers.number
            numbers.number += 1
            return numbers.inode(number)

    def end_of(self, tree: int) -> int:
        """The inode that is behind all that were ever given out in a tree."""
        numbers = self._numbers_of(tree)
        return numbers.inode(int(self._state.get(numbers.key) or 0))

    @staticmethod
    def _numbers_of(tree: int) -> _Numbers:
        if is_own_tree(tree):
            return _Numbers(_NEXT, _NUMBERS_END, _NUMBERS_AT_ONCE, int)
        tarball = tree >> EPOCH_BITS
        make = partial(inode_of, tarball, epoch=tree & EPOCH_MASK)
        return _Numbers(written_key(tarball), NUMBER_MAX, _MADE_AT_ONCE, make)

    def _claim(self, numbers: _Numbers) -> None:
        # In the engine before the first is given out: the kernel may still know it when this
        # process has been killed, and it must never mean something else.
        raw = self._state.get(numbers.key)
        first = int(raw or ROOT_INODE + 1)
        if first & NUMBER_MASK < _NUMBERS_KEPT:
            first += _NUMBERS_KEPT
        end = (first // numbers.at_once + 1) * numbers.at_once
        if end >= numbers.end:
            raise Exhausted(f"{self._state.name}: no inode numbers are left")
        try:
            self._commit(Batch().guard(numbers.key, raw).put(numbers.key, str(end).encode()))
        except Conflict:
            return  # Another process has claimed these: the next ones, then.
        numbers.number, numbers.claimed = first, end


class Writing(Closing):
    """The right to write alone, and what all threads that do it share.

    Concurrency: any thread may call anything.
    """

    is_shared = False

    def __init__(
        self,
        state: KVStore,
        sessions: Sessions,
        tarballs: Tarballs,
        *,
        durability: Durability,
        interval_s: float,
        contents: Contents,
        mount: str,
        before_first: Callable[[], object] = lambda: None,
    ) -> None:
        """Claim the right to write.

        :param durability: what the volume promises; less if the engine cannot.
        :param interval_s: how long a change may wait for others.
        :param mount: names what this writes for; a process that takes over from a killed one of
            the same mount goes on with what is in use there.
        :param before_first: called before the first change of each tarball; whoever follows its
            contents as they were fetched has to let go of them meanwhile.
        :raises AlreadyExists: somebody else is writing.
        """
        self._state = state
        self._promise = min(durability, state.capability.durability)
        self._claim = writers.claim_alone(state, sessions, mount)
        self.is_continued = self._claim.is_continued
        """Did a process of the same mount write before, and is gone?"""
        self._queue = WriteBehind(
            state.driver,
            durability=self._promise,
            guards=self._claim.guards,
            interval_s=interval_s,
        )
        self.store = KVStore(self._queue, name=state.name)
        self.durability = Durability.MEMORY
        self.contents = contents
        self.references = References(complete=not self.is_continued)
        self._tarballs = tarballs
        self._before_first = before_first
        self._lock = Lock()
        self._numbers = InodeNumbers(state, self._commit_at_once)
        self._old_ends: dict[int, int] = {}
        """By tree, the inodes below which may have lost something with a killed predecessor."""
        self._told_of_loss: set[int] = set()
        self.dirty: set[int] = set()
        """The trees of tarballs that may be written to."""
        self.unfollowed: set[int] = set()
        """Those, and the ones that soon will be."""
        self._take_over()

    def _take_over(self) -> None:
        """Find the tarballs that were written to."""
        for key, _ in self._state.scan(_WRITTEN, prefix_end(_WRITTEN)):
            tarball = int.from_bytes(key[1:], "big")
            record = self._tarballs.catalogue.get(tarball)
            if record is not None:
                self.dirty.add(record.tree(tarball))
        self.unfollowed |= self.dirty
        if self.is_continued and self._promise is not Durability.MEMORY:
            for tree in (*self.dirty, VOLUME_ID):
                self._old_ends[tree] = self._numbers.end_of(tree)

    def open_tree(self, tree: int) -> None:
        """Let a tree of a tarball be written to.

        :raises NotResident: it is not in the store.
        :raises Stale: its tarball is another by now.
        """
        try:
            self._tarballs.open_tree(tree, self._claim.guards)
        except Conflict as error:
            raise self._taken_over() from error
        self.unfollowed.add(tree)
        self._before_first()
        self.dirty.add(tree)

    def new_inode(self, tree: int) -> int:
        """An inode number, of a tree, that no other ever had.

        :raises Exhausted: all are used up.
        """
        return self._numbers.new(tree)

    def _commit_at_once(self, batch: Batch) -> None:
        """Past the queue."""
        batch.guards |= self._claim.guards
        try:
            self._state.commit(batch, min(Durability.PROCESS, self._state.capability.durability))
        except Conflict as error:
            raise self._taken_over() from error

    def _taken_over(self) -> Unavailable:
        return Unavailable(
            f"{self._state.name}: another process has taken over writing to the volume",
            retryable=False,
        )

    def users(self, *, leaving: bool = False) -> Container[bytes]:
        """Who may have files in use that have no name: see :mod:`kvfs.volume.sharing`."""
        return ()

    @property
    def is_congested(self) -> bool:
        """Would a change have to wait until the engine has taken others?"""
        return self._queue.is_congested

    def sync(self) -> None:
        """Return when everything so far is as durable as the volume promises."""
        if self._promise is not Durability.MEMORY:
            self.store.commit(Batch(), self._promise)

    def may_have_lost(self, inode: int) -> bool:
        """May a killed process of the same mount have taken something of it along?  Says so once.

        What that one had acknowledged, and not committed, is gone, and programs that still have
        the file open do not know.  An fsync must not tell them that it is there.
        """
        with self._lock:
            tree = inode >> NUMBER_BITS
            end = self._old_ends.get(VOLUME_ID if is_own_tree(tree) else tree, 0)
            if inode >= end or inode in self._told_of_loss:
                return False
            self._told_of_loss.add(inode)
            return True

    def close(self) -> None:
        """Commit what is queued, and give the right up.  Idempotent.

        :raises KVFSError: something of it could not be committed, and is lost.
        """
        try:
            self._queue.finish()
        finally:
            writers.leave(self._state, self._claim)


__all__ = ["InodeNumbers", "Writing"]
