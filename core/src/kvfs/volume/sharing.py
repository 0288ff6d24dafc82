"""Writing to a volume that others write to as well, on this machine or on another.

There is no queue: each operation is one batch, guarded by what it found, and in the engine before
it is acknowledged.  So the engine decides between writers, and nothing that was acknowledged can
be lost with a process.

A process that was silent for a lease is taken for dead by the others: its record is gone, and what
it tries next is refused.  Having nothing that could contradict the others, it joins them again.
Only what it had in use without a name is lost: see :meth:`SharedWriting.users`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from threading import Event, Lock, Thread

import attrs

from kvfs.capability import Durability
from kvfs.closing import Closing
from kvfs.errors import AlreadyExists, Closed, Conflict, KVFSError, Unavailable, Unsupported
from kvfs.files import Contents, References
from kvfs.kv import Batch, KVStore
from kvfs.kv.driver import KVDriver
from kvfs.layers.passing import KVLayer
from kvfs.volume import writers
from kvfs.volume.sessions import Sessions
from kvfs.volume.writing import InodeNumbers

log = logging.getLogger(__name__)


class _Admitted(KVLayer):
    """An engine that takes batches while the record of a writer stands."""

    def __init__(self, inner: KVDriver, writing: SharedWriting) -> None:
        super().__init__(inner)
        self._writing = writing
        taken = Batch(guards={**writing.claim.guards})
        most_ops, most_bytes = inner.capability.batch_ops_max, inner.capability.batch_bytes_max
        self.capability = attrs.evolve(
            inner.capability,
            batch_ops_max=None if most_ops is None else most_ops - taken.ops,
            batch_bytes_max=None if most_bytes is None else most_bytes - taken.total_bytes,
        )

    def commit(self, batch: Batch, durability: Durability) -> None:
        claim = self._writing.claim
        guarded = attrs.evolve(batch, guards={**batch.guards, **claim.guards})
        try:
            self.inner.commit(guarded, durability)
        except Conflict:
            self._writing.stay(claim)
            raise


class SharedWriting(Closing):
    """The right to write together with others, and what the threads of this process share.

    Concurrency: any thread may call anything.
    """

    is_shared = True
    is_congested = False
    dirty: Container[int] = frozenset()

    def __init__(
        self,
        state: KVStore,
        sessions: Sessions,
        *,
        durability: Durability,
        contents: Contents,
        mount: str,
    ) -> None:
        """Join those who write.

        :param durability: what every change is committed at; less if the engine cannot.
        :param mount: names what this writes for; a process that takes over from a killed one of
            the same mount goes on with what is in use there.
        :raises AlreadyExists: somebody writes alone, or for the same mount.
        """
        self._state = state
        self._sessions = sessions
        self._mount = mount
        self._lock = Lock()
        self._over = Event()
        self._tidier: Thread | None = None
        self.claim = writers.join(state, sessions, mount)
        """Replaced when it was taken away."""
        self.store = KVStore(_Admitted(state.driver, self), name=state.name)
        self.durability = min(durability, state.capability.durability)
        self.contents = contents
        self.references = References(complete=not self.claim.is_continued)
        self.references.user = self.claim.name
        self.unfollowed: set[int] = set()
        self._numbers = InodeNumbers(self.store, self._commit_numbers)

    def stay(self, claim: writers.Claim) -> None:
        """Something that depends on ``claim`` was refused: if for lack of it, join again.

        :raises Closed: it was given up.
        :raises Unavailable: somebody writes alone by now.
        """
        with self._lock:
            if self._over.is_set():
                raise Closed("the store is closed")
            if self.claim is not claim or self._state.get(claim.key) == claim.record:
                return
            log.warning(
                "this process was silent for so long that others took it for dead: it goes on, but "
                "files that it had in use without a name are gone"
            )
            try:
                self.claim = writers.join(self._state, self._sessions, self._mount)
            except AlreadyExists as error:
                raise Unavailable(
                    f"{self._state.name}: another process writes to the volume alone by now"
                ) from error
            self.references.user = self.claim.name

    def keep_tidy(self, reclaim: Callable[[], object], *, interval_s: float) -> None:
        """See, now and then, to what others leave behind that write to the volume, and die.

        :param reclaim: removes what nobody who is there has in use.
        """

        def tidy() -> None:
            while True:
                try:
                    self.remove_dead()
                    reclaim()
                except KVFSError as error:
                    log.warning("what dead writers have left is not removed yet: %s", error)
                if self._over.wait(interval_s):
                    return

        self._tidier = Thread(target=tidy, name="tidy", daemon=True)
        self._tidier.start()

    def remove_dead(self) -> None:
        """Shut out those who are dead, as far as it is known."""
        try:
            writers.remove_dead(self._state, self._sessions)
        except Conflict:
            return  # Somebody else is doing it, or one is there again.

    def users(self, *, leaving: bool = False) -> Container[bytes]:
        """Who may have files in use that have no name.

        Such a file belongs to whoever removed its last name and had it in use then: that process
        removes it when it is not in use there any more, or another one, when that one is gone.

        :param leaving: not this process any more.
        """
        names = {name for name, _ in writers.joined(self._state)}
        return names - {self.claim.name} if leaving else names

    def new_inode(self, tree: int) -> int:
        """An inode number that no other ever had.

        :raises Exhausted: all are used up.
        """
        return self._numbers.new(tree)

    def _commit_numbers(self, batch: Batch) -> None:
        self.store.commit(batch, min(Durability.PROCESS, self._state.capability.durability))

    def open_tree(self, tree: int) -> None:
        """Let a tree of a tarball be written to: never.

        :raises Unsupported: always.
        """
        raise Unsupported(f"{self._state.name}: a volume of tarballs is not written to by several")

    def sync(self) -> None:
        """Return when everything so far is as durable as the volume promises: it is."""

    def may_have_lost(self, inode: int) -> bool:
        """May a killed process have taken something of it along?  Nothing that was acknowledged."""
        return False

    def close(self) -> None:
        """Leave the writers.  Idempotent."""
        with self._lock:
            if self._over.is_set():
                return
            self._over.set()
        if self._tidier is not None:
            self._tidier.join()
        writers.leave(self._state, self.claim)


__all__ = ["SharedWriting"]
