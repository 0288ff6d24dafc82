"""The object store: wrong, gone for a while, or not to be relied on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from kvfs.capability import Durability
from kvfs.errors import Invalid, KVFSError, NotFound, PermissionDenied, Unavailable
from kvfs.kv import Batch
from kvfs.testing.servers.rclone import Rclone
from kvfs_kv_slatedb._driver import SlateDBDriver

from .line import Line

Opener = Callable[..., SlateDBDriver]


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"url": "s3://nowhere/prefix"}, NotFound, "no such bucket"),
        ({"endpoint": "nonsense"}, Invalid, "is not https://host:port"),
        ({"url": "s3://"}, Invalid, "is not one of s3://"),
        ({"url": "gs://bucket/prefix"}, Invalid, "is not one of s3://"),
        ({"url": "file://host/directory"}, Invalid, "is not one of s3://"),
        ({"url": "relative/directory"}, Invalid, "is not one of s3://"),
        ({"url": "s3://kvfs/prefix?region=x"}, Invalid, "settings have names of their own"),
        ({"endpoint": "http://127.0.0.1:1", "timeout": "1 s"}, Unavailable, "no answer"),
    ],
)
def test_wrong_address(
    opener: Opener,
    bucket: dict[str, str],
    change: dict[str, str],
    error: type[KVFSError],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        opener(bucket | change)


def test_wrong_credentials_and_a_store_that_overwrites(opener: Opener, tmp_path: Path) -> None:
    """rclone checks signatures, and ignores the condition of a conditional put."""
    with Rclone(tmp_path) as server:
        settings = {
            "url": f"s3://{server.bucket('kvfs')}/prefix",
            "endpoint": server.endpoint,
            "region": server.region,
            "access_key_id": server.access_key,
            "secret_access_key": server.secret_key,
        }
        with pytest.raises(PermissionDenied, match="the access key is unknown"):
            opener(settings | {"access_key_id": "other"})
        with pytest.raises(PermissionDenied, match="the secret does not fit"):
            opener(settings | {"secret_access_key": "other"})
        with pytest.raises(Invalid, match="overwrites where it was asked to create"):
            opener(settings)


def test_service_that_drops_the_condition(
    opener: Opener, bucket: dict[str, str], line: Line
) -> None:
    """All else of it works; two writers would destroy each other's records."""
    line.replace(b"if-none-match", b"xf-none-match")
    with pytest.raises(Invalid, match="overwrites where it was asked to create"):
        opener(bucket | {"endpoint": line.endpoint})


def test_secrets_are_not_in_errors(opener: Opener, bucket: dict[str, str]) -> None:
    with pytest.raises(NotFound) as caught:
        opener(bucket | {"url": "s3://nowhere/x", "secret_access_key": "keep-this-quiet"})
    assert "keep-this-quiet" not in f"{caught.value} {caught.value.__cause__}"


def test_server_gone_in_mid_commit(opener: Opener, bucket: dict[str, str], line: Line) -> None:
    """Within the timeout a commit waits for it; what was acknowledged is there for good."""
    driver = opener(bucket | {"endpoint": line.endpoint})
    driver.commit(Batch().put(b"before", b"1"), Durability.POWER)
    line.cut()
    batch = Batch().put(b"meanwhile", b"2").guard(b"before", b"1")
    commit = Thread(target=driver.commit, args=(batch, Durability.POWER))
    commit.start()
    commit.join(0.3)
    assert commit.is_alive()
    line.mend()
    commit.join()
    driver.close()
    again = opener(bucket)
    assert dict(again.scan(b"", None)) == {b"before": b"1", b"meanwhile": b"2"}


def test_server_gone_for_longer(opener: Opener, bucket: dict[str, str], line: Line) -> None:
    driver = opener(bucket | {"endpoint": line.endpoint, "timeout": "1 s"})
    driver.commit(Batch().put(b"before", b"1"), Durability.POWER)
    line.cut()
    with pytest.raises(Unavailable, match="no answer for 1 s") as caught:
        driver.commit(Batch().put(b"meanwhile", b"2"), Durability.POWER)
    assert caught.value.retryable
    assert driver.get(b"before") == b"1"
    line.mend()
    # The same again, as the retry layer does.
    for _ in range(30):
        try:
            driver.commit(Batch().put(b"meanwhile", b"2"), Durability.POWER)
            break
        except Unavailable:
            continue
    driver.close()
    assert dict(opener(bucket).scan(b"", None)) == {b"before": b"1", b"meanwhile": b"2"}


def test_closing_without_the_server_does_not_hang(
    opener: Opener, bucket: dict[str, str], line: Line
) -> None:
    driver = opener(bucket | {"endpoint": line.endpoint, "timeout": "1 s"})
    driver.commit(Batch().put(b"durable", b"1"), Durability.POWER)
    driver.commit(Batch().put(b"not yet", b"2"), Durability.MEMORY)
    line.cut()
    with pytest.raises(Unavailable):
        driver.close()
    driver.close()
    assert opener(bucket).get(b"durable") == b"1"
