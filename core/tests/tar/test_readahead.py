"""Reading ahead in a thread: order, errors, bounds, shutdown."""

from __future__ import annotations

import gzip
import io
import os
import threading

import pytest

from kvfs.errors import Closed, Corrupt, Invalid, KVFSError, Unavailable
from kvfs.tar import ReadAhead, open_tar_stream

from .support import END, Dribble, drain, entry, read_archive

MIB = 1 << 20


def test_the_bytes_are_the_same() -> None:
    data = os.urandom(5 * MIB + 17)
    with ReadAhead(Dribble(data, 300_000), buffer_bytes=2 * MIB) as stream:
        got = b"".join(drain(stream, 123_457))
        assert stream.read(1) == b""
    assert got == data


def test_an_archive_is_read_through_it() -> None:
    bodies = [os.urandom(30_000) for _ in range(100)]
    packed = gzip.compress(b"".join(entry(b"f", body) for body in bodies) + END, 1)
    with ReadAhead(open_tar_stream(Dribble(packed, 99_999))[0]) as stream:
        archive = read_archive(stream)
    assert archive.bodies == bodies


def test_the_end_is_verified_through_it() -> None:
    packed = bytearray(gzip.compress(entry(b"f") + END))
    packed[-6] ^= 1
    with ReadAhead(open_tar_stream(Dribble(bytes(packed)))[0]) as stream, pytest.raises(Corrupt):
        read_archive(stream)


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error
        self.data = io.BytesIO(b"x" * 3000)

    def read(self, size: int, /) -> bytes:
        if piece := self.data.read(1000):
            return piece
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Corrupt("bad"), Corrupt), (OSError("gone"), Unavailable), (RuntimeError("?"), Unavailable)],
)
def test_errors_come_in_their_place(error: Exception, kind: type[KVFSError]) -> None:
    with ReadAhead(Failing(error)) as stream:
        got: list[bytes] = []
        with pytest.raises(kind) as raised:
            got.extend(drain(stream, 700))
        assert b"".join(got) == b"x" * 3000
        with pytest.raises(kind):
            stream.readinto(memoryview(bytearray(1)))
    assert raised.value is error or raised.value.__cause__ is error


def test_it_reads_no_further_than_its_buffer() -> None:
    class Endless:
        total = 0
        reached = threading.Event()

        def read(self, size: int, /) -> bytes:
            self.total += size
            if self.total >= 4 * MIB:
                self.reached.set()
            return bytes(size)

    endless = Endless()
    with ReadAhead(endless, buffer_bytes=4 * MIB) as stream:
        assert endless.reached.wait(10)
        assert len(stream.read(10)) == 10
    # Three chunks queued, one made and waiting, and room for the one that was taken.
    assert endless.total <= 5 * MIB


def test_closing_stops_the_thread_and_is_final() -> None:
    stream = ReadAhead(Dribble(bytes(50 * MIB), MIB))
    stream.read(10)
    stream.close()
    stream.close()
    with pytest.raises(Closed):
        stream.read(1)
    assert not any(thread.name == "kvfs-tar-read-ahead" for thread in threading.enumerate())


def test_it_needs_room() -> None:
    with pytest.raises(Invalid):
        ReadAhead(Dribble(b""), buffer_bytes=MIB)
