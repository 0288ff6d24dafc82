"""What the author of a backing store implements: :class:`BackingDriver`.

Users hold a :class:`~kvfs.backing.store.BackingStore` instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

import attrs

from kvfs.capability import BackingCapability


@attrs.frozen
class ObjectInfo:
    """An object as a listing shows it."""

    name: str
    """Slash-separated, no leading slash; bytes that are not UTF-8 as surrogate escapes."""
    size: int
    """Bytes."""
    mtime_ns: int
    """Nanoseconds since the epoch."""
    version: str
    """Changes whenever the contents change (an etag); equal versions mean equal contents as far
    as capability ``strong_version`` goes."""


class BackingDriver(ABC):
    """A flat store of objects, read in ranges and written whole.

    Names are relative, slash-separated, without empty, ``.`` or ``..`` parts; the portable type
    checks that.  Errors are those of :mod:`kvfs.errors`; after :meth:`close` every method raises
    :class:`~kvfs.errors.Closed`.
    """

    capability: BackingCapability

    @abstractmethod
    def stat(self, name: str) -> ObjectInfo:
        """Size, time and version.

        :raises NotFound: no object has that name.
        """

    @abstractmethod
    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Every object whose name starts with ``prefix``, in byte order of the names.

        ``after``: only names behind this one.  Lazy: memory does not grow with the number of
        objects.
        """

    @abstractmethod
    def read(self, name: str, start: int, stop: int) -> bytes:
        """Bytes ``[start, stop)``; shorter only where the object ends.

        :raises NotFound: no object has that name.
        """

    @abstractmethod
    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        """A stream of the object from ``start`` on, at the version current at the call.

        It has ``read``, ``readinto``, ``close`` and is a context manager; more is not promised.  A
        read may return less than was asked for, and nothing only at the end.  Where the store keeps
        no old versions, a read raises :class:`~kvfs.errors.Stale` once there is another one.

        :raises NotFound: no object has that name.
        """

    @abstractmethod
    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """A stream whose bytes become the object, whole, when the ``with`` body ends well.

        If the body raises, nothing is changed.  Readers see the old object or the new one.

        :raises AlreadyExists: at the end, with ``if_absent``, when the object exists by then.
        :raises Conflict: at the end, when its version is not ``if_match`` by then.
        """

    @abstractmethod
    def delete(self, name: str, *, if_match: str | None = None) -> None:
        """Remove the object; no error if there is none (unless ``if_match`` is given).

        :raises Conflict: its version is not ``if_match``.
        """

    @abstractmethod
    def free_space(self) -> int | None:
        """Bytes that can still be written, or ``None`` where the store does not know."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections.  Idempotent."""
