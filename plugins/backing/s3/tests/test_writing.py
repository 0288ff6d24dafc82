"""Uploads: in parts, whole, checked, repeated, and nothing left behind."""

from __future__ import annotations

import base64
import hashlib

import pytest

from kvfs.backing import BackingStore
from kvfs.errors import Corrupt, KVFSError, PermissionDenied, Unavailable
from kvfs.testing.servers.faults import Fault, FaultyProxy, Request
from kvfs_backing_s3 import _writing
from kvfs_backing_s3._driver import S3Driver
from kvfs_backing_s3._publishing import Sums

from .support import Bucket

PART = 5 << 20
SIZES = [PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1]
DATA = hashlib.shake_128(b"writing").digest(2 * PART + 1)


@pytest.mark.parametrize("size", SIZES)
def test_sizes_around_parts(bucket: Bucket, size: int) -> None:
    with bucket.open() as store:
        store.write("a", DATA[:size])
        assert bucket.read("a") == DATA[:size]
        with store.open_reader("a") as stream:
            assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == DATA[:size]
    assert bucket.uploads() == []


def test_parts_grow_so_that_the_largest_object_fits() -> None:
    total = sum(
        PART << (number // _writing._PARTS_OF_A_SIZE) for number in range(_writing.PARTS_MAX)
    )
    assert total >= 5 << 40
    assert PART << ((_writing.PARTS_MAX - 1) // _writing._PARTS_OF_A_SIZE) <= 5 << 30


def _is_part(request: Request) -> bool:
    return "partNumber=" in request.path


def test_each_request_has_its_checksums(bucket: Bucket, proxy: FaultyProxy) -> None:
    with bucket.open(endpoint=proxy.endpoint, conditional="no") as store:
        store.write("a", DATA)
        store.write("b", b"small")
    puts = [request for request in proxy.requests if request.method == "PUT"]
    assert len(puts) == 4
    sent = [DATA[:PART], DATA[PART : 2 * PART], DATA[2 * PART :], b"small"]
    for request, data in zip(puts, sent, strict=True):
        md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
        assert request.headers["content-md5"] == md5
        assert request.headers["x-amz-checksum-crc32"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, code="SlowDown", headers={"Retry-After": "0"}, times=2),
        Fault(status=500, code="InternalError"),
        Fault(status=429),
        Fault(lost=True),
    ],
    ids=["SlowDown", "500", "429", "lost"],
)
def test_writes_are_repeated(bucket: Bucket, proxy: FaultyProxy, fault: Fault) -> None:
    with bucket.open(endpoint=proxy.endpoint, conditional="no") as store:
        for data in (DATA, b"small"):
            fault.hits = 0
            fault.when = lambda request: request.method == "PUT"
            with proxy.fault(fault):
                store.write("a", data)
            assert bucket.read("a") == data
        fault.hits = 0
        fault.when = lambda request: request.method == "DELETE"
        with proxy.fault(fault):
            store.delete("a")
    assert bucket.names() == bucket.uploads() == []


@pytest.mark.parametrize("where", ["part", "completion"])
def test_failed_upload_leaves_nothing(bucket: Bucket, proxy: FaultyProxy, where: str) -> None:
    bucket.write("a", b"old")

    def is_it(request: Request) -> bool:
        return (
            _is_part(request)
            if where == "part"
            else "uploadId=" in request.path and (request.method == "POST")
        )

    fault = Fault(when=is_it, status=403, code="AccessDenied", times=None)
    with bucket.open(endpoint=proxy.endpoint, conditional="no") as store:
        with proxy.fault(fault), pytest.raises(PermissionDenied):
            store.write("a", DATA)
        assert bucket.read("a") == b"old"
        assert bucket.uploads() == []


def _interrupted(store: BackingStore, error: type[BaseException]) -> None:
    with store.open_writer("a") as stream:
        stream.write(DATA)
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_body_leaves_nothing(bucket: Bucket, error: type[BaseException]) -> None:
    with bucket.open(conditional="no") as store:
        with pytest.raises(error):
            _interrupted(store, error)
        assert bucket.names() == bucket.uploads() == []


def test_bytes_damaged_on_their_way(bucket: Bucket) -> None:
    """Moto compares nothing, and stores what it gets; what it says that it has is compared."""
    with bucket.open(conditional="no") as store:
        assert isinstance(store.driver, S3Driver)
        publisher = store.driver._publisher
        right = {"ETag": f'"{hashlib.md5(b"data").hexdigest()}"'}
        wrong = {"ETag": f'"{hashlib.md5(b"damaged").hexdigest()}"'}
        publisher.compare(right, Sums(b"data"), "a")
        publisher.compare(wrong | {"ServerSideEncryption": "aws:kms"}, Sums(b"data"), "a")
        with pytest.raises(Corrupt, match="other bytes"):
            publisher.compare(wrong, Sums(b"data"), "a")


def test_write_fails_when_the_server_stays_away(bucket: Bucket, proxy: FaultyProxy) -> None:
    with bucket.open(endpoint=proxy.endpoint, conditional="no") as store:
        fault = Fault(when=lambda request: request.method == "PUT", status=500, times=None)
        with proxy.fault(fault), pytest.raises(Unavailable) as caught:
            store.write("a", b"data")
    assert isinstance(caught.value, KVFSError)
    assert fault.hits == 4
