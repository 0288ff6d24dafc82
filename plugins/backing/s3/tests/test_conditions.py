"""Conditions on writes: found out by trying, and kept however large the object is."""

from __future__ import annotations

import pytest

from kvfs.backing.remote.probing import Conditions
from kvfs.errors import AlreadyExists, Conflict, PermissionDenied, Unsupported
from kvfs.testing.servers.faults import Fault, FaultyProxy, Request
from kvfs_backing_s3._driver import S3Driver

from .support import Bucket

LARGE = bytes(range(256)) * 24_000
"""More than a part."""


def _conditions(bucket: Bucket, **settings: object) -> Conditions:
    with bucket.open(**settings) as store:
        assert isinstance(store.driver, S3Driver)
        return store.driver.conditions


def test_what_moto_keeps_to(bucket: Bucket) -> None:
    found = _conditions(bucket)
    assert found == Conditions(create=True, replace=True, delete=True, create_parts=True)
    assert bucket.names() == bucket.uploads() == []


def test_server_that_says_501(bucket: Bucket, proxy: FaultyProxy) -> None:
    fault = Fault(when=_is_conditional, times=None, status=501, code="NotImplemented")
    with proxy.fault(fault), bucket.open(endpoint=proxy.endpoint) as store:
        assert not store.capability.conditional_create
        assert not store.capability.conditional_replace
        store.write("a", LARGE)
        with pytest.raises(Unsupported):
            store.write("b", b"", if_absent=True)
    assert bucket.names() == ["a"]


def test_nothing_is_written_by_a_store_that_is_read(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("a", b"data")
    with bucket.open(endpoint=proxy.endpoint, writable=False) as store:
        assert not store.capability.writable
        assert store.read("a", 0, 9) == b"data"
        assert [info.name for info in store.list()] == ["a"]
        with pytest.raises(Unsupported, match="read"):
            store.write("b", b"")
        with pytest.raises(Unsupported, match="read"):
            store.delete("a")
        with pytest.raises(Unsupported, match="writable = true"):
            store.driver.open_writer("b")
    assert {request.method for request in proxy.requests} <= {"GET", "HEAD"}


def test_credentials_that_may_only_read(bucket: Bucket, proxy: FaultyProxy) -> None:
    fault = Fault(
        when=lambda request: request.method == "PUT", times=None, status=403, code="AccessDenied"
    )
    with proxy.fault(fault):
        with pytest.raises(PermissionDenied, match="do not allow"):
            bucket.open(endpoint=proxy.endpoint)
        bucket.open(endpoint=proxy.endpoint, writable=False).close()


def test_stated_conditions_are_not_tried(bucket: Bucket, proxy: FaultyProxy) -> None:
    for stated, expected in (("yes", True), ("no", False)):
        with bucket.open(endpoint=proxy.endpoint, conditional=stated) as store:
            assert store.capability.conditional_create is expected
            assert store.capability.conditional_replace is expected
    assert {request.method for request in proxy.requests} == {"GET"}


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["one request", "parts"])
def test_large_objects_keep_to_conditions_too(bucket: Bucket, data: bytes) -> None:
    """Moto keeps to ``If-Match`` in a plain put only, so a temporary file comes in between."""
    with bucket.open() as store:
        store.write("a", data, if_absent=True)
        with pytest.raises(AlreadyExists):
            store.write("a", data + b"2", if_absent=True)
        version = store.stat("a").version
        store.write("a", data + b"3", if_match=version)
        with pytest.raises(Conflict):
            store.write("a", data + b"4", if_match=version)
        assert bucket.read("a") == data + b"3"
    assert bucket.uploads() == []


def _is_conditional(request: Request) -> bool:
    return "if-none-match" in request.headers or "if-match" in request.headers


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["one request", "parts"])
def test_answer_of_a_conditional_write_is_lost(
    bucket: Bucket, proxy: FaultyProxy, data: bytes
) -> None:
    """It was done, and meets its own traces when it is repeated; that is no conflict."""
    with bucket.open(endpoint=proxy.endpoint) as store:
        with proxy.fault(Fault(when=_is_conditional, lost=True)):
            store.write("a", data, if_absent=True)
        assert bucket.read("a") == data
        with proxy.fault(Fault(when=_is_conditional, lost=True)), pytest.raises(AlreadyExists):
            store.write("a", data + b"2", if_absent=True)
        assert bucket.read("a") == data
        version = store.stat("a").version
        with proxy.fault(Fault(when=_is_conditional, lost=True)):
            store.write("a", data + b"3", if_match=version)
        assert bucket.read("a") == data + b"3"
    assert bucket.uploads() == []
