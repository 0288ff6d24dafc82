"""A file that is kept open, as a stream whose errors are those of KVFS."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from kvfs_backing_fsspec._errors import translating

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class HandleReader(io.RawIOBase):
    """A file of fsspec from where it stands.  Closes it."""

    def __init__(self, file: Any, what: str) -> None:
        super().__init__()
        self._file = file
        self._what = what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill ``buffer``, or less of it; 0 at the end."""
        with memoryview(buffer).cast("B") as target, translating(f"reading {self._what}"):
            data: bytes = self._file.read(len(target))
            target[: len(data)] = data
            return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
