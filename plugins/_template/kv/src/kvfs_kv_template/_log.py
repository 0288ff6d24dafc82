"""The log: a file to which whole batches are appended.

=======  =====================================================================================
bytes    meaning
=======  =====================================================================================
8        ``KVFSLOG1``
         then for each batch three big-endian numbers
4        length of the payload
4        CRC-32 of the payload
4        CRC-32 of the eight bytes before
...      payload: for each operation its kind (``R`` range delete, ``D`` delete, ``P`` put), the
         lengths of key and value (4 bytes each, big-endian), the key, the value; of a range
         delete its bounds
=======  =====================================================================================

Example: a put of ``k`` = ``v`` is ``0000000b 8be36b2e d9d10e18 50 00000001 00000001 6b 76``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from kvfs.errors import Closed, Corrupt, Exhausted, KVFSError, PermissionDenied, Unavailable
from kvfs.kv import Batch

MAGIC = b"KVFSLOG1"
_LENGTH = struct.Struct(">II")
_FRAME = struct.Struct(">III")
_OPERATION = struct.Struct(">cII")


def encode(batch: Batch) -> bytes:
    """The payload of a batch, in the order in which it is applied; empty if it does nothing."""
    parts: list[bytes | bytearray | memoryview] = []
    for start, stop in batch.range_deletes:
        parts += (_OPERATION.pack(b"R", len(start), len(stop)), start, stop)
    for key in batch.deletes:
        parts += (_OPERATION.pack(b"D", len(key), 0), key)
    for key, value in batch.puts.items():
        parts += (_OPERATION.pack(b"P", len(key), len(value)), key, value)
    return b"".join(parts)


def decode(payload: bytes) -> Batch:
    """The batch of a payload whose checksum was right."""
    batch = Batch()
    at = 0
    while at < len(payload):
        kind, first, second = _OPERATION.unpack_from(payload, at)
        at += _OPERATION.size
        key = payload[at : at + first]
        value = payload[at + first : at + first + second]
        at += first + second
        if kind == b"R":
            batch.delete_range(key, value)
        elif kind == b"D":
            batch.delete(key)
        else:
            batch.put(key, value)
    return batch


def translated(error: OSError, what: str) -> KVFSError:
    """An error of the operating system, as one of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Exhausted(f"template: {what}: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(f"template: {what}: {error.strerror}")
    return Unavailable(f"template: {what}: {error.strerror}", retryable=False)


class Log:
    """The open file, locked against other processes.  Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Open or make the log.

        :raises Unavailable: another process has it open.
        """
        self.path = path
        self._descriptor: int | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = _open_locked(path)
            self._end = os.fstat(self._descriptor).st_size
            if self._end < len(MAGIC):
                self._begin()
        except OSError as error:
            self.close()
            raise translated(error, str(path)) from error
        except KVFSError:
            self.close()
            raise

    def _fd(self) -> int:
        if self._descriptor is None:
            raise Closed(f"template: {self.path} is closed")
        return self._descriptor

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._end

    def _begin(self) -> None:
        os.ftruncate(self._fd(), 0)
        _write(self._fd(), MAGIC, 0)
        os.fsync(self._fd())
        sync_directory(self.path.parent)
        self._end = len(MAGIC)

    def replay(self) -> Iterator[bytes]:
        """Every payload, from the oldest on; drops what was cut off at the end.

        :raises Corrupt: it is damaged elsewhere.
        """
        with open(os.dup(self._fd()), "rb") as file:
            file.seek(0)
            if file.read(len(MAGIC)) != MAGIC:
                raise Corrupt(f"template: {self.path} is not a log of this engine")
            at = len(MAGIC)
            while frame := file.read(_FRAME.size):
                length = _payload_length(frame)
                payload = file.read(length or 0)
                if not length or len(payload) != length or not _is_intact(frame, payload):
                    self._drop(at, frame + payload, file.read(), cut=length != 0)
                    return
                at += _FRAME.size + length
                yield payload

    def _drop(self, at: int, record: bytes, rest: bytes, *, cut: bool) -> None:
        """Cut the log before a bad record, if it is the last and was never finished.

        What a power cut leaves of it: a part, the whole length with wrong contents, or zeros.
        """
        if any(record + rest) and (rest or not cut):
            raise Corrupt(f"template: {self.path}: bad record at {at} of {self._end}")
        os.ftruncate(self._fd(), at)
        self._end = at

    def append(self, payload: bytes, *, sync: bool) -> None:
        """Add a payload, whole or not at all.

        :param sync: return when it survives a power cut.
        :raises Exhausted: no room; nothing was added.
        """
        fd = self._fd()
        try:
            _write(fd, _frame(payload) + payload, self._end)
            if sync:
                os.fdatasync(fd)
        except OSError as error:
            self._undo()
            raise translated(error, str(self.path)) from error
        self._end += _FRAME.size + len(payload)

    def _undo(self) -> None:
        """Take back what was written of a record; a log that cannot do that is closed."""
        try:
            os.ftruncate(self._fd(), self._end)
            os.fsync(self._fd())
        except OSError:
            self.close()

    def replace(self, payloads: Iterator[bytes]) -> None:
        """Put a new log of these payloads in its place, atomically."""
        fresh_path = self.path.with_suffix(".new")
        fresh_path.unlink(missing_ok=True)
        fresh = Log(fresh_path)
        try:
            for payload in payloads:
                fresh.append(payload, sync=False)
            os.fsync(fresh._fd())
            fresh_path.rename(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            fresh.close()
            raise translated(error, str(fresh_path)) from error
        self.close()
        self._descriptor, self._end = fresh._descriptor, fresh._end

    def close(self) -> None:
        """Bring everything to the disk, unlock and close.  Idempotent."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                os.fsync(descriptor)
            except OSError as error:
                raise translated(error, str(self.path)) from error
            finally:
                os.close(descriptor)


def _frame(payload: bytes) -> bytes:
    length = _LENGTH.pack(len(payload), zlib.crc32(payload))
    return length + zlib.crc32(length).to_bytes(4, "big")


def _payload_length(frame: bytes) -> int | None:
    """How long the payload is; ``None`` if the frame is cut off, 0 if it is wrong."""
    if len(frame) < _FRAME.size:
        return None
    length, _, checksum = _FRAME.unpack(frame)
    return int(length) if zlib.crc32(frame[: _LENGTH.size]) == checksum else 0


def _is_intact(frame: bytes, payload: bytes) -> bool:
    return bool(_FRAME.unpack(frame)[1] == zlib.crc32(payload))


def _open_locked(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock, a compaction may have put another file in its place.
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError as error:
            os.close(descriptor)
            raise Unavailable(f"template: {path} is open elsewhere") from error
        os.close(descriptor)


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def remove_log(path: Path) -> None:
    """Remove a log, and what an interrupted compaction left, for good."""
    try:
        for leftover in (path, path.with_suffix(".new")):
            leftover.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_directory(path.parent)
    except OSError as error:
        raise translated(error, str(path)) from error


def sync_directory(path: Path) -> None:
    """Make a new or renamed entry of a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
