"""Stores that count, block and fail, and small tarballs to put in them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from threading import Event
from typing import BinaryIO, cast

from kvfs.backing.driver import BackingDriver
from kvfs.files.records import ROOT_INODE
from kvfs.layers.passing import BackingLayer
from kvfs.tar.member import Member
from kvfs.tar.writer import TarWriter
from kvfs.tarballs.catalogue import State
from kvfs.testing.trees import tree_of_volume
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

PATIENCE_S = 60
"""What must happen has happened long before; a test that waits so long has failed."""


def archive(files: Mapping[bytes, bytes]) -> bytes:
    """A tarball of these files, in this order."""
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    for name, data in files.items():
        writer.add(Member(name, size=len(data)), [data])
    writer.close()
    return b"".join(parts)


def contents(volume: Volume, path: bytes = b"") -> dict[bytes, bytes | None]:
    """Every file below a path; directories as ``None``."""
    files = volume.files(wait=True)
    inode = files.open_path(path).inode if path else ROOT_INODE
    return {
        b"/".join(node.path): None if node.size is None else b"".join(node.contents())
        for node in tree_of_volume(files, inode)
        if node.path
    }


def states(volume: Volume) -> dict[str, State]:
    """The state of every tarball by the name of its object."""
    return {record.object: record.state for _, record in volume.tarballs.catalogue}


def number_of(volume: Volume, name: str) -> int:
    """The id of an object's tarball."""
    [number] = [number for number, record in volume.tarballs.catalogue if record.object == name]
    return number


def sealed_records(stores: Stores) -> int:
    """How many records of tarballs there are in the sealed store that is in use."""
    [name] = [name for name in stores.kv if name.startswith("sealed")]
    return len([key for key, _ in stores.kv[name].scan(b"", None) if key[:1] != b"F"])


class Gate(io.RawIOBase):
    """A stream, like one of a network, that stops at a place until it is let go on."""

    def __init__(self, data: bytes, at: int, then: Callable[[], None]) -> None:
        super().__init__()
        self._data = io.BytesIO(data)
        self._at = at
        self._then = then

    def read(self, size: int = -1, /) -> bytes:
        left = self._at - self._data.tell()
        if left <= 0:
            self._then()
            left = size
        return self._data.read(min(size, left))


class Watched(BackingLayer):
    """Counts the readers that are opened; each can be made to stop, or fail, at a place."""

    def __init__(self, inner: BackingDriver) -> None:
        super().__init__(inner)
        self.readers = 0
        self.gate_at: int | None = None
        self.reached = Event()
        self.released = Event()
        self.error: Exception | None = None

    def close(self) -> None:
        """Stay open: the stores outlive their volumes."""

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        self.readers += 1
        stream = self.inner.open_reader(name, start)
        if self.gate_at is None:
            return stream
        return cast(BinaryIO, Gate(stream.read(), self.gate_at, self._stop))

    def _stop(self) -> None:
        self.reached.set()
        assert self.released.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error

    def let_go(self, error: Exception | None = None) -> None:
        """Go on, or fail."""
        self.error = error
        self.released.set()

    def arm(self, at: int | None) -> None:
        """Stop the next reader at this byte; ``None``: not at all."""
        self.gate_at = at
        self.error = None
        self.reached.clear()
        self.released.clear()


class WatchedStores(Stores):
    """Memory stores, the objects behind a :class:`Watched`."""

    def __init__(self) -> None:
        super().__init__(around_backing=self._around)
        self.watched = Watched(self.objects)

    def _around(self, driver: BackingDriver) -> BackingDriver:
        return self.watched
