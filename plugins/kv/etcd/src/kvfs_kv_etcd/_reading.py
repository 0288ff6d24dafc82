"""Reading: at the present, or at a revision, in pages of bounded size.

Every answer of etcd carries the revision it shows, so what begins at the present goes on at that
revision.  A read at a revision may be answered by any member from what it has; one that is behind
says so, and the cluster is asked instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from threading import Lock
from weakref import WeakSet

import attrs

from kvfs_kv_etcd._client import Client
from kvfs_kv_etcd._errors import NotYet, TooLarge
from kvfs_kv_etcd._messages import (
    RANGE,
    TXN,
    Message,
    RangeRequest,
    TxnRequest,
    get_op,
)

Record = tuple[bytes, bytes]

PAGE_BYTES = 1 << 20
"""How large answers to a scan should be; the largest record decides how large they are at most."""
_PAGE_FIRST = 64
_PAGE_MAX = 8192
_GROWTH = 8
_KEYS_PER_BLOCK = 4096


@attrs.define(eq=False)
class Instant:
    """A revision that somebody reads at; while it exists, this process does not compact it."""

    revision: int


def _size_for(page: Message, size: int) -> int:
    """How many records to ask for next, after a page for which ``size`` were asked."""
    page_bytes: int = page.ByteSize()
    fitting = len(page.kvs) * PAGE_BYTES // max(page_bytes, 1)
    return max(1, min(fitting, size * _GROWTH, _PAGE_MAX))


class Reader:
    """Reads the records of one store.  Thread-safe."""

    def __init__(self, client: Client, prefix: bytes, *, keys_per_call: int) -> None:
        """
        :param prefix: what the keys of records begin with.
        :param keys_per_call: the most point reads in one transaction.
        """
        self._client = client
        self.prefix = prefix
        self._keys_per_call = keys_per_call
        self._lock = Lock()
        self._instants: WeakSet[Instant] = WeakSet()

    def _instant(self, answer: Message) -> Instant:
        """What an answer shows."""
        instant = Instant(answer.header.revision)
        with self._lock:
            self._instants.add(instant)
        return instant

    def oldest(self) -> int:
        """The first revision that is read at, or may be from now on."""
        now = self.now()
        with self._lock:
            return min((instant.revision for instant in self._instants), default=now.revision)

    def bounds(self, start: bytes, stop: bytes | None) -> tuple[bytes, bytes]:
        """The keys of etcd between which these records lie."""
        low = self.prefix + start
        if stop is None:
            return low, self.prefix[:-1] + bytes((self.prefix[-1] + 1,))
        return low, self.prefix + stop

    def now(self) -> Instant:
        """The present."""
        answer = self._client.call(RANGE, RangeRequest(key=self.prefix, count_only=True), "read")
        return self._instant(answer)

    def count(self) -> int:
        """How many records there are."""
        low, high = self.bounds(b"", None)
        request = RangeRequest(key=low, range_end=high, count_only=True)
        return int(self._client.call(RANGE, request, "stats").count)

    def get(self, key: bytes, at: Instant | None = None) -> bytes | None:
        """The value of one key."""
        answer = self._range(RangeRequest(key=self.prefix + key), at)
        return answer.kvs[0].value if answer.kvs else None

    def get_many(self, keys: Sequence[bytes], at: Instant | None = None) -> list[bytes | None]:
        """The values of several keys, all of one instant."""
        found: list[bytes | None] = []
        step = self._keys_per_call
        while len(found) < len(keys):
            part = keys[len(found) : len(found) + step]
            try:
                answer = self._gets(part, at)
            except TooLarge:
                if step == 1:
                    raise
                step = max(1, step // 4)
                continue
            at = at or self._instant(answer)
            for response in answer.responses:
                kvs = response.response_range.kvs
                found.append(kvs[0].value if kvs else None)
        return found

    def scan(
        self,
        start: bytes,
        stop: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        at: Instant | None = None,
    ) -> Iterator[Record]:
        """The records of a range, at one instant, which is now if it is not given."""
        low, high = self.bounds(start, stop)
        size = _PAGE_FIRST if limit is None else max(1, min(_PAGE_FIRST, limit))
        if low >= high or limit == 0:
            self._client.check()
            return iter(())
        page, size = self._page(low, high, at, size)
        at = at or self._instant(page)
        if not reverse:
            records = self._forward(page, high, at, size)
        elif page.more:
            records = self._backward(low, high, at)
        else:
            records = reversed(self._records(page))
        return records if limit is None else islice(records, limit)

    def _range(self, request: Message, at: Instant | None) -> Message:
        request.revision = at.revision if at else 0
        request.serializable = at is not None
        try:
            return self._client.call(RANGE, request, "read")
        except NotYet:
            if at is None:
                raise
            request.serializable = False
            return self._client.call(RANGE, request, "read")

    def _gets(self, keys: Sequence[bytes], at: Instant | None) -> Message:
        revision = at.revision if at else 0

        def request(serializable: bool) -> Message:
            return TxnRequest(
                success=[
                    get_op(self.prefix + key, revision=revision, serializable=serializable)
                    for key in keys
                ]
            )

        try:
            return self._client.call(TXN, request(at is not None), "read")
        except NotYet:
            if at is None:
                raise
            return self._client.call(TXN, request(False), "read")

    def _page(self, low: bytes, high: bytes, at: Instant | None, size: int) -> tuple[Message, int]:
        """At most ``size`` records, and how many to ask for next."""
        while True:
            request = RangeRequest(key=low, range_end=high, limit=size)
            try:
                page = self._range(request, at)
            except TooLarge:
                if size == 1:
                    raise
                size = max(1, size // 8)
            else:
                return page, _size_for(page, size)

    def _records(self, page: Message) -> list[Record]:
        skipped = len(self.prefix)
        return [(record.key[skipped:], record.value) for record in page.kvs]

    def _forward(self, page: Message, high: bytes, at: Instant, size: int) -> Iterator[Record]:
        while True:
            yield from self._records(page)
            if not page.more:
                return
            page, size = self._page(page.kvs[-1].key + b"\0", high, at, size)

    def _keys(self, low: bytes, high: bytes, at: Instant) -> list[bytes]:
        request = RangeRequest(key=low, range_end=high, limit=_KEYS_PER_BLOCK, keys_only=True)
        return [record.key for record in self._range(request, at).kvs]

    def _backward(self, low: bytes, high: bytes, at: Instant) -> Iterator[Record]:
        """From the high end.

        etcd can sort the other way, but reads the whole range into its memory for each page of it.
        So the keys are gone through forward first, to know where blocks of them begin.
        """
        starts = [low]
        while len(keys := self._keys(starts[-1], high, at)) == _KEYS_PER_BLOCK:
            starts.append(keys[-1] + b"\0")
        size = _PAGE_FIRST
        for start in reversed(starts):
            keys = self._keys(start, high, at)
            while keys:
                first = keys[-size:][0]
                try:
                    page = self._range(RangeRequest(key=first, range_end=high), at)
                except TooLarge:
                    if len(keys[-size:]) == 1:
                        raise
                    size = max(1, size // 8)
                    continue
                yield from reversed(self._records(page))
                high = first
                del keys[-size:]
                size = _size_for(page, size)
            high = start
