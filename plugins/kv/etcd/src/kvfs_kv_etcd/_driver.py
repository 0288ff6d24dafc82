"""The etcd engine: :class:`EtcdDriver`, one store in a cluster that many hosts share.

Threads: any.  A commit is one transaction, sequenced by the cluster, so it needs no lock here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from threading import Lock

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Closed, Conflict, Corrupt, Invalid, Stale
from kvfs.kv import Batch, KVDriver, KVStats
from kvfs_kv_etcd._batch import transaction
from kvfs_kv_etcd._client import Client
from kvfs_kv_etcd._marks import Marks
from kvfs_kv_etcd._messages import (
    COMPACT,
    DELETE_RANGE,
    RANGE,
    STATUS,
    TXN,
    CompactionRequest,
    DeleteRangeRequest,
    RangeRequest,
    StatusRequest,
    TxnRequest,
    equals,
    get_op,
    put_op,
)
from kvfs_kv_etcd._reading import Reader, Record
from kvfs_kv_etcd._settings import EtcdSettings, capability_of, prefix_of
from kvfs_kv_etcd._view import EtcdView
from kvfs_kv_etcd._watch import EtcdWatch

FORMAT = 1
_HEADER = json.dumps({"engine": "kvfs-kv-etcd", "format": FORMAT}).encode()
_REMOVED_AT_ONCE = 10_000
"""Keys that one request removes at most: while it runs, the cluster serves nobody."""


class EtcdDriver(KVDriver):
    """One store.  Thread-safe."""

    def __init__(
        self, client: Client, prefix: bytes, *, capability: KVCapability, max_txn_ops: int
    ) -> None:
        """
        :param prefix: what all keys of the store begin with.
        :param max_txn_ops: ``--max-txn-ops`` of the servers.
        """
        self.capability = capability
        self._client = client
        self._prefix = prefix + b"r"
        self._marks = Marks(client, prefix, ops_max=max_txn_ops)
        self._reader = Reader(client, self._prefix, keys_per_call=max_txn_ops)
        self._lock = Lock()
        self._watches: set[EtcdWatch] = set()
        self._is_closed = False

    def get(self, key: bytes) -> bytes | None:
        return self._reader.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return self._reader.get_many(keys)

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Record]:
        return self._reader.scan(start, stop, reverse=reverse, limit=limit)

    def commit(self, batch: Batch, durability: Durability) -> None:
        """As :meth:`KVDriver.commit`; always on the disks of a majority of the members.

        A lost answer is looked into: :class:`~kvfs.errors.Unavailable` says that the outcome is not
        known only if no member answers for a further ``timeout``.
        """
        self._client.check()
        work = transaction(batch, self._prefix)
        if work.has_changes:
            self._marks.commit(work)
        elif work.guards:
            answer = self._client.call(TXN, TxnRequest(compare=work.guards), "commit")
            if not answer.succeeded:
                raise Conflict(f"{self._client.name}: a guard does not hold")

    def snapshot(self) -> EtcdView:
        return EtcdView(self._reader, name=self._client.name)

    def watch(self, start: bytes, stop: bytes | None) -> EtcdWatch:
        with self._lock:
            if self._is_closed:
                raise Closed(f"{self._client.name}: the store is closed")
            watch = EtcdWatch(self._client, self._reader, start, stop, forget=self._forget)
            self._watches.add(watch)
        return watch

    def _forget(self, watch: EtcdWatch) -> None:
        with self._lock:
            self._watches.discard(watch)

    def stats(self) -> KVStats:
        """As :meth:`KVDriver.stats`.  What is on disk is that of all stores of the server."""
        status = self._client.call(STATUS, StatusRequest(), "stats")
        return KVStats(keys=self._reader.count(), bytes_on_disk=status.dbSize)

    def compact(self) -> None:
        """Let etcd forget the history up to now, or to the oldest view that this process has open.

        Views of other processes, and of other stores in the same etcd, may be of an instant that is
        gone then: they raise :class:`~kvfs.errors.Stale` until they are refreshed.  The space is
        used again by etcd; only ``etcdctl defrag`` gives it back to the file system.
        """
        try:
            request = CompactionRequest(revision=self._reader.oldest())
            self._client.call(COMPACT, request, "compact")
        except Stale:
            pass  # somebody has compacted more than that

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            watches = [*self._watches]
        for watch in watches:
            watch.close()
        self._marks.close()
        self._client.close()


def _name(store: str) -> str:
    return f"etcd ({store})"


def _check_header(client: Client, prefix: bytes) -> None:
    """Make the header, or see that it is one of ours."""
    key = prefix + b"h"
    # Read first: an etcd without space takes no put, not even one that would not be made.
    found = client.call(RANGE, RangeRequest(key=key), "opening").kvs
    if not found:
        request = TxnRequest(
            compare=[equals(key, None)], success=[put_op(key, _HEADER)], failure=[get_op(key)]
        )
        answer = client.call(TXN, request, "opening")
        found = [] if answer.succeeded else answer.responses[0].response_range.kvs
    if not found:
        return
    try:
        version = json.loads(found[0].value)["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{client.name}: {key.decode()} is not the header of a store") from error
    if version != FORMAT:
        raise Invalid(
            f"{client.name}: the store is of format {version}, this driver writes {FORMAT}: "
            "use the version of kvfs-kv-etcd that made it, or another namespace"
        )


def open_store(settings: EtcdSettings, *, store: str, durability: Durability) -> EtcdDriver:
    """Open the store, or make it.

    :param durability: has no meaning here, as etcd syncs every commit.
    :raises Unavailable: no endpoint can be reached.
    :raises PermissionDenied: user, password or the user's rights are wrong.
    :raises Invalid: a setting makes no sense, or the store is of another version.
    """
    prefix = prefix_of(settings, store)
    client = Client(settings, name=_name(store))
    try:
        _check_header(client, prefix)
    except BaseException:
        client.close()
        raise
    return EtcdDriver(
        client,
        prefix,
        capability=capability_of(settings.max_txn_ops, settings.max_request_bytes),
        max_txn_ops=settings.max_txn_ops,
    )


def remove_store(settings: EtcdSettings, *, store: str) -> None:
    """Remove all keys of the store, some thousands at a time; no error if there are none.

    The header goes last, so that what was interrupted can be seen and done again.
    """
    prefix = prefix_of(settings, store)
    with closing(Client(settings, name=_name(store))) as client:
        # m: marks, r: records.
        for low, high in ((prefix + b"m", prefix + b"s"), (prefix, prefix + b"\xff")):
            more = True
            while more:
                request = RangeRequest(
                    key=low, range_end=high, limit=_REMOVED_AT_ONCE, keys_only=True
                )
                page = client.call(RANGE, request, "removing")
                more = page.more
                end = page.kvs[-1].key + b"\0" if more else high
                client.call(DELETE_RANGE, DeleteRangeRequest(key=low, range_end=end), "removing")
