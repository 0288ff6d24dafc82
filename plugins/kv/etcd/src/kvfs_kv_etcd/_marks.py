"""Commits whose outcome is known, although answers get lost.

When a connection breaks, or a server is killed, a commit under way may have been applied, or not,
or may yet be: it can wait in a queue.  etcd also answers "database space exceeded" to a transaction
that it has just applied, if the quota was found exceeded at that moment (``quotaApplierV3`` in
etcd's apply.go).

So each commit carries a *mark*: a key of this writer alone.  The transaction requires that the mark
is what the last commit left, and changes it.  After a lost answer, a second transaction changes the
mark under the same condition:

- it succeeds: the commit was not applied, and never can be, since its condition no longer holds.
  It may be made again.
- it fails, and the mark is that of the commit: it was applied.

Only if this gets no answer either, for as long as ``timeout``, is the outcome unknown.

A mark hangs on a lease, so that it goes when its writer does.  Threads that commit at the same time
have a mark each.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from threading import Lock

import attrs

from kvfs.errors import Conflict, Exhausted, KVFSError, NotFound, Unavailable
from kvfs_kv_etcd._batch import Transaction
from kvfs_kv_etcd._client import Client, Lost
from kvfs_kv_etcd._messages import (
    LEASE_GRANT,
    LEASE_REVOKE,
    RANGE,
    TXN,
    LeaseGrantRequest,
    LeaseRevokeRequest,
    Message,
    RangeRequest,
    TxnRequest,
    equals,
    get_op,
    put_op,
)

_LEASE_S = 24 * 3600
_AGE_MAX_S = _LEASE_S / 2
"""A mark is not used beyond this: its lease must not end in the middle of a commit."""
_VANISHED_MAX = 3
_CLOSE_S = 0.5


class _Outcome(Enum):
    APPLIED = "applied"
    NOT_APPLIED = "not applied"
    MARK_IS_GONE = "not applied, and the mark is not what it was"


@attrs.define
class _Mark:
    """A key that one commit at a time writes."""

    key: bytes
    lease: int
    born_s: float
    value: bytes | None = None
    """What it holds, ``None``: it is absent."""
    is_known: bool = True
    """Is this what it holds?  If not, it is left to its lease."""
    _count: int = 0

    def next(self) -> bytes:
        """A value that it never had."""
        self._count += 1
        return self._count.to_bytes(8, "big")

    def found(self, value: bytes | None) -> None:
        """This is what it holds, and nothing is under way that would change it."""
        self.value, self.is_known = value, True

    def holds(self) -> Message:
        """The condition that nobody has changed it."""
        return equals(self.key, self.value)

    def put(self, value: bytes) -> Message:
        return put_op(self.key, value, lease=self.lease)


def _read(kvs: Message) -> bytes | None:
    return bytes(kvs[0].value) if kvs else None


class Marks:
    """Applies transactions, each once.  Thread-safe."""

    def __init__(self, client: Client, prefix: bytes, *, ops_max: int) -> None:
        """
        :param prefix: what all keys of the store begin with.
        :param ops_max: ``--max-txn-ops`` of the servers.
        """
        self._client = client
        self._prefix = prefix + b"m"
        self._ops_max = ops_max
        self._lock = Lock()
        self._free: list[_Mark] = []

    def commit(self, transaction: Transaction) -> None:
        """Apply the transaction, or not.

        :raises Conflict: a guard does not hold; nothing was applied.
        :raises Exhausted: no room; nothing was applied.
        :raises Unavailable: says itself whether it may have been applied.
        """
        try:
            self._commit(transaction)
        except Exhausted:
            # With its quota used up etcd takes deletes, but no put: not even that of a mark.
            if transaction.has_puts:
                raise
            self._commit_unmarked(transaction)

    def _commit(self, transaction: Transaction) -> None:
        deadline = self._client.deadline()
        vanished = 0
        while True:
            with self._mark(deadline) as mark:
                outcome = self._try(mark, transaction, deadline)
            if outcome is _Outcome.APPLIED:
                return
            vanished += outcome is _Outcome.MARK_IS_GONE
            if vanished == _VANISHED_MAX or time.monotonic() >= deadline:
                raise Unavailable(
                    f"{self._client.name}: commit: nothing was applied; the connection broke, or "
                    "somebody removes what belongs to the store: look at etcd, then try again",
                    unapplied=True,
                )

    def _commit_unmarked(self, transaction: Transaction) -> None:
        request = TxnRequest(
            compare=transaction.guards, success=transaction.success([], ops_max=self._ops_max)
        )
        try:
            answer = self._client.send(TXN, request, "commit", deadline=self._client.deadline())
        except Lost as lost:
            raise lost.error from lost
        if not answer.succeeded:
            raise self._conflict(transaction)

    def _try(self, mark: _Mark, transaction: Transaction, deadline: float) -> _Outcome:
        value = mark.next()
        mark.is_known = False
        request = TxnRequest(
            compare=[mark.holds(), *transaction.guards],
            success=transaction.success([mark.put(value)], ops_max=self._ops_max),
            failure=[get_op(mark.key)],
        )
        try:
            answer = self._client.send(TXN, request, "commit", deadline=deadline)
        except Lost as lost:
            return self._settle(mark, value, lost)
        except NotFound:  # the lease
            return _Outcome.MARK_IS_GONE
        except Exhausted:
            mark.found(self._look(mark))
            if mark.value == value:
                return _Outcome.APPLIED
            raise
        except KVFSError:  # nothing was done
            mark.found(mark.value)
            raise
        if answer.succeeded:
            mark.found(value)
            return _Outcome.APPLIED
        if _read(answer.responses[0].response_range.kvs) != mark.value:
            return _Outcome.MARK_IS_GONE
        mark.found(mark.value)
        raise self._conflict(transaction)

    def _look(self, mark: _Mark) -> bytes | None:
        request = RangeRequest(key=mark.key)
        return _read(self._client.call(RANGE, request, "looking for a commit").kvs)

    def _settle(self, mark: _Mark, value: bytes, lost: Lost) -> _Outcome:
        """Find out what became of the commit that was to leave ``value``, and keep it so."""
        fence = mark.next()
        request = TxnRequest(
            compare=[mark.holds()], success=[mark.put(fence)], failure=[get_op(mark.key)]
        )
        try:
            answer = self._client.call(TXN, request, "looking for a lost commit")
        except KVFSError as error:
            raise self._unknown(lost) from error
        found = fence if answer.succeeded else _read(answer.responses[0].response_range.kvs)
        if found not in (value, fence):
            raise self._unknown(lost) from lost
        mark.found(found)
        return _Outcome.APPLIED if found == value else _Outcome.NOT_APPLIED

    def _unknown(self, lost: Lost) -> Unavailable:
        return Unavailable(
            f"{lost.error}; it is not known whether the batch was applied: read what it changes"
        )

    def _conflict(self, transaction: Transaction) -> Conflict:
        skipped = len(self._prefix)
        keys = ", ".join(bytes(guard.key)[skipped:].hex() for guard in transaction.guards[:4])
        more = "..." if len(transaction.guards) > 4 else ""
        return Conflict(f"{self._client.name}: a guard does not hold (of those on {keys}{more})")

    @contextmanager
    def _mark(self, deadline: float) -> Iterator[_Mark]:
        """A mark for one commit; kept for the next one."""
        mark = self._take(deadline)
        try:
            yield mark
        finally:
            if mark.is_known:
                with self._lock:
                    self._free.append(mark)

    def _take(self, deadline: float) -> _Mark:
        oldest_s = time.monotonic() - _AGE_MAX_S
        with self._lock:
            while self._free:
                mark = self._free.pop()
                if mark.born_s > oldest_s:
                    return mark
        request = LeaseGrantRequest(TTL=_LEASE_S)
        try:
            lease = self._client.call(LEASE_GRANT, request, "commit", deadline=deadline).ID
        except Unavailable as error:
            raise Unavailable(f"{error}; nothing was applied", unapplied=True) from error
        return _Mark(self._prefix + lease.to_bytes(8, "big"), lease, time.monotonic())

    def close(self) -> None:
        """Let etcd forget the marks, if it can be reached; it will by itself in the end."""
        with self._lock:
            marks, self._free = self._free, []
        deadline = time.monotonic() + _CLOSE_S
        with suppress(KVFSError, Lost):
            for mark in marks:
                request = LeaseRevokeRequest(ID=mark.lease)
                self._client.send(LEASE_REVOKE, request, "closing", deadline=deadline)
