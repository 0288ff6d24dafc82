"""Objects read in ranges, several at a time, delivered in order.

What a driver gives is a :data:`Fetch`: the bytes of one range in chunks, as they arrive.  A
range whose answer breaks off is asked for again from where it broke off, so nothing comes twice.

A fetch answers from one version of the object, the one that was there when it was made: it names
the version in its request (``If-Match``), or compares that of each answer, and raises
:class:`~kvfs.errors.Stale` if there is another one by now.  So bytes of two versions never meet.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from contextlib import closing
from functools import partial
from threading import Condition, Event
from typing import TYPE_CHECKING, Protocol

import attrs

from kvfs.backing.remote.checksums import Checksum
from kvfs.backing.remote.retries import wait_after
from kvfs.errors import Closed, Corrupt, Invalid, KVFSError, Unavailable
from kvfs.patience import Patience

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Chunks(Protocol):
    """What arrives of a range, in order; a generator will do.  It may end or raise early."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None:
        """End the request; it may have been read to its end, or not at all."""


Fetch = Callable[[int, int], Chunks]
"""``fetch(start, stop)``: the bytes ``[start, stop)`` in chunks, as they arrive, each at most a few
hundred KiB if the driver has the choice.  Its time-outs are its own."""

FIRST_BYTES = 256 << 10
"""The first piece of a reader: small, so that a look at a header costs little more than that."""


@attrs.frozen(kw_only=True)
class Pieces:
    """How a reader divides an object.  Holds at most ``ahead * size`` bytes.

    :param size: bytes of a piece, once the reader has gone some way.
    :param ahead: how many pieces are asked for, or wait to be read, at a time.
    """

    size: int = 4 << 20
    ahead: int = 4

    def __attrs_post_init__(self) -> None:
        if self.size < 1 or self.ahead < 1:
            raise Invalid("a reader needs pieces of at least one byte, and at least one at a time")


def resumed(
    fetch: Fetch, start: int, stop: int, *, patience: Patience, what: str
) -> Generator[bytes, None, None]:
    """The bytes ``[start, stop)``, all of them, in chunks.  Patience begins anew with each chunk.

    :raises Corrupt: the server sent more than was asked for.
    :raises KVFSError: what ``fetch`` raises, when patience is at its end.
    """
    attempts = patience.begin()
    while start < stop:
        try:
            with closing(fetch(start, stop)) as chunks:
                for chunk in chunks:
                    start += len(chunk)
                    if start > stop:
                        raise Corrupt(f"{what}: {start - stop:,} bytes more than were asked for")
                    attempts = patience.begin()
                    yield chunk
            if start < stop:
                raise Unavailable(f"{what}: the answer broke off {stop - start:,} bytes early")
        except KVFSError as error:
            wait_after(error, attempts)


def read_range(fetch: Fetch, start: int, stop: int, *, patience: Patience, what: str) -> bytes:
    """The bytes ``[start, stop)``, all of them, as one."""
    chunks = [*resumed(fetch, start, stop, patience=patience, what=what)]
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


@attrs.define(eq=False)
class _Piece:
    """A range that was asked for."""

    start: int
    stop: int
    chunks: deque[bytes] = attrs.field(factory=deque, init=False)
    error: BaseException | None = attrs.field(default=None, init=False)
    future: Future[None] | None = attrs.field(default=None, init=False)


