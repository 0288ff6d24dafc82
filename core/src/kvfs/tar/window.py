"""A moving window over a byte stream, addressed by absolute offset."""

from __future__ import annotations

import io
from typing import Final, Protocol

from kvfs.errors import Invalid, Unavailable
from kvfs.tar.problems import Truncated

_SPARE_BUFFERS: Final = 3


class ByteStream(Protocol):
    """What an archive is read from: ``read`` may return less than asked, ``b""`` only at the end.

    A stream that also has ``readinto`` is filled without a copy; one that is also ``seekable``
    is not read where nobody wants the bytes.
    """

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes."""
        ...


class Window:
    """The bytes of a stream from ``base`` on, at most ``capacity`` of them at a time.

    Views handed out are never overwritten while somebody holds them: a buffer with views abroad is
    left to them and another one is filled.  A caller who drops a view before the next but one
    refill costs no allocation at all.

    :ivar view: the buffer; ``view[:end]`` is filled.
    :ivar base: absolute offset of ``view[0]``.
    :ivar end: bytes filled.
    """

    __slots__ = (
        "_at_end",
        "_buffers",
        "_capacity",
        "_length",
        "_readinto",
        "_stream",
        "base",
        "end",
        "view",
    )

    def __init__(self, stream: ByteStream, *, capacity: int) -> None:
        self._stream = stream
        self._readinto = getattr(stream, "readinto", None)
        self._capacity = capacity
        self._buffers = [bytearray(capacity)]
        self._at_end = False
        self._length = self._seekable_length()
        self.view = memoryview(self._buffers[0])
        self.base = 0
        self.end = 0

    def _seekable_length(self) -> int | None:
        """Bytes from here to the end if the stream can seek, else ``None``."""
        stream = self._stream
        if not isinstance(stream, io.IOBase) or not stream.seekable():
            return None
        try:
            start = stream.tell()
            length = stream.seek(0, io.SEEK_END) - start
            stream.seek(start)
        except OSError as error:
            raise Unavailable(f"cannot seek in the archive: {error}") from error
        # Devices seek but say 0: those are read to their end like pipes.
        return length if length > 0 else None

    @property
    def seen_end(self) -> int | None:
        """Absolute offset of the end of the stream once it was reached, else ``None``."""
        return self.base + self.end if self._at_end else None

    def locate(self, offset: int, size: int) -> int:
        """Make ``[offset, offset + size)`` available; its place in ``view``, or -1 past the end.

        On -1 what there is of it stands at the end of the filled part of ``view``.

        :raises Invalid: the window has moved past ``offset``, or is smaller than ``size``.
        :raises Corrupt: from a stream that decompresses.
        """
        at = offset - self.base
        if at < 0:
            raise Invalid("these bytes of the archive have been read before and are gone")
        if at + size <= self.end:
            return at
        if size > self._capacity:
            raise Invalid(f"{size:,} bytes at once do not fit a buffer of {self._capacity:,}")
        if at > self.end:
            self._skip(at - self.end)
            at = offset - self.base
            if at > self.end:
                return -1
        if at + size > self._capacity or at == self.end:
            self._move(at)
            at = 0
        while self.end < at + size:
            if not self._fill():
                return -1
        return at

    def read(self, offset: int, size: int) -> bytes:
        """Exactly these bytes, as a copy; of any size, growing as they arrive.

        :raises Truncated: the stream ends before.
        """
        pieces = []
        while True:
            part = min(size, self._capacity)
            at = self.locate(offset, part)
            if at < 0:
                raise Truncated("the archive ends inside a header")
            pieces.append(bytes(self.view[at : at + part]))
            offset += part
            size -= part
            if not size:
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _fill(self) -> int:
        """Read once into the free part; the number of bytes, 0 at the end."""
        if self._at_end:
            return 0
        try:
            if self._readinto is not None:
                count = self._readinto(self.view[self.end :])
            else:
                data = self._stream.read(self._capacity - self.end)
                count = None if data is None else len(data)
                if count:
                    self.view[self.end : self.end + count] = data
        except OSError as error:
            raise Unavailable(f"cannot read the archive: {error}") from error
        if count is None:
            raise Unavailable("the archive is a non-blocking stream that has nothing to read")
        self.end += count
        self._at_end = not count
        return int(count)

    def _move(self, at: int) -> None:
        """Start the window at ``view[at]``, in a buffer of which nobody holds a view."""
        kept = bytes(self.view[at : self.end])
        self.base += at
        self.end = len(kept)
        self.view = memoryview(self._free_buffer())
        self.view[: self.end] = kept

    def _free_buffer(self) -> bytearray:
        # The window's own view would count as one held by somebody.
        self.view = memoryview(b"")
        for buffer in self._buffers:
            try:
                # A bytearray refuses to change its size while views of it exist, and shrinking by
                # one byte moves nothing: the cheapest question of all.
                buffer.pop()
            except BufferError:
                continue
            buffer.append(0)
            return buffer
        fresh = bytearray(self._capacity)
        self._buffers = [fresh, *self._buffers[: _SPARE_BUFFERS - 1]]
        return fresh

    def _skip(self, count: int) -> None:
        """Pass over ``count`` bytes behind the filled part, leaving the window empty there."""
        if self._length is not None and isinstance(self._stream, io.IOBase):
            remaining = max(0, self._length - self.base - self.end)
            step = min(count, remaining)
            if step > self._capacity:
                try:
                    self._stream.seek(step, io.SEEK_CUR)
                except OSError as error:
                    raise Unavailable(f"cannot seek in the archive: {error}") from error
                self._move(self.end)
                self.base += step
                count -= step
        while count:
            self._move(self.end)
            if not self._fill():
                return
            if self.end >= count:
                return
            count -= self.end
