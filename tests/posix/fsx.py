"""Random changes of one file, by every call that can change it, compared with bytes in memory.

After the idea of fsx, the file system exerciser.  What was read comes from the page cache or from
the file system in turn; a failure names the seed and the calls that led to it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from random import Random

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
_LAST_CALLS = 40
_LIBC = ctypes.CDLL(None, use_errno=True)
_OFF = ctypes.c_int64


def _fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    if _LIBC.fallocate(fd, mode, _OFF(offset), _OFF(length)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Checker:
    """A file, and what has to be in it.

    :param size_max: the file stays below, in bytes.
    :param piece_max: what one call changes at most, in bytes.
    :param holds: what is in it already; by default it is made.
    """

    def __init__(
        self, path: Path, seed: int, *, size_max: int, piece_max: int, holds: bytes | None = None
    ) -> None:
        self._path = path
        self._random = Random(seed)
        self._seed = seed
        self._size_max = size_max
        self._piece_max = piece_max
        self._expected = bytearray(holds or b"")
        making = os.O_CREAT | os.O_EXCL if holds is None else 0
        self._fd = os.open(path, os.O_RDWR | making, 0o600)
        self._calls: deque[str] = deque(maxlen=_LAST_CALLS)

    def run(self, count: int) -> None:
        """So many calls.

        :raises AssertionError: what is in the file is not what was put there.
        """
        changes: list[Callable[[], None]] = [
            self._write, self._write, self._append, self._truncate, self._mapped, self._mapped,
            self._punch, self._zero, self._allocate, self._copy, self._reopen, self._drop,
        ]  # fmt: skip
        for number in range(count):
            self._random.choice(changes)()
            self._check_piece()
            if number % 50 == 0:
                self.check()
        self.check()

    def close(self) -> None:
        """Let go of the file; it stays."""
        os.close(self._fd)

    def check(self) -> None:
        """Compare all of it, by a file descriptor of its own."""
        found = self._path.read_bytes()
        self._compare(found, 0, len(self._expected))

    # -- choosing and comparing --------------------------------------------------------------------

    def _said(self, call: str) -> None:
        self._calls.append(call)

    def _range(self) -> tuple[int, int]:
        """Offset and length, often at the borders of pages and extents."""
        offset = self._random.randrange(self._size_max)
        if self._random.random() < 0.4:
            offset &= ~((1 << self._random.randrange(9, 18)) - 1)
        length = self._random.randrange(1, self._piece_max)
        if self._random.random() < 0.4:
            length = min(1 << self._random.randrange(18), self._piece_max)
        return offset, min(length, self._size_max - offset)

    def _inside(self) -> tuple[int, int]:
        """A range of the file; of no bytes if it is empty."""
        offset, length = self._range()
        offset = min(offset, max(len(self._expected) - 1, 0))
        return offset, min(length, len(self._expected) - offset)

    def _data(self, length: int) -> bytes:
        return self._random.randbytes(length)

    def _put(self, offset: int, data: bytes) -> None:
        self._grow(offset)
        self._expected[offset : offset + len(data)] = data

    def _grow(self, size: int) -> None:
        self._expected.extend(bytes(max(size - len(self._expected), 0)))

    def _check_piece(self) -> None:
        size = os.fstat(self._fd).st_size
        assert size == len(self._expected), self._failure(f"{size} bytes")
        offset, length = self._inside()
        self._compare(os.pread(self._fd, length, offset), offset, length)

    def _compare(self, found: bytes, offset: int, length: int) -> None:
        expected = self._expected[offset : offset + length]
        if found != expected:
            pairs = zip(found, expected, strict=False)
            at = next((n for n, (one, other) in enumerate(pairs) if one != other), len(found))
            raise AssertionError(self._failure(f"something else at {offset + at}"))

    def _failure(self, what: str) -> str:
        calls = "\n".join(self._calls)
        return f"seed {self._seed}: {what}, not {len(self._expected)} bytes as after\n{calls}"

    # -- calls -------------------------------------------------------------------------------------

    def _write(self) -> None:
        offset, length = self._range()
        self._said(f"pwrite {offset}+{length}")
        data = self._data(length)
        assert os.pwrite(self._fd, data, offset) == length
        self._put(offset, data)

    def _append(self) -> None:
        length = min(self._random.randrange(5000), self._size_max - len(self._expected))
        self._said(f"append {length}")
        data = self._data(length)
        fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(fd, data) == length
        finally:
            os.close(fd)
        self._put(len(self._expected), data)

    def _truncate(self) -> None:
        size, _ = self._range()
        self._said(f"ftruncate {size}")
        os.ftruncate(self._fd, size)
        self._grow(size)
        del self._expected[size:]

    def _mapped(self) -> None:
        offset, length = self._inside()
        if not length:
            return
        is_synced = self._random.random() < 0.5
        self._said(f"mmap write {offset}+{length}" + ", msync" * is_synced)
        data = self._data(length)
        with mmap.mmap(self._fd, len(self._expected)) as mapping:
            self._compare(mapping[offset : offset + length], offset, length)
            mapping[offset : offset + length] = data
            if is_synced:
                mapping.flush()
        self._put(offset, data)

    def _punch(self) -> None:
        offset, length = self._range()
        self._said(f"punch {offset}+{length}")
        _fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, offset, length)
        self._clear(offset, length)

    def _zero(self) -> None:
        offset, length = self._range()
        keeps = self._random.random() < 0.5
        self._said(f"zero {offset}+{length}" + ", keep size" * keeps)
        _fallocate(self._fd, ZERO_RANGE | KEEP_SIZE * keeps, offset, length)
        if not keeps:
            self._grow(offset + length)
        self._clear(offset, length)

    def _clear(self, offset: int, length: int) -> None:
        stop = min(offset + length, len(self._expected))
        if stop > offset:
            self._expected[offset:stop] = bytes(stop - offset)

    def _allocate(self) -> None:
        offset, length = self._range()
        keeps = self._random.random() < 0.5
        self._said(f"fallocate {offset}+{length}" + ", keep size" * keeps)
        _fallocate(self._fd, KEEP_SIZE * keeps, offset, length)
        if not keeps:
            self._grow(offset + length)

    def _copy(self) -> None:
        offset, length = self._inside()
        target = self._random.randrange(self._size_max - length)
        if abs(target - offset) < length:
            return  # the two would overlap, which is refused
        self._said(f"copy_file_range {offset}+{length} to {target}")
        done = 0
        while done < length:
            count = os.copy_file_range(
                self._fd, self._fd, length - done, offset + done, target + done
            )
            assert count, self._failure(f"copied {done} of {length}")
            done += count
        if length:
            self._put(target, bytes(self._expected[offset : offset + length]))

    def _reopen(self) -> None:
        self._said("close, open")
        os.close(self._fd)
        self._fd = os.open(self._path, os.O_RDWR)

    def _drop(self) -> None:
        """Have the next read ask the file system, not the page cache."""
        self._said("fsync, fadvise")
        os.fsync(self._fd)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
