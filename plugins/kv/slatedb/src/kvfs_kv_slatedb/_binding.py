"""Bytes for SlateDB in one copy.

The generated binding writes arguments into Rust's memory byte by byte, in a loop of Python, which
takes more than ten seconds for a value of 64 MiB.  UniFFI's generator is where this belongs; until
it is mended there, :func:`quicken` gives two functions of the binding bodies that do the same with
``memmove``.  What the binding looks like inside is fixed by the version that pyproject.toml asks
for.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from slatedb.uniffi._slatedb_uniffi import slatedb as generated

_LENGTH = struct.Struct(">i")


def _write(builder: Any, value: bytes) -> None:
    """Append to a buffer under construction (``_UniffiRustBufferBuilder.write``)."""
    with builder._reserve(len(value)):
        if value:
            target = ctypes.addressof(builder.rbuf.data.contents) + builder.rbuf.len
            ctypes.memmove(target, value, len(value))


def _lower(cls: Any, value: bytes) -> Any:
    """A buffer of just these bytes (``_UniffiFfiConverterBytes.lower``): length, contents."""
    size = len(value)
    buffer = generated._UniffiRustBuffer.alloc(_LENGTH.size + size)
    target = ctypes.addressof(buffer.data.contents)
    ctypes.memmove(target, _LENGTH.pack(size), _LENGTH.size)
    ctypes.memmove(target + _LENGTH.size, value, size)
    buffer.len = _LENGTH.size + size
    return buffer


def quicken() -> None:
    """Make the binding copy bytes at once.  Idempotent; true of the whole process."""
    generated._UniffiRustBufferBuilder.write = _write
    generated._UniffiFfiConverterBytes.lower = classmethod(_lower)
