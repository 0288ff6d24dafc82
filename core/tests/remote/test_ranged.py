"""Objects read in ranges: in order, resumed, pinned, bounded, and ended at once."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock

import attrs
import pytest

from kvfs.backing.remote.checksums import ALGORITHMS, Algorithm, Checksum
from kvfs.backing.remote.ranged import FIRST_BYTES, Chunks, Pieces, RangedReader, read_range
from kvfs.errors import Closed, Corrupt, KVFSError, Stale, Unavailable
from kvfs.patience import Patience

DATA = random.Random(4).randbytes(1_000_003)
CHUNK = 10_000
QUICK = Patience(attempts=3, sleep=lambda seconds: None)
SMALL = Pieces(size=64 << 10, ahead=4)


@attrs.define
class Server:
    """Answers in chunks of :data:`CHUNK`, and counts."""

    data: bytes = DATA
    breaks_at: set[int] = attrs.field(factory=set)
    """An answer that comes by one of these bytes ends there, once."""
    asked: list[tuple[int, int]] = attrs.field(factory=list)
    open: int = 0
    lock: Lock = attrs.field(factory=Lock)

    def fetch(self, start: int, stop: int) -> Chunks:
        with self.lock:
            self.asked.append((start, stop))
            self.open += 1
        return self._chunks(start, stop)

    def _chunks(self, start: int, stop: int) -> Generator[bytes, None, None]:
        try:
            while start < stop:
                end = min(stop, start + CHUNK)
                with self.lock:
                    cut = min((at for at in self.breaks_at if start <= at < end), default=None)
                    self.breaks_at -= {cut}
                if cut is not None:
                    if cut > start:
                        yield self.data[start:cut]
                    raise Unavailable("cut")
                yield self.data[start:end]
                start = end
        finally:
            with self.lock:
                self.open -= 1


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def reader(
    server: Server,
    pool: ThreadPoolExecutor,
    start: int = 0,
    *,
    pieces: Pieces = SMALL,
    checksum: Checksum | None = None,
) -> RangedReader:
    return RangedReader(
        server.fetch,
        start,
        len(server.data),
        pool=pool,
        pieces=pieces,
        patience=QUICK,
        what="it",
        checksum=checksum,
    )


def _until(error: type[KVFSError], stream: RangedReader) -> bytes:
    """What comes before the error, which has to come."""
    found = b""
    try:
        while part := stream.read(1000):
            found += part
    except error:
        return found
    raise AssertionError(f"the stream ended without {error.__name__}")


@pytest.mark.parametrize("start", [0, 1, 65_536, len(DATA) - 1, len(DATA), len(DATA) + 5])
@pytest.mark.parametrize("step", [777, 100_000, -1])
def test_bytes_come_in_order(pool: ThreadPoolExecutor, start: int, step: int) -> None:
    server = Server()
    with reader(server, pool, start) as stream:
        found = b"".join(iter(lambda: stream.read(step), b""))
        assert stream.read(1) == b""
    assert found == DATA[start:]
    covered = sorted(server.asked)
    assert [left for left, _ in covered[1:]] == [right for _, right in covered[:-1]]


def test_readinto(pool: ThreadPoolExecutor) -> None:
    buffer = bytearray(7)
    with reader(Server(), pool) as stream:
        assert stream.readinto(buffer) == 7
        assert bytes(buffer) == DATA[:7]
        assert stream.tell() == 7


def test_broken_answers_go_on_where_they_broke_off(pool: ThreadPoolExecutor) -> None:
    cuts = {*random.Random(1).sample(range(len(DATA)), 50), 0, 65_536, len(DATA) - 1}
    server = Server(breaks_at={*cuts})
    with reader(server, pool) as stream:
        assert stream.read() == DATA
    assert cuts <= {start for start, _ in server.asked}, "each goes on at its cut"
    assert len(server.asked) < 50 + 20 + len(cuts)


def test_answer_that_ends_too_early_is_asked_for_again() -> None:
    asked = []

    def fetch(start: int, stop: int) -> Generator[bytes, None, None]:
        asked.append(start)
        yield DATA[start : min(stop, start + 300)]

    assert read_range(fetch, 100, 1000, patience=QUICK, what="it") == DATA[100:1000]
    assert asked == [100, 400, 700]


def test_patience_ends(pool: ThreadPoolExecutor) -> None:
    asked = []

    def fetch(start: int, stop: int) -> Generator[bytes, None, None]:
        asked.append(start)
        yield from _down()

    stream = RangedReader(fetch, 0, 10, pool=pool, pieces=SMALL, patience=QUICK, what="it")
    for _ in range(2):
        with pytest.raises(Unavailable, match="down"):
            stream.read(1)
    assert asked == [0, 0, 0]


def test_more_than_was_asked_for_is_refused() -> None:
    with pytest.raises(Corrupt):
        read_range(lambda start, stop: _at_once(DATA), 0, 10, patience=QUICK, what="it")


def _down() -> Iterator[bytes]:
    raise Unavailable("down")


def _at_once(data: bytes) -> Generator[bytes, None, None]:
    yield data


def test_another_version_is_never_mixed_in(pool: ThreadPoolExecutor) -> None:
    server = Server()
    changed = Event()

    def fetch(start: int, stop: int) -> Chunks:
        if changed.is_set():
            raise Stale("replaced")
        return server.fetch(start, stop)

    stream = RangedReader(fetch, 0, len(DATA), pool=pool, pieces=SMALL, patience=QUICK, what="it")
    found = stream.read(1000)
    changed.set()
    found += _until(Stale, stream)
    assert DATA.startswith(found)


def test_memory_is_bounded_however_slow_the_reader_is(pool: ThreadPoolExecutor) -> None:
    """What was fetched and not read is at most ``ahead`` pieces."""
    server = Server()
    position = 0
    with reader(server, pool) as stream:
        while part := stream.read(5_000):
            position += len(part)
            with server.lock:
                asked = max(stop for _, stop in server.asked)
            assert asked - position <= SMALL.ahead * SMALL.size
    assert position == len(DATA)


def test_a_look_at_the_beginning_is_cheap(pool: ThreadPoolExecutor) -> None:
    server = Server(data=bytes(10 * FIRST_BYTES))
    with reader(server, pool, pieces=Pieces()) as stream:
        assert server.asked == []
        stream.read(512)
    assert server.asked == [(0, FIRST_BYTES)]


def test_close_ends_everything(pool: ThreadPoolExecutor) -> None:
    """Also what waits for a server that says nothing more."""
    arrived, silent = Event(), Event()
    ended = Event()

    def fetch(start: int, stop: int) -> Generator[bytes, None, None]:
        try:
            yield DATA[start : start + 1]
            arrived.set()
            silent.wait(30)
            yield DATA[start + 1 : start + 2]
            raise AssertionError("nobody wants more")
        finally:
            ended.set()

    stream = RangedReader(fetch, 0, 100, pool=pool, pieces=SMALL, patience=QUICK, what="it")
    assert stream.read(10) == DATA[:1]
    assert arrived.wait(30)
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(stream.read, 10)
        stream.close()
        with pytest.raises((Closed, ValueError)):
            waiting.result(30)
    silent.set()
    assert ended.wait(30)
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


def test_close_ends_the_wait_before_a_repetition(pool: ThreadPoolExecutor) -> None:
    tried = Event()

    def fetch(start: int, stop: int) -> Generator[bytes, None, None]:
        tried.set()
        yield from _down()

    patience = Patience(attempts=2, delay_first_s=3600, delay_max_s=3600, total_s=1e6)
    stream = RangedReader(fetch, 0, 10, pool=pool, pieces=SMALL, patience=patience, what="it")
    with ThreadPoolExecutor(1) as other:
        waiting = other.submit(stream.read, 10)
        assert tried.wait(30)
        stream.close()
        with pytest.raises((Closed, ValueError, Unavailable)):
            waiting.result(30)


def test_store_closed_under_a_reader() -> None:
    pool = ThreadPoolExecutor(1)
    stream = reader(Server(), pool)
    assert stream.read(5) == DATA[:5]
    pool.shutdown(cancel_futures=True)
    with pytest.raises(Closed):
        stream.read(-1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_is_compared_before_the_last_bytes(
    pool: ThreadPoolExecutor, algorithm: Algorithm
) -> None:
    right = Checksum(algorithm)
    right.update(DATA)
    if algorithm != "crc32":
        assert right.digest() == hashlib.new(algorithm, DATA).digest()
    with reader(Server(), pool, checksum=Checksum(algorithm, right.digest())) as stream:
        assert stream.read() == DATA
    damaged = bytearray(DATA)
    damaged[500_000] ^= 1
    server = Server(data=bytes(damaged))
    with reader(server, pool, checksum=Checksum(algorithm, right.digest())) as stream:
        assert len(_until(Corrupt, stream)) < len(DATA)
    with reader(server, pool, 1, checksum=Checksum(algorithm, right.digest())) as stream:
        assert stream.read() == damaged[1:], "a part has no checksum"
