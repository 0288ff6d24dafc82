"""Single requests about objects, and what their answers say."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Any

import attrs

from kvfs.backing.driver import ObjectInfo
from kvfs.backing.remote.checksums import ALGORITHMS, Checksum
from kvfs.backing.remote.probing import formed
from kvfs.errors import Conflict, NotFound, Stale, Unsupported
from kvfs_backing_s3._connection import Body, Connection
from kvfs_backing_s3._errors import OutOfRange

_MD5 = re.compile(r"[0-9a-f]{32}")
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def etag_of(answer: dict[str, Any]) -> str:
    """Without its quotes; some servers forget them."""
    etag = str(answer.get("ETag", ""))
    return etag.removeprefix("W/").strip('"')


def mtime_ns_of(answer: dict[str, Any]) -> int:
    """Whole seconds, as HTTP dates have them; listings may have more."""
    modified: datetime = answer["LastModified"]
    return int(modified.timestamp()) * 1_000_000_000


def is_md5(answer: dict[str, Any]) -> bool:
    """Is the etag the MD5 of the contents?  Not of uploads in parts, nor under keys of a KMS."""
    return (
        _MD5.fullmatch(etag_of(answer)) is not None
        and answer.get("ServerSideEncryption") in (None, "AES256")
        and "SSECustomerAlgorithm" not in answer
    )


def checksum_of(answer: dict[str, Any]) -> Checksum | None:
    """The checksum of the whole object, if the answer has one that can be computed here."""
    if answer.get("ChecksumType") != "COMPOSITE":
        for algorithm in ALGORITHMS:
            try:
                text = answer.get(f"Checksum{algorithm.upper()}", "")
                expected = base64.b64decode(text, validate=True)
            except binascii.Error:
                continue  # "-3" behind it: that of three parts
            if expected:
                return Checksum(algorithm, expected)
    return Checksum("md5", bytes.fromhex(etag_of(answer))) if is_md5(answer) else None


@attrs.frozen
class Found:
    """An object as it was found."""

    info: ObjectInfo
    checksum: Checksum | None
    metadata: dict[str, str]


@attrs.define
class Answer:
    """A range of an object that is arriving."""

    start: int
    stop: int
    size: int
    """Of the whole object."""
    etag: str
    checksum: Checksum | None
    body: Body


@attrs.frozen
class Objects:
    """The objects of a bucket, by their keys.  Each method makes one request, once."""

    connection: Connection
    bucket: str
    quoted: bool = True
    """How the server wants etags; asked by :mod:`kvfs.backing.remote.probing`."""

    def head(self, key: str, name: str) -> Found:
        """What is known of an object.

        :raises NotFound: there is none.
        """
        answer = self.connection.call(
            "head_object", repr(name), Bucket=self.bucket, Key=key, ChecksumMode="ENABLED"
        )
        info = ObjectInfo(name, answer["ContentLength"], mtime_ns_of(answer), etag_of(answer))
        return Found(info, checksum_of(answer), answer.get("Metadata", {}))

    def get(self, key: str, start: int, stop: int, *, etag: str | None, what: str) -> Answer | None:
        """Begin to read ``[start, stop)``, or as much of it as there is; ``None`` if that is none.

        :param etag: of the version that is to be read; by default the present one.
        :raises Stale: it is another one by now, or none.
        """
        condition = {} if etag is None else {"IfMatch": formed(etag, quoted=self.quoted)}
        try:
            answer = self.connection.call(
                "get_object",
                what,
                Bucket=self.bucket,
                Key=key,
                Range=f"bytes={start}-{stop - 1}",
                **condition,
            )
        except (Conflict, NotFound) as error:
            if etag is None:
                raise
            raise Stale(f"s3: {what} was replaced or deleted while it was read") from error
        except OutOfRange:
            return None
        body = self.connection.body(answer, what)
        try:
            return _ranged(answer, body, start, stop, etag=etag, what=what)
        except BaseException:
            body.close()
            raise


def _ranged(
    answer: dict[str, Any], body: Body, start: int, stop: int, *, etag: str | None, what: str
) -> Answer:
    if etag is not None and etag_of(answer) != etag:
        raise Stale(f"s3: {what} was replaced while it was read")
    said = _CONTENT_RANGE.fullmatch(answer.get("ContentRange", ""))
    if said is not None:
        first, last, size = map(int, said.groups())
    else:
        first, last, size = 0, answer["ContentLength"] - 1, answer["ContentLength"]
    if first != start or last >= stop:
        raise Unsupported(f"s3: {what}: the server does not answer with the range asked for")
    return Answer(start, last + 1, size, etag_of(answer), checksum_of(answer), body)


__all__ = ["Answer", "Found", "Objects", "checksum_of", "etag_of", "is_md5"]