class RangedReader(io.RawIOBase):
    """A stream over ranges that are fetched in parallel, ahead of whoever reads.

    One thread reads; another one may close.  Nothing is fetched before the first read, and the
    number of pieces ahead grows with the reads.

    :param start: the first byte.
    :param stop: the size of the object.
    :param pool: where ranges are fetched; shared by the readers of a store, its size is the number
        of requests under way.  It never waits for readers, so these cannot block each other.
    :param checksum: of the whole object, if it is known; checked if ``start`` is 0, before the last
        bytes are handed out.
    :param what: the object, in errors.
    """

    def __init__(
        self,
        fetch: Fetch,
        start: int,
        stop: int,
        *,
        pool: Executor,
        pieces: Pieces,
        patience: Patience,
        what: str,
        checksum: Checksum | None = None,
    ) -> None:
        super().__init__()
        self._fetch = fetch
        self._position = start
        self._stop = stop
        self._pool = pool
        self._limits = pieces
        self._ended = Event()
        self._patience = attrs.evolve(patience, sleep=self._ended.wait)
        self._what = what
        self._checksum = checksum if start == 0 else None
        self._asked = start
        self._next_bytes = min(FIRST_BYTES, pieces.size)
        self._ahead = 1
        self._pieces: deque[_Piece] = deque()
        self._rest = memoryview(b"")
        self._arrived = Condition()

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, as many as are there; all that are left for a negative size.

        :raises Stale: there is another version of the object by now.
        :raises Corrupt: the bytes are not those of the checksum.
        """
        self._check()
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(self._limits.size), b""))
        rest = self._take(size)
        whole = rest.obj
        return whole if isinstance(whole, bytes) and len(whole) == len(rest) else bytes(rest)

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer``, or less of it; 0 at the end.  Raises what :meth:`read` raises."""
        self._check()
        with memoryview(buffer).cast("B") as target:
            rest = self._take(len(target))
            target[: len(rest)] = rest
            return len(rest)

    def close(self) -> None:
        """Drop everything.  Requests under way end with what arrives next; they are not awaited."""
        if not self.closed:
            with self._arrived:
                self._ended.set()
                for piece in self._pieces:
                    if piece.future is not None:
                        piece.future.cancel()
                self._pieces.clear()
                self._arrived.notify_all()
            self._rest = memoryview(b"")
        super().close()

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _take(self, size: int) -> memoryview:
        """The next bytes, at most ``size``; none at the end."""
        if size == 0 or self._position >= self._stop:
            return memoryview(b"")
        if not self._rest:
            self._rest = memoryview(self._next_chunk())
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._position += len(taken)
        return taken

    def _next_chunk(self) -> bytes:
        with self._arrived:
            self._ask()
            piece = self._pieces[0]
            self._arrived.wait_for(lambda: piece.chunks or piece.error or self._ended.is_set())
            self._go_on()
            if not piece.chunks:
                assert piece.error is not None
                raise piece.error
            chunk = piece.chunks.popleft()
        end = self._position + len(chunk)
        if end == piece.stop:
            self._pieces.popleft()
        self._ahead = min(self._limits.ahead, self._ahead + 1)
        if self._checksum is not None:
            self._checksum.update(chunk)
            if end == self._stop:
                self._checksum.verify(self._what)
        return chunk

    def _ask(self) -> None:
        """Have as many pieces under way as there may be."""
        self._go_on()
        while len(self._pieces) < self._ahead and self._asked < self._stop:
            piece = _Piece(self._asked, min(self._stop, self._asked + self._next_bytes))
            self._asked = piece.stop
            self._next_bytes = min(self._limits.size, 2 * self._next_bytes)
            self._pieces.append(piece)
            try:
                piece.future = self._pool.submit(self._load, piece)
            except RuntimeError as error:
                raise Closed(f"{self._what}: the store was closed") from error
            piece.future.add_done_callback(partial(self._dropped, piece))

    def _go_on(self) -> None:
        if self._ended.is_set():
            raise Closed(f"{self._what}: the reader was closed")

    def _load(self, piece: _Piece) -> None:
        """In a thread of the pool."""
        try:
            with closing(self._chunks(piece)) as chunks:
                for chunk in chunks:
                    with self._arrived:
                        piece.chunks.append(chunk)
                        self._arrived.notify()
                    if self._ended.is_set():
                        return
        except BaseException as error:
            self._fail(piece, error)

    def _dropped(self, piece: _Piece, future: Future[None]) -> None:
        """The pool was closed before it came to the piece: whoever waits for it has to know."""
        if future.cancelled():
            self._fail(piece, Closed(f"{self._what}: the store was closed"))

    def _fail(self, piece: _Piece, error: BaseException) -> None:
        with self._arrived:
            piece.error = error
            self._arrived.notify()

    def _chunks(self, piece: _Piece) -> Generator[bytes, None, None]:
        return resumed(
            self._fetch, piece.start, piece.stop, patience=self._patience, what=self._what
        )


__all__ = ["FIRST_BYTES", "Chunks", "Fetch", "Pieces", "RangedReader", "read_range", "resumed"]
