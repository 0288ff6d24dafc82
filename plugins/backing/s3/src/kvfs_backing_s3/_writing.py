"""Objects written as streams: in one request, or in parts that become the object at the end.

Three ways, by what the server keeps to:

- small objects: one put;
- larger ones: an upload in parts, completed on the condition;
- larger ones on a condition that the server keeps to only in a plain put (Ceph): kept in a
  temporary file, then put at once.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from logging import getLogger
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from uuid import uuid4

from kvfs.backing.remote.checksums import Checksum
from kvfs.backing.remote.retries import repeated
from kvfs.errors import Exhausted, KVFSError, NotFound
from kvfs_backing_s3._publishing import MARK, Condition, Publisher, Sums, encoded

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

log = getLogger(__name__)

PUT_BYTES_MAX = 5 << 30
"""Of S3, for one request."""
PARTS_MAX = 10_000
"""Of S3, for one object."""
_PARTS_OF_A_SIZE = 970
"""After so many the parts become twice as large, so that 5 MiB parts reach 5 TiB."""


@contextmanager
def writing(publisher: Publisher, key: str, name: str, condition: Condition) -> Iterator[BinaryIO]:
    """As ``BackingDriver.open_writer``."""
    writer = Writer(publisher, key, repr(name), condition)
    try:
        yield cast(BinaryIO, writer)
        writer.publish()
    finally:
        writer.drop()


class Writer(io.RawIOBase):
    """One object being written.  Holds at most two parts in memory."""

    def __init__(self, publisher: Publisher, key: str, what: str, condition: Condition) -> None:
        super().__init__()
        self._publisher = publisher
        self._key = key
        self._what = what
        self._condition = condition
        self._buffer = bytearray()
        self._written = 0
        self._upload: Upload | None = None
        self._spool: IO[bytes] | None = None
        self._sums = Sums()
        publisher.connection.check()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: ReadableBuffer) -> int:
        """Append all of ``data``.

        :raises Exhausted: larger than the server takes.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        with memoryview(data).cast("B") as view:
            for start in range(0, len(view), self._publisher.part_bytes):
                self._append(view[start : start + self._publisher.part_bytes])
            return len(view)

    def _append(self, data: memoryview) -> None:
        self._written += len(data)
        if self._spool is not None:
            if self._written > PUT_BYTES_MAX:
                raise Exhausted(
                    f"s3: {self._what}: this server keeps to conditions only in one request, and "
                    "that has at most 5 GiB: write it without a condition"
                )
            self._sums.update(data)
            self._spool.write(data)
            return
        self._buffer += data
        if self._upload is None and len(self._buffer) > self._publisher.part_bytes:
            if self._publisher.in_parts(self._condition):
                self._upload = Upload(self._publisher, self._key, self._what, self._condition)
            else:
                self._begin_spool()
        while self._upload is not None and len(self._buffer) > self._upload.part_bytes:
            size = self._upload.part_bytes
            self._upload.add(bytes(memoryview(self._buffer)[:size]))
            del self._buffer[:size]

    def _begin_spool(self) -> None:
        self._spool = tempfile.TemporaryFile(prefix="kvfs-s3-")  # noqa: SIM115 - closed in drop
        self._sums.update(self._buffer)
        self._spool.write(self._buffer)
        self._buffer.clear()

    def publish(self) -> None:
        """Make it the object."""
        if self._upload is not None:
            self._upload.add(bytes(self._buffer))
            self._upload.complete()
            self._upload = None
            return
        data: bytes | IO[bytes] = bytes(self._buffer) if self._spool is None else self._spool
        sums = Sums(self._buffer) if self._spool is None else self._sums
        self._publisher.put(self._key, self._what, data, sums=sums, condition=self._condition)

    def drop(self) -> None:
        """Leave nothing behind: of a published object, nothing but that."""
        self._buffer.clear()
        if self._spool is not None:
            self._spool.close()
        if self._upload is not None:
            self._upload.abort()
            self._upload = None
        self.close()


class Upload:
    """An upload in parts.  One part is on its way while the next one is filled."""

    def __init__(self, publisher: Publisher, key: str, what: str, condition: Condition) -> None:
        self._publisher = publisher
        self._what = what
        self._condition = condition
        self._mark = uuid4().hex
        self._place: dict[str, Any] = {"Bucket": publisher.objects.bucket, "Key": key}
        answer = self._repeated(
            "create_multipart_upload",
            Metadata={MARK: self._mark},
            ChecksumAlgorithm="CRC32",
            ChecksumType="FULL_OBJECT",
        )
        self._place["UploadId"] = answer["UploadId"]
        self._parts: list[dict[str, Any]] = []
        self._sending: Future[dict[str, Any]] | None = None
        self._crc32 = Checksum("crc32")

    def _repeated(self, method: str, **parameters: Any) -> dict[str, Any]:
        publisher = self._publisher
        return repeated(
            lambda: publisher.connection.call(method, self._what, **self._place, **parameters),
            publisher.patience,
        )

    @property
    def part_bytes(self) -> int:
        """Of the next part."""
        return self._publisher.part_bytes << (len(self._parts) // _PARTS_OF_A_SIZE)

    def add(self, data: bytes) -> None:
        """Send the next part, as soon as the one before has arrived."""
        self._wait()
        if len(self._parts) >= PARTS_MAX:
            raise Exhausted(f"s3: {self._what}: larger than the server takes")
        self._sending = self._publisher.connection.pool.submit(
            self._send, len(self._parts) + 1, data
        )

    def _send(self, number: int, data: bytes) -> dict[str, Any]:
        sums = Sums(data)
        answer = self._repeated("upload_part", PartNumber=number, Body=data, **sums.headers())
        self._publisher.compare(answer, sums, self._what)
        self._crc32.update(data)
        part = {"PartNumber": number, "ETag": answer["ETag"]}
        if "ChecksumCRC32" in answer:
            part["ChecksumCRC32"] = answer["ChecksumCRC32"]
        return part

    def _wait(self) -> None:
        if self._sending is not None:
            sending, self._sending = self._sending, None
            self._parts.append(sending.result())

    def complete(self) -> None:
        """Make the parts the object.

        :raises AlreadyExists, Conflict: the condition does not hold.
        """
        self._wait()
        publisher = self._publisher
        kept = all("ChecksumCRC32" in part for part in self._parts)
        checksum = {"ChecksumCRC32": encoded(self._crc32.digest())} if kept else {}
        publisher.decided(
            lambda: publisher.connection.call(
                "complete_multipart_upload",
                self._what,
                **self._place,
                MultipartUpload={"Parts": self._parts},
                **checksum,
                **self._condition.headers,
            ),
            self._place["Key"],
            self._what,
            mark=self._mark,
            condition=self._condition,
        )

    def abort(self) -> None:
        """Have the server drop the parts that it has."""
        if self._sending is not None:
            self._sending.cancel()
            try:
                self._sending.result()
            except BaseException as error:
                log.debug("a part of %s, which is not wanted any more: %s", self._what, error)
        try:
            self._repeated("abort_multipart_upload")
        except NotFound:
            pass
        except KVFSError as error:
            log.warning(
                "the parts of %s are left behind, and cost space until they are removed: %s",
                self._what,
                error,
            )
