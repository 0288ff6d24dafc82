"""The obstore store: :class:`ObstoreDriver`.

Threads: any.  Forks: refused, with a reason; obstore's own threads do not survive them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from typing import BinaryIO, cast

import attrs

from kvfs.backing import BackingDriver, ObjectInfo
from kvfs.backing.remote.probing import Conditional, probe
from kvfs.backing.remote.ranged import Chunks, RangedReader, read_range
from kvfs.backing.remote.retries import repeated
from kvfs.errors import Stale, Unsupported
from kvfs_backing_obstore._connection import Connection
from kvfs_backing_obstore._listing import listed
from kvfs_backing_obstore._names import Names
from kvfs_backing_obstore._objects import Objects, checksum_of
from kvfs_backing_obstore._settings import CAPABILITY, KEY_BYTES_MAX, ObstoreSettings
from kvfs_backing_obstore._writing import Publisher, writing


class ObstoreDriver(BackingDriver):
    """The objects of a bucket, or of a part of it.  Thread-safe."""

    def __init__(self, settings: ObstoreSettings) -> None:
        """:raises NotFound: there is no such bucket.

        :raises PermissionDenied: the credentials are wrong, or may not list it; or may not write,
            and ``writable`` is asked for.
        :raises Unsupported: the server does not answer with ranges.
        """
        self._settings = settings
        self._names = Names(settings.place())
        self._patience = settings.patience()
        self._connection = Connection(settings)
        self._objects = Objects(self._connection)
        self._publisher = Publisher(
            connection=self._connection, patience=self._patience, part_bytes=settings.part
        )
        try:
            self._check()
            creates = self._creates()
        except BaseException:
            self._connection.close()
            raise
        self.capability = attrs.evolve(
            CAPABILITY,
            writable=settings.writable,
            conditional_create=creates,
            name_bytes_max=KEY_BYTES_MAX - len(self._names.place.prefix.encode()),
        )

    def _check(self) -> None:
        """Whatever is wrong with address, region or credentials shows here, and a server that does
        not know ranges."""
        for info in islice(self.list(), 1):
            self.read(info.name, 0, 1)

    def _creates(self) -> bool:
        """Does a put of an object that is to be new fail if it is not?"""
        settings = self._settings
        if not settings.writable or settings.conditional is Conditional.NO:
            return False
        if settings.conditional is Conditional.YES:
            return True
        return probe(self._try_put, self._try_delete).create

    def _try_put(
        self,
        name: str,
        data: bytes,
        *,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> str:
        """As :class:`kvfs.backing.remote.probing.Put`."""
        self._no_match(if_match)
        key = self._names.place.prefix + name
        put = partial(
            self._publisher.put_once,
            key,
            "trying conditional writes",
            data,
            if_absent=if_none_match is not None,
        )
        return repeated(put, self._patience)

    def _try_delete(self, name: str, *, if_match: str | None = None) -> None:
        """As :class:`kvfs.backing.remote.probing.Delete`."""
        self._no_match(if_match)
        self._publisher.delete(self._names.place.prefix + name, "trying conditional writes")

    def _no_match(self, if_match: str | None) -> None:
        if if_match is not None:
            raise Unsupported("obstore: it has no delete on a condition: use the driver s3")

    def stat(self, name: str) -> ObjectInfo:
        return self._find(name)[0]

    def _find(self, name: str) -> tuple[ObjectInfo, str]:
        self._connection.check()
        return repeated(partial(self._objects.head, self._names.key(name), name), self._patience)

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """As :meth:`BackingDriver.list`; a page of 1,000 objects at a time is in memory."""
        self._connection.check()
        return listed(self._connection, self._names, prefix, after, patience=self._patience)

    def read(self, name: str, start: int, stop: int) -> bytes:
        self._connection.check()
        key, what = self._names.key(name), repr(name)
        if start == stop:
            self._find(name)
            return b""
        first = repeated(
            partial(self._objects.get, key, start, stop, etag=None, what=what), self._patience
        )
        if first is None:
            return b""
        waiting = [first.body]

        def fetch(start: int, stop: int) -> Chunks:
            body = waiting.pop() if waiting else self._fetch(key, first.etag, what, start, stop)
            return cast(Chunks, body)

        data = read_range(
            fetch, start, first.stop, patience=self._patience, what=f"obstore: {what}"
        )
        checksum = checksum_of(first.version, self._names.place.scheme)
        if self._settings.verify and len(data) == first.size and checksum is not None:
            checksum.update(data)
            checksum.verify(f"obstore: {what}")
        return data

    def _fetch(self, key: str, etag: str, what: str, start: int, stop: int) -> Chunks:
        answer = self._objects.get(key, start, stop, etag=etag, what=what)
        if answer is None:
            raise Stale(f"obstore: {what} became shorter while it was read")
        return cast(Chunks, answer.body)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        info, etag = self._find(name)
        what = repr(name)
        verified = self._settings.verify
        reader = RangedReader(
            partial(self._fetch, self._names.key(name), etag, what),
            start,
            info.size,
            pool=self._connection.pool,
            pieces=self._settings.pieces(),
            patience=self._patience,
            what=f"obstore: {what}",
            checksum=checksum_of(info.version, self._names.place.scheme) if verified else None,
        )
        return cast(BinaryIO, reader)

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        self._connection.check()
        self._may_write()
        self._no_match(if_match)
        return writing(self._publisher, self._names.key(name), name, if_absent=if_absent)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self._connection.check()
        self._may_write()
        self._no_match(if_match)
        self._publisher.delete(self._names.key(name), repr(name))

    def _may_write(self) -> None:
        if not self._settings.writable:
            raise Unsupported(
                f"obstore: {self._settings.url} is open for reading only: set writable = true"
            )

    def free_space(self) -> int | None:
        self._connection.check()
        return None

    def close(self) -> None:
        self._connection.close()


def open_store(settings: ObstoreSettings) -> ObstoreDriver:
    """Open a bucket, or a part of it."""
    return ObstoreDriver(settings)
