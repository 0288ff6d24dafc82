"""Listings, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from kvfs.backing.driver import ObjectInfo
from kvfs.backing.remote.retries import repeated
from kvfs.errors import Unsupported
from kvfs.patience import Patience
from kvfs_backing_s3._connection import Connection
from kvfs_backing_s3._names import Names
from kvfs_backing_s3._objects import etag_of, mtime_ns_of


def listed(
    connection: Connection, names: Names, prefix: str, after: str | None, *, patience: Patience
) -> Iterator[ObjectInfo]:
    """The objects whose names begin with ``prefix``, behind ``after``, in byte order.

    Each page is asked for by the last key of the one before: no state of the server is needed, and
    what happens meanwhile does no harm.

    :raises Unsupported: the server lists in another order.
    """
    last = names.prefix + (after or "")
    while True:
        page = repeated(
            partial(
                connection.call,
                "list_objects_v2",
                f"listing s3://{names.bucket}/{names.prefix}",
                Bucket=names.bucket,
                Prefix=names.prefix + prefix,
                StartAfter=last,
            ),
            patience,
        )
        for found in page.get("Contents", ()):
            key: str = found["Key"]
            if key == last and last != names.prefix:
                continue  # rclone lists an object twice while it is replaced
            if key.encode() < last.encode():
                raise Unsupported(
                    f"s3: listing {names.bucket}: the server lists {key!r} after {last!r}: it does "
                    "not list in byte order, as S3 does"
                )
            last = key
            if (name := names.name(key)) is not None:
                yield ObjectInfo(name, found["Size"], mtime_ns_of(found), etag_of(found))
        if not page.get("IsTruncated"):
            return
