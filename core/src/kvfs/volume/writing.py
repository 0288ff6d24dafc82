"""Writing to a volume: who may, the queue of changes, new inode numbers.

One process at a time writes to the directories that belong to no tarball.  It claims that in the
state store, and everything it commits depends on the claim: who is taken for dead, and is not,
cannot do harm.
"""

from __future__ import annotations

import json
from threading import Lock

from kvfs.capability import Durability
from kvfs.closing import Closing
from kvfs.errors import AlreadyExists, Conflict, Exhausted, Unavailable
from kvfs.files import Contents, References
from kvfs.files.records import NUMBER_BITS, NUMBER_MASK, OWN_TREE_MAX, ROOT_INODE, volume_key
from kvfs.kv import Batch, KVStore
from kvfs.layers.writebehind import WriteBehind
from kvfs.tarballs import holders
from kvfs.volume.sessions import Sessions

_WRITER = volume_key("writer")
_NEXT = volume_key("next")
_NUMBERS_AT_ONCE = 1 << 16
_NUMBERS_END = OWN_TREE_MAX + 1 << NUMBER_BITS
_NUMBERS_KEPT = 16
"""The first numbers of each range of 32 bits are not given out: one of them is a root."""


def check_writer(state: KVStore, sessions: Sessions) -> bytes | None:
    """The record of who wrote last, if that is over.

    :raises AlreadyExists: somebody is writing.
    """
    record = state.get(_WRITER)
    holder = "" if record is None else json.loads(record)["holder"]
    if holder and sessions.is_alive(holder):
        raise AlreadyExists(
            f"{state.name}: process {holders.pid_of(holder)} is writing to the volume: unmount it "
            "there first"
        )
    return record


class Writing(Closing):
    """The right to write, and what all threads that do it share.

    Concurrency: any thread may call anything.
    """

    def __init__(
        self,
        state: KVStore,
        sessions: Sessions,
        *,
        durability: Durability,
        interval_s: float,
        contents: Contents,
        mount: str,
    ) -> None:
        """Claim the right to write.

        :param durability: what the volume promises; less if the engine cannot.
        :param interval_s: how long a change may wait for others.
        :param mount: names what this writes for; a process that takes over from a killed one of
            the same mount goes on with what is in use there.
        :raises AlreadyExists: somebody else is writing.
        """
        self._state = state
        self._promise = min(durability, state.capability.durability)
        before = check_writer(state, sessions)
        earlier = {} if before is None else json.loads(before)
        self.is_continued = earlier.get("mount") == mount
        """Did a process of the same mount write before, and is gone?"""
        self._claim = json.dumps({"holder": holders.myself(), "mount": mount}).encode()
        try:
            state.commit(Batch().guard(_WRITER, before).put(_WRITER, self._claim))
        except Conflict as error:
            raise AlreadyExists(f"{state.name}: another process begins to write, too") from error
        self._queue = WriteBehind(
            state.driver,
            durability=self._promise,
            guards={_WRITER: self._claim},
            interval_s=interval_s,
        )
        self.store = KVStore(self._queue, name=state.name)
        self.durability = Durability.MEMORY
        self.contents = contents
        self.references = References()
        self._lock = Lock()
        self._number = self._numbers_end = 0
        self._old_end = 0
        """The inodes with lower numbers may have lost something with a killed predecessor."""
        self._told_of_loss: set[int] = set()
        if self.is_continued and self._promise is not Durability.MEMORY:
            self._old_end = int(state.get(_NEXT) or 0)

    def new_number(self) -> int:
        """An inode number that no other ever had.

        :raises Exhausted: all are used up.
        """
        with self._lock:
            if self._number >= self._numbers_end:
                self._claim_numbers()
            number = self._number
            self._number += 1
            return number

    def _claim_numbers(self) -> None:
        # In the engine, past the queue, before the first is given out: the kernel may still know it
        # when this process has been killed, and it must never mean something else.
        raw = self._state.get(_NEXT)
        first = int(raw or ROOT_INODE + 1)
        if first & NUMBER_MASK < _NUMBERS_KEPT:
            first += _NUMBERS_KEPT
        end = (first // _NUMBERS_AT_ONCE + 1) * _NUMBERS_AT_ONCE
        if end >= _NUMBERS_END:
            raise Exhausted(f"{self._state.name}: the volume has no inode numbers left")
        batch = Batch().guard(_WRITER, self._claim).guard(_NEXT, raw)
        batch.put(_NEXT, str(end).encode())
        try:
            self._state.commit(batch, min(Durability.PROCESS, self._state.capability.durability))
        except Conflict as error:
            raise Unavailable(
                f"{self._state.name}: another process has taken over writing to the volume",
                retryable=False,
            ) from error
        self._number, self._numbers_end = first, end

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
            if inode >= self._old_end or inode in self._told_of_loss:
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
            if self._state.get(_WRITER) == self._claim:
                self._state.commit(Batch().guard(_WRITER, self._claim).delete(_WRITER))


__all__ = ["Writing"]
