"""How far an archive has been read, without keeping anybody from seeking in it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO

from kvfs.tarballs.report import IngestReport

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class CountingReader(io.RawIOBase):
    """A stream that notes in a report how many bytes of the archive lie behind it.

    Bytes that a seek passed over count as read.  The stream below stays its owner's to close.
    """

    def __init__(self, raw: BinaryIO, report: IngestReport) -> None:
        super().__init__()
        self._raw = raw
        self._report = report
        self._can_seek = isinstance(raw, io.IOBase) and raw.seekable()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._can_seek

    def read(self, size: int = -1, /) -> bytes:
        """As the stream below."""
        data = self._raw.read(size)
        self._report.archive_bytes_read += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """As the stream below."""
        count: int = self._raw.readinto(buffer)  # type: ignore[attr-defined]
        self._report.archive_bytes_read += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As the stream below."""
        position = self._raw.seek(offset, whence)
        self._report.archive_bytes_read = position
        return position

    def tell(self) -> int:
        """As the stream below."""
        return self._raw.tell()
