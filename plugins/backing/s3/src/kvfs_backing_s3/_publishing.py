"""Writes and deletes as single requests, repeated until it is known what became of them.

Those on a condition carry a mark, so that one whose answer was lost can be told from that of
somebody else.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import IO, Any
from uuid import uuid4

import attrs

from kvfs.backing.remote.checksums import Checksum
from kvfs.backing.remote.probing import Conditions, formed
from kvfs.backing.remote.retries import repeated, wait_after
from kvfs.errors import Conflict, Corrupt, KVFSError, NotFound, Unavailable
from kvfs.patience import Patience
from kvfs_backing_s3._connection import Connection
from kvfs_backing_s3._errors import missed
from kvfs_backing_s3._objects import Objects, etag_of, is_md5

MARK = "kvfs-write"
"""The metadata that says which write made the object."""


@attrs.frozen(kw_only=True)
class Condition:
    """What has to be true of the object when it is written.

    :param headers: as the server wants them.
    """

    if_absent: bool = False
    if_match: str | None = None
    headers: dict[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, if_absent: bool, if_match: str | None, *, quoted: bool) -> Condition:
        """The one of ``open_writer``."""
        headers = {}
        if if_absent:
            headers = {"IfNoneMatch": "*"}
        elif if_match is not None:
            headers = {"IfMatch": formed(if_match, quoted=quoted)}
        return cls(if_absent=if_absent, if_match=if_match, headers=headers)


@attrs.frozen(kw_only=True)
class Publisher:
    """Writes objects into one bucket."""

    connection: Connection
    objects: Objects
    conditions: Conditions
    patience: Patience
    part_bytes: int
    verify: bool

    def in_parts(self, condition: Condition) -> bool:
        """Does the server keep to the condition at the end of an upload in parts?"""
        if condition.if_absent:
            return self.conditions.create_parts
        return condition.if_match is None or self.conditions.replace_parts

    def put(
        self, key: str, what: str, body: bytes | IO[bytes], *, sums: Sums, condition: Condition
    ) -> str:
        """One put; the etag of the new object.

        :raises AlreadyExists, Conflict: the condition does not hold.
        """
        mark = uuid4().hex if condition.headers else ""

        def call() -> dict[str, Any]:
            if not isinstance(body, bytes):
                body.seek(0)
            return self.connection.call(
                "put_object",
                what,
                Bucket=self.objects.bucket,
                Key=key,
                Body=body,
                Metadata={MARK: mark} if mark else {},
                **sums.headers(),
                **condition.headers,
            )

        answer = self.decided(call, key, what, mark=mark, condition=condition)
        if answer is None:
            return ""
        self.compare(answer, sums, what)
        return etag_of(answer)

    def delete(self, key: str, name: str, condition: Condition) -> None:
        """As ``BackingDriver.delete``.

        One on a condition is not repeated if its answer was lost: that it is gone does not say who
        removed it.  (aiohttp may repeat it all the same, and then a conflict is reported, with the
        object gone.)
        """
        what = repr(name)

        def call() -> dict[str, Any]:
            place = {"Bucket": self.objects.bucket, "Key": key}
            return self.connection.call("delete_object", what, **place, **condition.headers)

        attempts = self.patience.begin()
        while True:
            try:
                call()
                return
            except (Conflict, NotFound) as error:
                if condition.if_match is None:
                    if isinstance(error, NotFound):
                        return
                    raise
                raise missed(error, if_absent=False, what=what) from error
            except Unavailable as error:
                if condition.headers and not error.unapplied:
                    raise
                wait_after(error, attempts)

    def decided(
        self,
        call: Callable[[], dict[str, Any]],
        key: str,
        what: str,
        *,
        mark: str,
        condition: Condition,
    ) -> dict[str, Any] | None:
        """Repeat a write until it is known what became of it.

        :return: the answer; ``None`` if it was lost, and the object is found to be ours.
        """
        attempts = self.patience.begin()
        while True:
            try:
                return call()
            except (Conflict, NotFound) as error:
                # Also after what seems to be the first attempt: aiohttp sends a PUT again by
                # itself if a connection that was kept open ends before the answer.
                if mark and self._is_ours(key, what, mark):
                    return None
                if isinstance(error, NotFound) and condition.if_match is None:
                    raise
                raise missed(error, if_absent=condition.if_absent, what=what) from error
            except KVFSError as error:
                wait_after(error, attempts)

    def _is_ours(self, key: str, what: str, mark: str) -> bool:
        try:
            found = repeated(lambda: self.objects.head(key, what), self.patience)
        except NotFound:
            return False
        return found.metadata.get(MARK) == mark

    def compare(self, answer: dict[str, Any], sums: Sums, what: str) -> None:
        """Did the bytes arrive that were sent, as far as the server says?

        :raises Corrupt: they did not.
        """
        if self.verify and is_md5(answer) and etag_of(answer) != sums.md5.digest().hex():
            raise Corrupt(f"s3: {what}: the server stored other bytes than were sent: write again")


class Sums:
    """The checksums that are sent with bytes: MD5, which nearly all servers compare, and CRC-32,
    which the better ones keep."""

    def __init__(self, data: bytes | bytearray | memoryview = b"") -> None:
        self.md5 = Checksum("md5")
        self.crc32 = Checksum("crc32")
        self.update(data)

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """The next bytes."""
        self.md5.update(data)
        self.crc32.update(data)

    def headers(self) -> dict[str, str]:
        """As parameters of a put."""
        return {
            "ContentMD5": encoded(self.md5.digest()),
            "ChecksumCRC32": encoded(self.crc32.digest()),
        }


def encoded(digest: bytes) -> str:
    """A digest as headers have it."""
    return base64.b64encode(digest).decode()
