"""Member names made safe: what a name in a tar header may mean as a place in a directory tree."""

from __future__ import annotations

from kvfs.files.records import NAME_BYTES_MAX

DEPTH_MAX = 4096
"""Directories above a member; a header of a megabyte could name half a million of them."""


class Refused(Exception):
    """A member cannot be served; the message says why.  Never leaves the ingest."""


def split(name: bytes) -> list[bytes]:
    """The parts of a member's path below the root of its tarball; empty for the root itself.

    A leading ``/`` is stripped and ``.`` ignored, as GNU tar does.

    :raises Refused: ``..``, a NUL, a part that is too long, or too many parts.
    """
    depth = name.count(b"/") + 1
    if depth > DEPTH_MAX:
        raise Refused(f"it lies {depth:,} directories deep (the most is {DEPTH_MAX:,})")
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    for part in parts:
        check(part)
    return parts


def check(part: bytes) -> None:
    """:raises Refused: the part is no file name."""
    if part == b"..":
        raise Refused("its path contains '..'")
    if len(part) > NAME_BYTES_MAX:
        raise Refused(f"a file name of {len(part)} bytes (the longest is {NAME_BYTES_MAX})")
    if b"\0" in part:
        raise Refused("its path contains a NUL byte")
