"""Single requests about objects, and what their answers say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import obstore

from kvfs.backing.driver import ObjectInfo
from kvfs.backing.remote.checksums import Checksum
from kvfs.errors import Conflict, Corrupt, NotFound, Stale, Unsupported
from kvfs_backing_obstore._connection import Connection
from kvfs_backing_obstore._errors import OutOfRange

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

MARK = "kvfs-write"
"""The metadata that says which write made the object."""
_MD5 = re.compile(r"[0-9a-f]{32}")


def info_of(name: str, found: ObjectMeta) -> ObjectInfo:
    """As listings and :func:`obstore.head` have it, in whole seconds: not all answers have more.

    :raises Unsupported: the server gives no etags.
    """
    etag = found["e_tag"]
    if not etag:
        raise Unsupported(
            f"obstore: {name!r}: the server gives no etag, so a change could not be noticed"
        )
    mtime_ns = int(found["last_modified"].timestamp()) * 1_000_000_000
    return ObjectInfo(name, found["size"], mtime_ns, etag.removeprefix("W/").strip('"'))


class _EtagChecksum(Checksum):
    """The MD5 that an etag of S3 is, unless keys of a KMS are in use; obstore does not say so."""

    def verify(self, what: str) -> None:
        try:
            super().verify(what)
        except Corrupt as error:
            raise Corrupt(
                f"{error}; if the bucket is encrypted with keys of a KMS, its etags are no "
                "checksums: set verify = false"
            ) from error


def checksum_of(version: str, scheme: str) -> Checksum | None:
    """The checksum of the whole object, if its version is one."""
    if scheme != "s3" or _MD5.fullmatch(version) is None:
        return None
    return _EtagChecksum("md5", bytes.fromhex(version))


@attrs.frozen
class Answer:
    """A range of an object that is arriving."""

    stop: int
    size: int
    """Of the whole object."""
    etag: str
    """As the server writes it."""
    version: str
    body: Iterator[bytes]


@attrs.frozen
class Objects:
    """The objects of a bucket, by their keys.  Each method makes one request, once."""

    connection: Connection

    def head(self, key: str, name: str) -> tuple[ObjectInfo, str]:
        """What is known of an object, and its etag as the server writes it.

        :raises NotFound: there is none.
        """
        found = self.connection.call(lambda: obstore.head(self.connection.single, key), repr(name))
        return info_of(name, found), found["e_tag"] or ""

    def mark(self, key: str, what: str) -> str | None:
        """The metadata :data:`MARK` of an object."""
        options: GetOptions = {"head": True}
        answer = self.connection.call(
            lambda: obstore.get(self.connection.single, key, options=options), what
        )
        attributes: dict[str, str] = dict(answer.attributes)
        return attributes.get(MARK)

    def get(self, key: str, start: int, stop: int, *, etag: str | None, what: str) -> Answer | None:
        """Begin to read ``[start, stop)``, or as much of it as there is; ``None`` if that is none.

        :param etag: of the version that is to be read; by default the present one.
        :raises Stale: it is another one by now, or none.
        """
        options: GetOptions = {"range": (start, stop)}
        if etag is not None:
            options["if_match"] = etag
        try:
            answer = self.connection.call(
                lambda: obstore.get(self.connection.single, key, options=options), what
            )
        except (Conflict, NotFound) as error:
            if etag is None:
                raise
            raise Stale(f"obstore: {what} was replaced or deleted while it was read") from error
        except OutOfRange:
            return None
        meta = answer.meta
        if etag is not None and meta["e_tag"] != etag:
            raise Stale(f"obstore: {what} was replaced while it was read")
        info = info_of(what, meta)
        body = self.connection.body(answer, what)
        return Answer(answer.range[1], info.size, meta["e_tag"] or "", info.version, body)
