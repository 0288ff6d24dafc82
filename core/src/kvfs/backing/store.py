"""The portable type that users of a backing store hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.closing import Closing
from kvfs.errors import Invalid, Unsupported


class BackingStore(Closing):
    """A store of objects: any driver, with the checks that are common to all written once."""

    def __init__(self, driver: BackingDriver, *, name: str) -> None:
        """:param name: what errors call this store, as ``posix /data/train``."""
        self.driver = driver
        self.name = name
        self.capability = driver.capability

    def stat(self, name: str) -> ObjectInfo:
        """Size, time and version; :class:`~kvfs.errors.NotFound` if there is no such object."""
        return self.driver.stat(self._checked(name, "stat"))

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects whose name starts with ``prefix``, sorted, after the name ``after``."""
        return self.driver.list(prefix, after=after)

    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)`` of an object; shorter only where it ends."""
        if not 0 <= start <= stop:
            raise Invalid(f"{self.name}: read: {start}..{stop} is not a range")
        return self.driver.read(self._checked(name, "read"), start, stop)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        """A stream of the object from ``start`` on."""
        if start < 0:
            raise Invalid(f"{self.name}: open_reader: start {start} is negative")
        return self.driver.open_reader(self._checked(name, "open_reader"), start)

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """A stream that becomes the object when the ``with`` body ends well, or not at all.

        :raises Unsupported: the store cannot write, or cannot write on that condition.
        """
        self._writable("open_writer")
        if if_absent and if_match is not None:
            raise Invalid(f"{self.name}: open_writer: if_absent and if_match exclude each other")
        if if_absent and not self.capability.conditional_create:
            raise Unsupported(f"{self.name}: open_writer: if_absent is not supported")
        self._conditional("open_writer", if_match)
        return self.driver.open_writer(
            self._checked(name, "open_writer"), if_absent=if_absent, if_match=if_match
        )

    def write(
        self, name: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> None:
        """Store a small object whole."""
        with self.open_writer(name, if_absent=if_absent, if_match=if_match) as stream:
            stream.write(data)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        """Remove an object; no error if there is none."""
        self._writable("delete")
        self._conditional("delete", if_match)
        self.driver.delete(self._checked(name, "delete"), if_match=if_match)

    def free_space(self) -> int | None:
        """Bytes that can still be written, or ``None`` where the store does not know."""
        return self.driver.free_space()

    def close(self) -> None:
        """Let go of connections.  Idempotent."""
        self.driver.close()

    def _writable(self, operation: str) -> None:
        if not self.capability.writable:
            raise Unsupported(f"{self.name}: {operation}: the store is read-only")

    def _conditional(self, operation: str, if_match: str | None) -> None:
        if if_match is not None and not self.capability.conditional_replace:
            raise Unsupported(f"{self.name}: {operation}: if_match is not supported")

    def _checked(self, name: str, operation: str) -> str:
        try:
            encoded = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise Invalid(f"{self.name}: {operation}: {name!r} is not an object name") from error
        if len(encoded) > self.capability.name_bytes_max:
            raise Unsupported(
                f"{self.name}: {operation}: a name of {len(encoded)} bytes "
                f"(the longest it takes: {self.capability.name_bytes_max})"
            )
        if b"\0" in encoded or any(part in ("", ".", "..") for part in name.split("/")):
            raise Invalid(f"{self.name}: {operation}: {name!r} is not an object name")
        return name
