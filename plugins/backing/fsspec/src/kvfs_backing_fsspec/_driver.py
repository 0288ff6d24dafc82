"""The fsspec store: :class:`FsspecDriver`.

Threads: any.  Forks: the child begins with connections of its own; streams are not inherited.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, BinaryIO, cast

import attrs

from kvfs.backing import BackingDriver, ObjectInfo
from kvfs.backing.remote.ranged import RangedReader, read_range
from kvfs.errors import Invalid, NotFound, Stale, Unavailable, Unsupported
from kvfs_backing_fsspec._listing import OWN_DIRECTORY, listed, stat
from kvfs_backing_fsspec._protocols import Reading
from kvfs_backing_fsspec._reading import HandleReader
from kvfs_backing_fsspec._settings import CAPABILITY, FsspecSettings
from kvfs_backing_fsspec._system import System
from kvfs_backing_fsspec._writing import delete, writing


class FsspecDriver(BackingDriver):
    """The files below a URL.  Thread-safe."""

    def __init__(self, settings: FsspecSettings) -> None:
        """:raises Unsupported: it is to be written, and that cannot be done safely.

        :raises Invalid: fsspec does not know the URL, or needs a library that is not installed.
        """
        self._settings = settings
        self._patience = settings.patience()
        self._system = System(settings)
        protocol = self._system.protocol
        if settings.writable and protocol.publishing is None:
            self._system.close()
            raise Unsupported(
                f"fsspec: {settings.url} cannot be written so that objects appear whole: "
                "set writable = false"
            )
        self.capability = attrs.evolve(
            CAPABILITY,
            writable=settings.writable,
            is_network=protocol.is_network,
            persistent=protocol.persistent,
        )

    def _checked(self, name: str) -> str:
        self._system.check()
        if name.partition("/")[0] == OWN_DIRECTORY:
            raise Invalid(f"fsspec: {name!r}: {OWN_DIRECTORY} is the store's own")
        return self._system.path(name)

    def stat(self, name: str) -> ObjectInfo:
        self._checked(name)
        return stat(self._system, name, self._patience)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """As :meth:`BackingDriver.list`; the entries of one directory at a time are in memory."""
        self._system.check()
        return listed(self._system, prefix, after, patience=self._patience)

    def read(self, name: str, start: int, stop: int) -> bytes:
        found = self.stat(name)
        fetch = partial(self._fetch, name, found.version)
        stop = min(stop, found.size)
        return read_range(fetch, start, stop, patience=self._patience, what=f"fsspec: {name!r}")

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        found = self.stat(name)
        reading = self._system.protocol.reading
        if reading is not Reading.RANGES:
            return cast(BinaryIO, self._opened(name, start, reading))
        reader = RangedReader(
            partial(self._fetch, name, found.version),
            start,
            found.size,
            pool=self._system.pool,
            pieces=self._settings.pieces(),
            patience=self._patience,
            what=f"fsspec: {name!r}",
        )
        return cast(BinaryIO, reader)

    def _opened(self, name: str, start: int, reading: Reading) -> io.RawIOBase | io.BytesIO:
        path = self._system.path(name)
        if reading is Reading.WHOLE:
            return self._system.call(
                repr(name), lambda each: io.BytesIO(each.cat_file(path, start=start))
            )
        file = self._system.call(repr(name), lambda each: each.open(path, "rb"))
        file.seek(start)
        return HandleReader(file, repr(name))

    def _fetch(
        self, name: str, version: str, start: int, stop: int
    ) -> Generator[bytes, None, None]:
        """A range, in parts that are handed out if the version is still the same then."""
        step = self._system.protocol.range_bytes_max or stop - start
        for begin in range(start, stop, step):
            yield self._checked_range(name, version, begin, min(stop, begin + step))

    def _checked_range(self, name: str, version: str, start: int, stop: int) -> bytes:
        what, path = repr(name), self._system.path(name)
        try:
            data = self._system.call(what, partial(self._range, path, start, stop))
            present = stat(self._system, name, self._patience)
        except NotFound as error:
            raise Stale(f"fsspec: {what} was deleted while it was read") from error
        if present.version != version:
            raise Stale(f"fsspec: {what} was replaced while it was read")
        if len(data) > stop - start:
            raise Unsupported(f"fsspec: {what}: the server does not know ranges, only whole files")
        if len(data) < stop - start:
            raise Unavailable(f"fsspec: {what}: the answer broke off")
        return data

    def _range(self, path: str, start: int, stop: int, system: Any) -> bytes:
        if not self._system.protocol.exclusive:
            return bytes(system.cat_file(path, start=start, end=stop))
        with system.open(path, "rb") as file:
            # All requests at once; one after the other would wait for each.
            return b"".join(file.readv([(start, stop - start)]))

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        self._checked(name)
        self._may_write(if_absent or if_match is not None)
        return writing(self._system, name)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self._checked(name)
        self._may_write(if_match is not None)
        delete(self._system, name)

    def _may_write(self, on_condition: bool) -> None:
        if not self._settings.writable:
            raise Unsupported(f"fsspec: {self._settings.url} is open for reading only")
        if on_condition:
            raise Unsupported("fsspec: writes on a condition are not supported")

    def free_space(self) -> int | None:
        self._system.check()
        return None

    def close(self) -> None:
        self._system.close()


def open_store(settings: FsspecSettings) -> FsspecDriver:
    """Open what is at the URL."""
    return FsspecDriver(settings)
