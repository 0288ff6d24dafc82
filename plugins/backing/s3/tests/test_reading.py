"""Reads from a server on bad days: resumed, pinned, compared."""

from __future__ import annotations

import hashlib
import os

import pytest

from kvfs.errors import Corrupt, Stale, Unavailable
from kvfs.testing.servers.faults import Fault, FaultyProxy, Request

from .support import Bucket

DATA = hashlib.shake_128(b"reading").digest(3_000_000)


def _is_get(request: Request) -> bool:
    return request.method == "GET" and "range" in request.headers


def test_read_that_breaks_off_goes_on_where_it_was(bucket: Bucket, proxy: FaultyProxy) -> None:
    """Not from its beginning; what the client had not handed over yet is asked for again."""
    bucket.write("a", DATA)
    with bucket.open(endpoint=proxy.endpoint, writable=False, pieces_ahead=1) as store:
        with proxy.fault(Fault(when=_is_get, cut_after=2_000_000)):
            assert store.read("a", 5, 2_900_000) == DATA[5:2_900_000]
        first, second = (_start(request) for request in proxy.requests if _is_get(request))
        assert first == 5
        assert 2_000_005 - (1 << 20) < second <= 2_000_005
        fault = Fault(when=_is_get, cut_after=200_000, times=5)
        with proxy.fault(fault), store.open_reader("a") as stream:
            assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == DATA


def _start(request: Request) -> int:
    return int(request.headers["range"].removeprefix("bytes=").partition("-")[0])


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, code="SlowDown", headers={"Retry-After": "0"}, times=2),
        Fault(status=500),
        Fault(lost=True),
        Fault(cut_after=0),
    ],
    ids=["SlowDown", "500", "lost", "cut"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_reads_are_repeated(bucket: Bucket, proxy: FaultyProxy, fault: Fault, method: str) -> None:
    if method == "HEAD" and fault.cut_after is not None:
        fault = Fault(lost=True)
    bucket.write("a", b"data")
    with bucket.open(endpoint=proxy.endpoint, writable=False) as store:
        fault.when = lambda request: request.method == method
        fault.hits = 0
        with proxy.fault(fault):
            assert store.stat("a").size == 4
            assert [info.name for info in store.list()] == ["a"]
            with store.open_reader("a") as stream:
                assert stream.read(9) == b"data"


def test_server_that_says_nothing_more(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("a", DATA)
    with bucket.open(endpoint=proxy.endpoint, writable=False, timeout="1 s") as store:
        with proxy.fault(Fault(when=_is_get, stall=True)):
            assert store.read("a", 0, len(DATA)) == DATA
        fault = Fault(when=_is_get, stall=True, times=None)
        with proxy.fault(fault), pytest.raises(Unavailable):
            store.read("a", 0, len(DATA))
        assert fault.hits == 4


def test_wrong_bytes_are_noticed(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("a", DATA)
    with bucket.open(endpoint=proxy.endpoint, writable=False) as store:
        with proxy.fault(Fault(when=_is_get, corrupt=True)), pytest.raises(Corrupt, match="md5"):
            store.read("a", 0, len(DATA))
        with (
            proxy.fault(Fault(when=_is_get, corrupt=True)),
            store.open_reader("a") as stream,
            pytest.raises(Corrupt, match="md5"),
        ):
            [*iter(lambda: stream.read(1 << 20), b"")]
    with (
        bucket.open(endpoint=proxy.endpoint, writable=False, verify=False) as store,
        proxy.fault(Fault(when=_is_get, corrupt=True)),
    ):
        assert store.read("a", 0, len(DATA)) != DATA


@pytest.mark.parametrize("change", ["replaced", "deleted", "shorter"])
def test_versions_are_never_mixed(bucket: Bucket, change: str) -> None:
    bucket.write("a", DATA)
    with bucket.open(writable=False) as store, store.open_reader("a") as stream:
        found = stream.read(1000)
        if change == "deleted":
            bucket.client.delete_object(Bucket=bucket.name, Key="a")
        else:
            bucket.write("a", DATA[::-1] if change == "replaced" else b"short")
        with pytest.raises(Stale, match="'a'"):
            [*iter(lambda: stream.read(1 << 20), b"")]
        assert DATA.startswith(found)


def test_version_is_compared_where_the_server_does_not(bucket: Bucket, proxy: FaultyProxy) -> None:
    """rclone ignores ``If-Match`` in a GET: the etag of each answer counts."""
    bucket.write("a", DATA)
    answer = {"ETag": '"another"', "Content-Range": f"bytes 0-3/{len(DATA)}"}
    with bucket.open(endpoint=proxy.endpoint, writable=False) as store:
        stream = store.open_reader("a")
        with (
            proxy.fault(Fault(when=_is_get, status=206, headers=answer)),
            pytest.raises(Stale),
        ):
            stream.read(10)
        stream.close()


def test_a_fork_reads_with_connections_of_its_own(bucket: Bucket) -> None:
    bucket.write("a", DATA)
    with bucket.open(writable=False) as store:
        assert store.read("a", 0, len(DATA)) == DATA
        child = os.fork()
        if child == 0:
            try:
                with store.open_reader("a") as stream:
                    found = b"".join(iter(lambda: stream.read(1 << 20), b""))
                os._exit(0 if found == DATA else 1)
            finally:
                os._exit(2)
        assert store.read("a", 0, len(DATA)) == DATA
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.read("a", 0, len(DATA)) == DATA


def test_store_closed_under_a_reader_that_waits(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("a", DATA)
    store = bucket.open(endpoint=proxy.endpoint, writable=False)
    stream = store.open_reader("a")
    assert DATA.startswith(stream.read(1000))
    store.close()
    with pytest.raises(Exception, match="closed"):
        [*iter(lambda: stream.read(1 << 20), b"")]
