"""Objects written as streams.

- small ones: one put;
- larger ones: an upload in parts, which obstore makes in a thread of its own, and takes back if the
  writer fails;
- larger ones on a condition, which obstore knows only of a put: kept in a temporary file, then put
  at once.
"""

from __future__ import annotations

import io
import mmap
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Thread
from typing import IO, TYPE_CHECKING, BinaryIO, cast
from uuid import uuid4

import attrs
import obstore

from kvfs.backing.remote.retries import repeated, wait_after
from kvfs.errors import AlreadyExists, Conflict, Exhausted, KVFSError, NotFound, Unavailable
from kvfs.patience import Patience
from kvfs_backing_obstore._connection import Connection
from kvfs_backing_obstore._objects import MARK, Objects
from kvfs_backing_obstore._settings import PARTS_MAX

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from obstore import Attributes

PUT_BYTES_MAX = 5 << 30
"""Of S3, for one request."""
_PARTS_AT_A_TIME = 2
_PIECE_BYTES = 1 << 20
"""An upload is handed over in pieces of this size."""
_PIECES_WAITING = 4


@attrs.frozen(kw_only=True)
class Publisher:
    """Writes objects into one bucket."""

    connection: Connection
    patience: Patience
    part_bytes: int

    def put(self, key: str, what: str, data: bytes | mmap.mmap, *, if_absent: bool) -> None:
        """One put, repeated until it is known what became of it.

        :raises AlreadyExists: it was to be created, and is there.
        """
        mark = uuid4().hex
        attempts = self.patience.begin()
        lost = False
        while True:
            try:
                self.put_once(key, what, data, if_absent=if_absent, mark=mark if if_absent else "")
                return
            except Conflict as error:
                if lost and self._is_ours(key, what, mark):
                    return
                raise AlreadyExists(f"obstore: {what}: it exists") from error
            except KVFSError as error:
                lost |= isinstance(error, Unavailable) and not error.unapplied
                wait_after(error, attempts)

    def put_once(
        self, key: str, what: str, data: bytes | mmap.mmap, *, if_absent: bool, mark: str = ""
    ) -> str:
        """One request; the etag of the new object.

        :raises Conflict: it was to be created, and is there.
        """
        attributes: Attributes | None = {MARK: mark} if mark else None
        answer = self.connection.call(
            lambda: obstore.put(
                self.connection.single,
                key,
                data,
                mode="create" if if_absent else "overwrite",
                attributes=attributes,
                use_multipart=False,
            ),
            what,
        )
        return answer["e_tag"] or ""

    def _is_ours(self, key: str, what: str, mark: str) -> bool:
        objects = Objects(self.connection)
        try:
            return repeated(lambda: objects.mark(key, what), self.patience) == mark
        except NotFound:
            return False

    def delete(self, key: str, what: str) -> None:
        """Remove an object, if it is there."""

        def call() -> None:
            self.connection.call(lambda: obstore.delete(self.connection.single, [key]), what)

        try:
            repeated(call, self.patience)
        except NotFound:
            pass


@contextmanager
def writing(publisher: Publisher, key: str, name: str, *, if_absent: bool) -> Iterator[BinaryIO]:
    """As ``BackingDriver.open_writer``."""
    writer = Writer(publisher, key, repr(name), if_absent=if_absent)
    try:
        yield cast(BinaryIO, writer)
        writer.publish()
    finally:
        writer.drop()


