"""Reading a stream ahead of its consumer, in a thread.

Decompressors and sockets release the interpreter lock, so the next bytes are made while the last
ones are parsed.

Concurrency: one producer thread, which is the only one to touch the stream below; one consumer
thread, which calls everything else.  They share a queue of chunks under one condition.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from types import TracebackType
from typing import Final

from kvfs.errors import Closed, Invalid, KVFSError, Unavailable
from kvfs.tar.window import ByteStream

_CHUNK: Final = 1 << 20


class ReadAhead:
    """A stream that reads up to ``buffer_bytes`` ahead of what was asked for.

    Errors of the stream below are raised when the consumer reaches the place where they happened.
    A context manager; without ``close`` the thread lives until the stream ends.

    :param stream: not to be used by anybody else until :meth:`close`, which does not close it.
    :param buffer_bytes: memory used, at least two chunks of 1 MiB.
    :param before_wait: called by the consumer's thread when the next bytes are not there yet; what
        it raises passes through.
    :raises Invalid: ``buffer_bytes`` is too small.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        buffer_bytes: int = 4 << 20,
        before_wait: Callable[[], None] | None = None,
    ) -> None:
        if buffer_bytes < 2 * _CHUNK:
            raise Invalid(f"reading ahead needs at least {2 * _CHUNK:,} bytes of buffer")
        self._stream = stream
        self._before_wait = before_wait
        # The consumer holds one chunk besides those queued.
        self._chunks_max = buffer_bytes // _CHUNK - 1
        self._changed = Condition()
        self._chunks: deque[bytes] = deque()
        self._failure: KVFSError | None = None
        self._at_end = False
        self._closed = False
        self._current = memoryview(b"")
        self._thread = Thread(target=self._produce, name="kvfs-tar-read-ahead", daemon=True)
        self._thread.start()

    def _produce(self) -> None:
        failure: KVFSError | None = None
        try:
            while chunk := self._stream.read(_CHUNK):
                with self._changed:
                    self._changed.wait_for(self._has_room)
                    if self._closed:
                        return
                    self._chunks.append(chunk)
                    self._changed.notify_all()
        except KVFSError as error:
            failure = error
        except Exception as error:
            failure = Unavailable(f"cannot read the archive: {error}")
            failure.__cause__ = error
        with self._changed:
            self._failure = failure
            self._at_end = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._closed or len(self._chunks) < self._chunks_max

    def _advance(self) -> bool:
        """Make sure that there are current bytes; False at the end."""
        if self._current:
            return True
        if self._before_wait is not None and not (self._chunks or self._at_end):
            self._before_wait()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._at_end or bool(self._chunks))
            if self._closed:
                raise Closed("this stream was closed")
            if not self._chunks:
                if self._failure is not None:
                    raise self._failure
                return False
            self._current = memoryview(self._chunks.popleft())
            self._changed.notify_all()
        return True

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, ``b""`` at the end.

        :raises Closed: after :meth:`close`.
        :raises KVFSError: what the stream below raised, at the place where it did.
        """
        if not self._advance():
            return b""
        data, self._current = self._current[:size], self._current[size:]
        return bytes(data)

    def readinto(self, target: memoryview, /) -> int:
        """As :meth:`read`, into ``target``; the number of bytes."""
        if not self._advance():
            return 0
        size = min(len(target), len(self._current))
        target[:size] = self._current[:size]
        self._current = self._current[size:]
        return size

    def finish(self) -> None:
        """Read what is left and drop it, so that a decompressor verifies its end."""
        while self._advance():
            self._current = memoryview(b"")

    def close(self) -> None:
        """Stop the thread and wait for it; a read of the stream below that blocks is waited for."""
        with self._changed:
            self._closed = True
            self._chunks.clear()
            self._changed.notify_all()
        self._current = memoryview(b"")
        self._thread.join()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
