"""The digest of the compiled reader, computed in Python for what was generated."""

from __future__ import annotations

MASK = (1 << 64) - 1
_MODULUS = MASK  # 2**64 - 1: a sum with end-around carry


def _mix(value: int) -> int:
    """splitmix64's finalizer (Steele, Lea and Flood, OOPSLA 2014)."""
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def _sum(data: bytes) -> int:
    # 2**64 is 1 modulo 2**64 - 1, so the remainder of the whole number is the sum of its words.
    return int.from_bytes(data, "little") % _MODULUS


def words_of(name: bytes, content: bytes) -> int:
    """64 bits that depend on the contents and on the name that they were found under.

    As native/reader.c: the sum of the little-endian 64-bit words of the contents modulo
    2**64 - 1, mixed with that of the name.  The digest of a set of files is the sum of theirs,
    modulo 2**64: the order does not matter.
    """
    return _mix(_sum(content) + _mix(_sum(name)) & MASK)
