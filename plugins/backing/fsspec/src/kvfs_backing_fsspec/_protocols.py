"""What the protocols can do, as far as this driver relies on it."""

from __future__ import annotations

from enum import Enum

import attrs


class Publishing(Enum):
    """How a file appears whole, or not at all."""

    RENAME = "rename"
    """It is written beside its place, and moved there over what was there, in one step."""
    WHOLE = "whole"
    """It is collected in memory and handed over at once; where it will be in memory anyway."""


class Reading(Enum):
    """How a reader stays at the version that it was opened at."""

    RANGES = "ranges"
    """It asks for parts, and after each whether the version is still the same."""
    HANDLE = "handle"
    """It keeps the file open, which stays what it is when another one takes its place."""
    WHOLE = "whole"
    """It takes a copy; where all is in memory anyway."""


@attrs.frozen(kw_only=True)
class Protocol:
    """One of fsspec's file systems."""

    publishing: Publishing | None = None
    """``None``: it is read-only here."""
    reading: Reading = Reading.RANGES
    is_network: bool = True
    persistent: bool = True
    exclusive: bool = False
    """One connection serves one thread at a time (paramiko takes answers for those of others)."""
    range_bytes_max: int | None = None
    """A larger range is taken in parts: the library holds it more than once."""
    quoted: bool = False
    """Paths are URLs, in which names are percent-encoded."""


_HTTP = Protocol(quoted=True)
_LOCAL = Protocol(publishing=Publishing.RENAME, reading=Reading.HANDLE, is_network=False)
_SFTP = Protocol(publishing=Publishing.RENAME, exclusive=True, range_bytes_max=1 << 20)
_ARCHIVE = Protocol(is_network=False)

PROTOCOLS = {
    "memory": Protocol(
        publishing=Publishing.WHOLE, reading=Reading.WHOLE, is_network=False, persistent=False
    ),
    "file": _LOCAL,
    "local": _LOCAL,
    "sftp": _SFTP,
    "ssh": _SFTP,
    "http": _HTTP,
    "https": _HTTP,
    "zip": _ARCHIVE,
    "tar": _ARCHIVE,
}
"""Others can be read: what they do with a file that is written halfway is not known."""
OTHER = Protocol()
