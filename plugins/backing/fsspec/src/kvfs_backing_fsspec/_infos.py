"""What fsspec says of a file, in the words of each protocol, as :class:`ObjectInfo`."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from kvfs.backing.driver import ObjectInfo
from kvfs.errors import Unsupported

_TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "date_time")
_ETAGS = ("ETag", "etag", "e_tag", "md5", "CRC")


def info_of(name: str, found: dict[str, Any]) -> ObjectInfo:
    """The version is what the server calls one; otherwise modification time and size.

    :raises Unsupported: the server does not say how large it is.
    """
    size = found.get("size")
    if size is None:
        raise Unsupported(f"fsspec: {name!r}: the server does not say how large it is")
    mtime_ns = _mtime_ns_of(found)
    etag = next((str(found[key]) for key in _ETAGS if found.get(key)), "")
    parts = [etag.strip('"')] if etag else [f"{mtime_ns:x}"]
    if "ino" in found:
        parts.append(f"{found['ino']:x}")
    return ObjectInfo(name, size, mtime_ns, "-".join([*parts, f"{size:x}"]))


def _mtime_ns_of(found: dict[str, Any]) -> int:
    """0 if it is not known."""
    # Only memory:// has no other: there files are never changed, only made anew.
    value = next((found[key] for key in (*_TIMES, "created") if found.get(key)), None)
    if isinstance(value, str):
        value = _parsed(value)
    elif isinstance(value, tuple):  # of a zip archive; in which zone, nobody knows
        year, month, day, hour, minute, second = value
        value = datetime(year, month, day, hour, minute, second)
    if isinstance(value, datetime):
        value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    return 0 if value is None else round(value * 1e6) * 1000


def _parsed(text: str) -> datetime:
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return datetime.fromisoformat(text)
