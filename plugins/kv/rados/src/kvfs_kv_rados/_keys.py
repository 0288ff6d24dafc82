r"""Keys and values as they are in an omap.

librados takes the place where a listing goes on as a C string, and begins behind it, not at it.  So
a key must have no zero byte, and one is stored so that there is something to begin behind:

- ``00`` becomes ``01 01`` and ``01`` becomes ``01 02``; the other bytes stay;
- at its end comes ``01``.

The order stays that of the keys, and an escaped bound without the ``01`` at its end lies before
that key and behind all that are less.  Example: ``61 00 62`` is ``61 01 01 62 01``.

A value has ``76`` ("v") before it, as a comparison takes an absent record for an empty one.
"""

from __future__ import annotations

_END = b"\x01"
_PRESENT = b"v"


def bound(key: bytes) -> bytes:
    """What lies before ``key`` and behind all that are less."""
    return key.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")


def stored(key: bytes) -> bytes:
    """A key as it is in the omap."""
    return bound(key) + _END


def original(raw: bytes) -> bytes:
    """The key that is stored so."""
    return raw[:-1].replace(b"\x01\x01", b"\x00").replace(b"\x01\x02", b"\x01")


def present(value: bytes | bytearray | memoryview) -> bytes:
    """A value as it is in the omap."""
    return b"".join((_PRESENT, value))


ABSENT = b""
"""What a comparison takes an absent record for."""

__all__ = ["ABSENT", "bound", "original", "present", "stored"]
