"""Opening: wrong places and credentials, what is found out about the server, and forks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from kvfs.errors import (
    AlreadyExists,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from kvfs.testing.servers.base import free_port
from kvfs.testing.servers.faults import FaultyProxy
from kvfs.testing.servers.rclone import Rclone
from kvfs.testing.servers.s3 import Bucket
from kvfs_backing_obstore._driver import ObstoreDriver
from kvfs_backing_obstore._settings import ObstoreSettings

from .support import structured


def _open(bucket: Bucket, **settings: Any) -> ObstoreDriver:
    return ObstoreDriver(structured(ObstoreSettings, bucket.table(**settings)))


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"url": "s3://no-such-bucket"}, NotFound, "no such bucket"),
        ({"url": "ftp://bucket"}, Invalid, "s3://bucket/prefix"),
        ({"url": "s3://"}, Invalid, "s3://bucket/prefix"),
        ({"url": "s3://bucket/a//b"}, Invalid, "s3://bucket/prefix"),
        ({"endpoint": "127.0.0.1:9000"}, Invalid, "http://"),
        ({"endpoint": "http://"}, Invalid, "no host"),
        ({"endpoint": f"http://127.0.0.1:{free_port()}", "attempts": 2}, Unavailable, "reached"),
        ({"endpoint": "http://no.such.host.invalid", "attempts": 1}, Unavailable, "reached"),
        ({"secret_key": None}, Invalid, "belong together"),
        ({"anonymous": True}, Invalid, "no credentials"),
        ({"ca": Path("/no/such/file")}, Invalid, "/no/such/file"),
        ({"part": "1MiB"}, Invalid, "5 MiB"),
    ],
)
def test_bad_settings(
    bucket: Bucket, settings: dict[str, Any], error: type[KVFSError], says: str
) -> None:
    with pytest.raises(error, match=says) as raised:
        _open(bucket, **settings)
    assert "testtest" not in str(raised.value)


def test_tls_where_there_is_none(bucket: Bucket) -> None:
    endpoint = bucket.server.endpoint.replace("http", "https")
    with pytest.raises(Unavailable, match="plain http") as raised:
        _open(bucket, endpoint=endpoint)
    assert not raised.value.retryable


def test_a_file_that_has_no_certificates(bucket: Bucket, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("no certificate")
    with pytest.raises(Invalid):
        _open(bucket, ca=ca)


def test_nothing_is_written_unless_it_is_asked_for(bucket: Bucket, proxy: FaultyProxy) -> None:
    bucket.write("object", b"data")
    driver = _open(bucket, endpoint=proxy.endpoint, writable=False, conditional="probe")
    assert not driver.capability.writable
    assert driver.read("object", 0, 10) == b"data"
    for call in (driver.open_writer, driver.delete):
        with pytest.raises(Unsupported, match="writable = true"):
            call("object")
    driver.close()
    assert {request.method for request in proxy.requests} <= {"GET", "HEAD"}


def test_conditions_are_tried_and_leave_no_trace(bucket: Bucket) -> None:
    driver = _open(bucket, conditional="probe")
    assert driver.capability.conditional_create
    assert not driver.capability.conditional_replace
    assert bucket.names() == []
    driver.close()


def test_rclone_is_refused_with_advice(tmp_path: Path) -> None:
    """It answers ranges with whole objects, and overwrites in silence what is to be created."""
    with Rclone(tmp_path) as server:
        bucket = Bucket.new(server)
        driver = _open(bucket, conditional="probe")
        assert not driver.capability.conditional_create
        driver.close()
        bucket.write("object", b"data")
        with pytest.raises(Unsupported, match="use the driver s3"):
            _open(bucket)


def test_a_prefix_is_a_directory(bucket: Bucket) -> None:
    for key in ("a/b", "a/b/one", "a/b/two/three", "a/bc"):
        bucket.write(key, key.encode())
    driver = _open(bucket, url=f"s3://{bucket.name}/a/b/", conditional="yes")
    assert [info.name for info in driver.list()] == ["one", "two/three"]
    assert driver.read("one", 0, 100) == b"a/b/one"
    with driver.open_writer("four", if_absent=True) as stream:
        stream.write(b"4")
    assert bucket.read("a/b/four") == b"4"
    with pytest.raises(AlreadyExists), driver.open_writer("one", if_absent=True) as stream:
        stream.write(b"other")
    assert driver.capability.name_bytes_max == 1020
    driver.close()


def test_markers_of_directories_are_no_objects(bucket: Bucket) -> None:
    for key in ("a/", "a/b", "c/", "empty"):
        bucket.write(key, b"x" if key == "a/b" else b"")
    driver = _open(bucket)
    assert [info.name for info in driver.list()] == ["a/b", "empty"]
    driver.close()


@pytest.mark.parametrize("key", ["a//b", "a/../b"])
def test_keys_that_it_cannot_handle_are_not_passed_over(bucket: Bucket, key: str) -> None:
    bucket.write(key, b"")
    with pytest.raises(Unsupported, match="use the driver s3"):
        _open(bucket)


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # Where the role of a machine would be asked for: nobody is there.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PermissionDenied, match="no credentials"):
        _open(bucket, access_key=None, secret_key=None, attempts=1)


def test_a_forked_process_is_told_not_to_wait(bucket: Bucket) -> None:
    driver = _open(bucket, conditional="yes")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = b"nothing"
        try:
            driver.stat("object")
        except BaseException as error:
            said = f"{type(error).__name__}: {error}".encode()
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(pid, 0)
    assert told.startswith("Unsupported: obstore: this process was forked"), told
    driver.close()
