"""A server on a bad day: what is repeated and what is reported; no wrong byte gets through."""

from __future__ import annotations

from typing import Any

import pytest

from kvfs.backing import BackingStore
from kvfs.errors import (
    AlreadyExists,
    Closed,
    Corrupt,
    Invalid,
    KVFSError,
    PermissionDenied,
    Stale,
    Unavailable,
)
from kvfs.testing.backing.base import drain, noise
from kvfs.testing.servers.faults import Fault, FaultyProxy, Request
from kvfs.testing.servers.s3 import Bucket
from kvfs_backing_obstore._driver import ObstoreDriver
from kvfs_backing_obstore._settings import ObstoreSettings

from .support import structured

BIG = noise(3_000_000)


def _open(bucket: Bucket, proxy: FaultyProxy, **settings: Any) -> BackingStore:
    table = {"endpoint": proxy.endpoint, "conditional": "yes", "timeout": 2, "attempts": 4}
    driver = ObstoreDriver(structured(ObstoreSettings, bucket.table(**{**table, **settings})))
    return BackingStore(driver, name="obstore")


def _gets(request: Request) -> bool:
    return request.method == "GET" and "list-type" not in request.path


def _puts(request: Request) -> bool:
    return request.method == "PUT"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, code="SlowDown", headers={"Retry-After": "0"}, times=2),
        Fault(status=500, code="InternalError"),
        Fault(lost=True),
        Fault(stall=True),
        Fault(cut_after=0, times=3),
    ],
    ids=["slow down", "internal error", "lost", "stalled", "cut off"],
)
def test_reads_go_on(bucket: Bucket, proxy: FaultyProxy, fault: Fault) -> None:
    bucket.write("object", BIG)
    fault.when = _gets
    with _open(bucket, proxy, piece="256KiB") as store:
        with proxy.fault(fault):
            assert store.read("object", 1, 2_000_000) == BIG[1:2_000_000]
        fault.hits = 0
        with proxy.fault(fault), store.open_reader("object") as reader:
            assert drain(reader) == BIG


def test_a_read_that_breaks_off_resumes_where_it_was(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("object", BIG)
    with _open(bucket, proxy) as store, proxy.fault(Fault(when=_gets, cut_after=1_000_000)):
        before = len(proxy.requests)
        assert store.read("object", 0, len(BIG)) == BIG
    starts = [
        int(each.headers["range"].removeprefix("bytes=").partition("-")[0])
        for each in proxy.requests[before:]
    ]
    assert starts[0] == 0
    assert 0 < starts[1] <= 1_000_000
    assert len(starts) == 2


def test_it_resumes_at_the_same_version_only(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("object", BIG)

    def replaced(request: Request) -> bool:
        if _gets(request):
            bucket.write("object", BIG[::-1])
        return False

    with _open(bucket, proxy, piece="256KiB") as store:
        reader = store.open_reader("object")
        assert reader.read(1) == BIG[:1]
        proxy.faults.append(Fault(when=replaced))
        with pytest.raises(Stale, match="replaced"):
            drain(reader)


def test_a_wrong_byte_is_noticed(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("object", BIG)
    with _open(bucket, proxy) as store:
        with proxy.fault(Fault(when=_gets, corrupt=True)), pytest.raises(Corrupt, match="md5"):
            store.read("object", 0, len(BIG))
        with (
            proxy.fault(Fault(when=_gets, corrupt=True)),
            store.open_reader("object") as reader,
            pytest.raises(Corrupt, match="verify = false"),
        ):
            drain(reader)
    with _open(bucket, proxy, verify=False) as store, proxy.fault(Fault(when=_gets, corrupt=True)):
        assert store.read("object", 0, len(BIG)) != BIG


@pytest.mark.parametrize("size", [10, 9_000_000], ids=["put", "parts"])
def test_writes_are_repeated_while_the_server_is_busy(
    bucket: Bucket, proxy: FaultyProxy, size: int
) -> None:
    with _open(bucket, proxy) as store:
        with proxy.fault(Fault(when=_puts, status=503, code="SlowDown", times=2)):
            store.write("object", noise(size))
        assert bucket.read("object") == noise(size)
    assert bucket.uploads() == []


@pytest.mark.parametrize("size", [10, 9_000_000], ids=["put", "spooled"])
def test_a_create_whose_answer_is_lost_is_known_to_be_ours(
    bucket: Bucket, proxy: FaultyProxy, size: int
) -> None:
    with _open(bucket, proxy) as store:
        with proxy.fault(Fault(when=_puts, lost=True)):
            store.write("object", noise(size), if_absent=True)
        assert bucket.read("object") == noise(size)
        with proxy.fault(Fault(when=_puts, lost=True)), pytest.raises(AlreadyExists):
            store.write("object", b"other", if_absent=True)
        assert bucket.read("object") == noise(size)


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (Fault(status=403, code="ExpiredToken"), PermissionDenied, "renew"),
        (Fault(status=403, code="SignatureDoesNotMatch"), PermissionDenied, "secret key"),
        (Fault(status=403, code="InvalidAccessKeyId"), PermissionDenied, "access key"),
        (Fault(status=403, code="RequestTimeTooSkewed"), PermissionDenied, "clock"),
        (Fault(status=301, code="PermanentRedirect"), Invalid, "region"),
        (Fault(status=307, code="TemporaryRedirect"), Invalid, "region"),
        (Fault(status=400, code="AuthorizationHeaderMalformed"), Invalid, "region"),
        (Fault(status=503, code="SlowDown", times=None), Unavailable, "busy"),
    ],
    ids=lambda value: value.code if isinstance(value, Fault) else "",
)
def test_what_is_wrong_shows_on_opening(
    bucket: Bucket, proxy: FaultyProxy, fault: Fault, error: type[KVFSError], says: str
) -> None:
    with proxy.fault(fault), pytest.raises(error, match=says) as raised:
        _open(bucket, proxy)
    assert "testtest" not in str(raised.value)
    assert raised.value.__cause__ is not None


def test_failed_parts_are_not_left_behind(bucket: Bucket, proxy: FaultyProxy) -> None:
    def parts(request: Request) -> bool:
        return _puts(request) and "partNumber=2" in request.path

    with (
        _open(bucket, proxy) as store,
        proxy.fault(Fault(when=parts, status=403, code="AccessDenied", times=None)),
        pytest.raises(PermissionDenied),
    ):
        store.write("object", noise(20_000_000))
    assert bucket.uploads() == []
    assert bucket.names() == []


def test_a_store_that_is_closed_ends_its_readers(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("object", BIG)
    store = _open(bucket, proxy)
    reader = store.open_reader("object")
    assert reader.read(10) == BIG[:10]
    store.close()
    with pytest.raises(Closed):
        drain(reader)
