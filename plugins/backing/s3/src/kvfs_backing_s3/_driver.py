"""The S3 store: :class:`S3Driver`.

Threads: any.  Forks: the child begins with connections of its own; streams are not inherited.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import BinaryIO, cast

import attrs

from kvfs.backing import BackingDriver, ObjectInfo
from kvfs.backing.remote.checksums import Checksum
from kvfs.backing.remote.probing import ALL, Conditional, Conditions, probe
from kvfs.backing.remote.ranged import Chunks, RangedReader, read_range
from kvfs.backing.remote.retries import repeated
from kvfs.errors import Stale, Unsupported
from kvfs_backing_s3._connection import Connection
from kvfs_backing_s3._listing import listed
from kvfs_backing_s3._names import Names
from kvfs_backing_s3._objects import Found, Objects
from kvfs_backing_s3._probing import Trial
from kvfs_backing_s3._publishing import Condition, Publisher
from kvfs_backing_s3._settings import CAPABILITY, KEY_BYTES_MAX, S3Settings
from kvfs_backing_s3._writing import writing


class S3Driver(BackingDriver):
    """The objects of a bucket, or of a part of it.  Thread-safe."""

    def __init__(self, settings: S3Settings) -> None:
        """:raises NotFound: there is no such bucket.

        :raises PermissionDenied: the credentials are wrong, or may not list it; or may not write,
            and ``writable`` is asked for.
        """
        self._settings = settings
        self._names = Names(*settings.place())
        self._patience = settings.patience()
        self._connection = Connection(settings)
        try:
            self._check_bucket()
            self.conditions = self._find_conditions()
        except BaseException:
            self._connection.close()
            raise
        self._objects = Objects(self._connection, self._names.bucket, self.conditions.quoted)
        self._publisher = Publisher(
            connection=self._connection,
            objects=self._objects,
            conditions=self.conditions,
            patience=self._patience,
            part_bytes=settings.part,
            verify=settings.verify,
        )
        self.capability = attrs.evolve(
            CAPABILITY,
            writable=settings.writable,
            conditional_create=self.conditions.create,
            conditional_replace=self.conditions.replace and self.conditions.delete,
            name_bytes_max=KEY_BYTES_MAX - len(self._names.prefix.encode()),
        )

    def _check_bucket(self) -> None:
        """Whatever is wrong with address, region or credentials shows here, with its reason: the
        answers to HEAD requests have none."""
        repeated(
            partial(
                self._connection.call,
                "list_objects_v2",
                f"opening {self._settings.url}",
                Bucket=self._names.bucket,
                Prefix=self._names.prefix,
                MaxKeys=1,
            ),
            self._patience,
        )

    def _find_conditions(self) -> Conditions:
        settings = self._settings
        if not settings.writable or settings.conditional is Conditional.NO:
            return Conditions()
        if settings.conditional is Conditional.YES:
            return ALL
        trial = Trial(self._connection, self._names, self._patience)
        return probe(trial.put, trial.delete, put_parts=trial.put_parts)

    def _find(self, name: str) -> Found:
        key = self._names.key(name)
        return repeated(partial(self._objects.head, key, name), self._patience)

    def stat(self, name: str) -> ObjectInfo:
        self._connection.check()
        return self._find(name).info

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
        waiting: list[Chunks] = [first.body]

        def fetch(start: int, stop: int) -> Chunks:
            return waiting.pop() if waiting else self._fetch(key, first.etag, what, start, stop)

        data = read_range(fetch, start, first.stop, patience=self._patience, what=f"s3: {what}")
        if self._settings.verify and len(data) == first.size and first.checksum is not None:
            first.checksum.update(data)
            first.checksum.verify(f"s3: {what}")
        return data

    def _fetch(self, key: str, etag: str, what: str, start: int, stop: int) -> Chunks:
        answer = self._objects.get(key, start, stop, etag=etag, what=what)
        if answer is None:
            raise Stale(f"s3: {what} became shorter while it was read")
        return answer.body

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        self._connection.check()
        found = self._find(name)
        info, what = found.info, repr(name)
        checksum: Checksum | None = found.checksum if self._settings.verify else None
        reader = RangedReader(
            partial(self._fetch, self._names.key(name), info.version, what),
            start,
            info.size,
            pool=self._connection.pool,
            pieces=self._settings.pieces(),
            patience=self._patience,
            what=f"s3: {what}",
            checksum=checksum,
        )
        return cast(BinaryIO, reader)

    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> AbstractContextManager[BinaryIO]:
        self._connection.check()
        self._may_write()
        condition = Condition.of(if_absent, if_match, quoted=self.conditions.quoted)
        return writing(self._publisher, self._names.key(name), name, condition)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self._connection.check()
        self._may_write()
        condition = Condition.of(False, if_match, quoted=self.conditions.quoted)
        self._publisher.delete(self._names.key(name), name, condition)

    def _may_write(self) -> None:
        if not self._settings.writable:
            raise Unsupported(
                f"s3: {self._settings.url} is open for reading only: set writable = true"
            )

    def free_space(self) -> int | None:
        self._connection.check()
        return None

    def close(self) -> None:
        self._connection.close()


def open_store(settings: S3Settings) -> S3Driver:
    """Open a bucket, or a part of it."""
    return S3Driver(settings)
