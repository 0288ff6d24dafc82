"""Who may write to a volume: one process alone, or several that all say that they share it.

``V writer`` decides.  It names the one process that writes alone; or it says that the volume is
shared, and then each of those who write has a record ``V writers/ID`` besides.  Whoever joins
changes ``V writer``, too: so of a process that wants the volume alone, and of one that joins at
the same moment, one is refused.

Everything that a writer commits is guarded by its record.  Who is taken for dead has it taken away,
and, if it is not dead, can do no harm from then on.  No ID is used twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import uuid4

import attrs

from kvfs.errors import AlreadyExists, Conflict
from kvfs.files.records import volume_key
from kvfs.kv import Batch, KVStore
from kvfs.tarballs import holders
from kvfs.volume.sessions import Sessions

WRITER = volume_key("writer")
_JOINED = volume_key("writers/")
_SHARED = "shared"


@attrs.frozen
class Claim:
    """A record by whose being there a process may write."""

    key: bytes
    record: bytes
    is_continued: bool = False
    """Did a process of the same mount write before, and is gone?"""

    @property
    def guards(self) -> dict[bytes, bytes]:
        """What every batch is to depend on."""
        return {self.key: self.record}

    @property
    def name(self) -> bytes:
        """Tells one of those who share from every other; none for who is alone."""
        return self.key[len(_JOINED) :]


def _record(mount: str) -> bytes:
    return json.dumps({"holder": holders.myself(), "mount": mount}).encode()


def joined(state: KVStore) -> Iterator[tuple[bytes, bytes]]:
    """(name, record) of all who share the volume, the dead ones too."""
    for key, record in state.scan_prefix(_JOINED):
        yield bytes(key)[len(_JOINED) :], bytes(record)


def _check(state: KVStore, sessions: Sessions, record: bytes) -> None:
    holder = json.loads(record).get("holder", "")
    if holder and sessions.is_alive(holder):
        elsewhere = holders.boot_of(holder) != holders.boot_id()
        raise AlreadyExists(
            f"{state.name}: process {holders.pid_of(holder)} is writing to the volume"
            f"{' on another machine' if elsewhere else ''}: unmount it there first"
        )


def check(state: KVStore, sessions: Sessions, *, alone: bool) -> bytes | None:
    """What ``V writer`` says, if nobody writes who is in the way.

    :param alone: those who share it are.
    :raises AlreadyExists: somebody is.
    """
    record = state.get(WRITER)
    if record is not None and _SHARED not in json.loads(record):
        _check(state, sessions, record)
    elif record is not None and alone:
        for _, other in joined(state):
            _check(state, sessions, other)
    return record


def claim_alone(state: KVStore, sessions: Sessions, mount: str) -> Claim:
    """Become the one process that writes.

    :raises AlreadyExists: somebody else is writing.
    """
    before = check(state, sessions, alone=True)
    earlier = {} if before is None else json.loads(before)
    claim = Claim(WRITER, _record(mount), earlier.get("mount") == mount)
    try:
        remove_dead(state, sessions)
        state.commit(Batch(guards={WRITER: before}).put(WRITER, claim.record))
    except Conflict as error:
        raise AlreadyExists(f"{state.name}: another process begins to write, too") from error
    return claim


def join(state: KVStore, sessions: Sessions, mount: str) -> Claim:
    """Become one of several that write; in the place of a dead process of the same mount, if any.

    :raises AlreadyExists: somebody writes alone, or for the same mount.
    """
    while True:
        before = check(state, sessions, alone=False)
        name, earlier = uuid4().hex.encode(), None
        for other, record in joined(state):
            if json.loads(record)["mount"] == mount:
                _check(state, sessions, record)
                name, earlier = other, record
        claim = Claim(_JOINED + name, _record(mount), earlier is not None)
        mark = json.dumps({_SHARED: uuid4().hex}).encode()
        batch = Batch().guard(WRITER, before).put(WRITER, mark)
        try:
            state.commit(batch.guard(claim.key, earlier).put(claim.key, claim.record))
        except Conflict:
            continue  # Somebody else has joined, or left: see who is there now.
        return claim


def remove_dead(state: KVStore, sessions: Sessions) -> None:
    """Take the records of the dead among those who share away: nothing of theirs comes any more.

    :raises Conflict: one is there again.
    """
    for name, record in joined(state):
        if not sessions.is_alive(json.loads(record)["holder"]):
            key = _JOINED + name
            state.commit(Batch().guard(key, record).delete(key))


def leave(state: KVStore, claim: Claim) -> None:
    """Give the right to write up.  If it was taken away, nothing is done."""
    try:
        state.commit(Batch().guard(claim.key, claim.record).delete(claim.key))
        if claim.key == WRITER:
            return
        mark = state.get(WRITER)
        if mark is not None and _SHARED in json.loads(mark) and not any(joined(state)):
            state.commit(Batch().guard(WRITER, mark).delete(WRITER))
    except Conflict:
        return  # The right was taken away, or somebody has joined.