class Writer(io.RawIOBase):
    """One object being written.  Holds a few parts in memory."""

    def __init__(self, publisher: Publisher, key: str, what: str, *, if_absent: bool) -> None:
        super().__init__()
        self._publisher = publisher
        self._key = key
        self._what = what
        self._if_absent = if_absent
        self._buffer = bytearray()
        self._pieces: list[bytes] = []
        """What was written, up to a part of it; the rest of a piece is in the buffer."""
        self._written = 0
        self._upload: Upload | None = None
        self._spool: IO[bytes] | None = None
        publisher.connection.check()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: ReadableBuffer) -> int:
        """Append all of ``data``.

        :raises Exhausted: larger than can be sent.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with memoryview(data).cast("B") as view:
            for start in range(0, len(view), _PIECE_BYTES):
                self._append(view[start : start + _PIECE_BYTES])
            return len(view)

    def _append(self, data: memoryview) -> None:
        self._written += len(data)
        most = PUT_BYTES_MAX if self._if_absent else PARTS_MAX * self._publisher.part_bytes
        if self._written > most:
            raise Exhausted(
                f"obstore: {self._what}: {self._written:,} bytes are too many: "
                + ("write it without a condition" if self._if_absent else "set part to more")
            )
        self._buffer += data
        if len(self._buffer) < _PIECE_BYTES:
            return
        self._hand_over(bytes(self._buffer))
        self._buffer.clear()

    def _hand_over(self, piece: bytes) -> None:
        if self._spool is not None:
            self._spool.write(piece)
        elif self._upload is not None:
            self._upload.add(piece)
        else:
            self._pieces.append(piece)
            if self._written > self._publisher.part_bytes:
                self._grow()

    def _grow(self) -> None:
        """It is too large for one put."""
        if self._if_absent:
            self._spool = tempfile.TemporaryFile(prefix="kvfs-obstore-")  # noqa: SIM115 - in drop
        else:
            self._upload = Upload(self._publisher, self._key, self._what)
        pieces, self._pieces = self._pieces, []
        for piece in pieces:
            self._hand_over(piece)

    def publish(self) -> None:
        """Make it the object."""
        self._hand_over(bytes(self._buffer))
        if self._upload is not None:
            self._upload.complete()
        elif self._spool is not None:
            self._spool.flush()
            # Closed when nobody refers to it: an error, with its traceback, may do so for longer.
            self._put(mmap.mmap(self._spool.fileno(), 0, access=mmap.ACCESS_READ))
        else:
            self._put(b"".join(self._pieces))

    def _put(self, data: bytes | mmap.mmap) -> None:
        self._publisher.put(self._key, self._what, data, if_absent=self._if_absent)

    def drop(self) -> None:
        """Leave nothing behind: of a published object, nothing but that."""
        self._buffer.clear()
        self._pieces.clear()
        if self._spool is not None:
            self._spool.close()
        if self._upload is not None:
            self._upload.abort()
        self.close()


class _Aborted(Exception):
    """The writer does not want the object any more."""


class Upload:
    """An upload in parts, in a thread: obstore draws from :meth:`_drawn` what it sends."""

    def __init__(self, publisher: Publisher, key: str, what: str) -> None:
        self._publisher = publisher
        self._key = key
        self._what = what
        self._pieces: deque[bytes | None] = deque()
        self._changed = Condition()
        self._aborted = False
        self._ended = False
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, name=f"kvfs-obstore {what}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        connection = self._publisher.connection

        def send() -> object:
            return obstore.put(
                connection.patient,
                self._key,
                self._drawn(),
                use_multipart=True,
                chunk_size=self._publisher.part_bytes,
                max_concurrency=_PARTS_AT_A_TIME,
            )

        try:
            connection.call(send, self._what)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _drawn(self) -> Iterator[bytes]:
        while (piece := self._take()) is not None:
            yield piece

    def _take(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._aborted)
            if self._aborted:
                raise _Aborted
            self._changed.notify_all()
            return self._pieces.popleft()

    def add(self, piece: bytes) -> None:
        """The next bytes, as soon as there is room for them."""
        self._put(piece)

    def _put(self, piece: bytes | None) -> None:
        self._wait(lambda: len(self._pieces) < _PIECES_WAITING)
        with self._changed:
            self._pieces.append(piece)
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or ready())
        if self._error is not None:
            raise self._error

    def complete(self) -> None:
        """Make the parts the object."""
        self._put(None)
        self._wait(lambda: False)
        self._publisher.connection.check()

    def abort(self) -> None:
        """Have the parts removed that were sent, unless they are the object already."""
        with self._changed:
            self._aborted = True
            self._changed.notify_all()
        self._thread.join()
