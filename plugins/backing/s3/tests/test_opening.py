"""What is wrong with address, bucket, region or credentials is said when the store is opened."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kvfs.config import explain, structure
from kvfs.errors import Invalid, KVFSError, NotFound, PermissionDenied, Unavailable
from kvfs.testing.servers.faults import Fault, FaultyProxy
from kvfs_backing_s3 import S3Settings
from kvfs_backing_s3._driver import open_store

from .support import Bucket

SECRET = "never-to-be-shown"


def _refused(bucket: Bucket, error: type[KVFSError], text: str, **settings: Any) -> KVFSError:
    settings = {"attempts": 2, "timeout": "5 s", "secret_key": SECRET} | settings
    with pytest.raises(error, match=text) as caught:
        bucket.open(**settings)
    assert SECRET not in str(caught.value)
    assert str(caught.value).startswith("s3: opening s3://")
    return caught.value


def test_no_such_bucket(bucket: Bucket) -> None:
    _refused(bucket, NotFound, "no-such-bucket: there is no such bucket", url="s3://no-such-bucket")


@pytest.mark.parametrize(
    ("status", "code", "error", "text"),
    [
        (403, "AccessDenied", PermissionDenied, "do not allow"),
        (403, "InvalidAccessKeyId", PermissionDenied, "does not know the access key"),
        (403, "SignatureDoesNotMatch", PermissionDenied, "the secret key is wrong"),
        (400, "ExpiredToken", PermissionDenied, "have expired"),
        (403, "RequestTimeTooSkewed", PermissionDenied, "clock"),
        (400, "AuthorizationHeaderMalformed", Invalid, "region"),
        (301, "PermanentRedirect", Invalid, "another region"),
        (503, "SlowDown", Unavailable, "busy"),
        (500, "InternalError", Unavailable, "500"),
    ],
)
def test_what_servers_say(
    bucket: Bucket,
    proxy: FaultyProxy,
    status: int,
    code: str,
    error: type[KVFSError],
    text: str,
) -> None:
    fault = Fault(
        when=lambda request: request.method == "GET", status=status, code=code, times=None
    )
    with proxy.fault(fault):
        found = _refused(bucket, error, text, endpoint=proxy.endpoint)
    assert found.__cause__ is not None


def test_nobody_listens(bucket: Bucket) -> None:
    error = _refused(bucket, Unavailable, "cannot be reached", endpoint="http://127.0.0.1:1")
    assert isinstance(error, Unavailable)
    assert error.unapplied


def test_no_such_host(bucket: Bucket) -> None:
    _refused(bucket, Unavailable, "cannot be reached", endpoint="http://s3.kvfs.invalid")


def test_plain_http_where_tls_is_asked_for(bucket: Bucket) -> None:
    endpoint = bucket.server.endpoint.replace("http:", "https:")
    error = _refused(bucket, Unavailable, "no secure connection", endpoint=endpoint)
    assert not error.retryable


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of one who takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_nobody_answers(bucket: Bucket, silent: str) -> None:
    _refused(bucket, Unavailable, "no answer", endpoint=silent, timeout="500 ms")


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    none = {"access_key": None, "secret_key": None}
    table = {name: value for name, value in bucket.table().items() if name not in none}
    settings = structure(table, S3Settings, where="[backing]")
    with pytest.raises(PermissionDenied, match="no credentials were found"):
        open_store(settings)
    open_store(structure(table | {"anonymous": True, "writable": False}, S3Settings, where="x"))


@pytest.mark.parametrize(
    "table",
    [
        {"url": "bucket/prefix"},
        {"url": "gs://bucket"},
        {"url": "s3://"},
        {"url": "s3://bucket/a//b"},
        {"url": "s3://bucket/../b"},
        {"url": "s3://bucket/" + "x" * 1024},
        {"url": "s3://bucket", "access_key": "k"},
        {"url": "s3://bucket", "access_key": "k", "secret_key": "s", "anonymous": True},
        {"url": "s3://bucket", "part": "1 MiB"},
        {"url": "s3://bucket", "pieces_ahead": 0},
        {"url": "s3://bucket", "attempts": 0},
        {"url": "s3://bucket", "conditional": "perhaps"},
    ],
)
def test_settings_that_make_no_sense(table: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        structure(table, S3Settings, where="[backing]")


def test_secrets_are_not_shown(bucket: Bucket) -> None:
    table = bucket.table(secret_key=SECRET, session_token=SECRET, access_key=SECRET)
    assert SECRET not in str(explain(S3Settings, structure(table, S3Settings, where="x")))


def test_prefix(bucket: Bucket) -> None:
    """A part of a bucket; what is beside it, or is no object of ours, is not seen."""
    for key in ("other", "team/a", "team/b/c", "teammate", "team/", "team/x//y", "team/../z"):
        bucket.write(key, key.encode())
    with bucket.open(url=f"s3://{bucket.name}/team/") as store:
        assert [info.name for info in store.list()] == ["a", "b/c"]
        assert [info.name for info in store.list(after="a")] == ["b/c"]
        assert store.read("b/c", 0, 99) == b"team/b/c"
        assert store.capability.name_bytes_max == 1024 - len("team/")
        store.write("x" * 1019, b"")
        store.write("new", b"", if_absent=True)
        store.delete("a")
    assert "team/new" in bucket.names()
    assert "team/a" not in bucket.names()
