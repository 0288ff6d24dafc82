"""The 512-byte header block in all its dialects.

Sources: POSIX.1-2017 "pax, ustar Interchange Format"; the "Basic Tar Format" chapter of the GNU tar
manual; star(5) for the xstar fields; tar(5) of libarchive for what is found in the wild.

=========  ====  =====================================================================
offset     size  field
=========  ====  =====================================================================
0          100   name
100        24    mode, uid, gid: 8 each
124, 136   12    size, mtime
148        8     checksum
156        1     type
157        100   linkname
257        8     magic and version: ``ustar\\0`` + 2 (POSIX), ``ustar  \\0`` (GNU), other (v7)
265, 297   32    uname, gname
329, 337   8     devmajor, devminor
345        155   POSIX: prefix.  GNU: atime, ctime, sparse map.  xstar: prefix of 131, times
=========  ====  =====================================================================

Almost every field repeats from member to member, so decoding is a handful of look-ups from raw
bytes to the value parsed the first time.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final, TypeAlias
from zlib import adler32

import attrs

BLOCK: Final = 512
ZERO_BLOCK: Final = bytes(BLOCK)
NANOSECONDS: Final = 1_000_000_000
UID_MAX: Final = (1 << 32) - 1

_LAYOUT = struct.Struct("100s24s12s12s8sc100s255s")
_HEAD_SIZE = 157
_TAIL_START = 257
_NO_LINK = bytes(100)
_OCTAL_DIGITS = b"01234567"
_NO_CHECKSUM = -1
_CACHE_ENTRIES_MAX = 8192
_INT64_MAX = (1 << 63) - 1


class Dialect(Enum):
    """Who laid out the last 255 bytes."""

    V7 = "v7"
    USTAR = "ustar"
    GNU = "gnu"
    STAR = "star"


@attrs.frozen
class Tail:
    """The last 255 bytes, which are the same for all members of a directory of one owner.

    :ivar checksum: the sum of the raw bytes.
    :ivar devmajor: ``None`` where the field is not a number, which matters to devices only.
    """

    raw: bytes
    checksum: int
    dialect: Dialect
    uname: bytes = b""
    gname: bytes = b""
    devmajor: int | None = 0
    devminor: int | None = 0
    prefix: bytes = b""
    atime_ns: int | None = None
    ctime_ns: int | None = None

    def at(self, offset: int, size: int) -> bytes:
        """A field by its offset in the block."""
        return self.raw[offset - _TAIL_START : offset - _TAIL_START + size]


Fields: TypeAlias = tuple[bytes, int, int, int, int, int, bytes, bytes, Tail]
"""Name (prefix joined), mode, uid, gid, size, mtime in seconds, type, linkname field, tail.

A plain tuple: it is built for every block, and a class would cost a fifth of the decoding."""


class HeaderError(Exception):
    """A block with a good checksum holds a number that makes no sense.

    Internal to the room: the reader turns it into a problem.

    :ivar size: the size field, when that one is sound: where to go on.
    """

    def __init__(self, message: str, *, name: bytes, kind: bytes, size: int | None) -> None:
        super().__init__(message)
        self.name = name
        self.kind = kind
        self.size = size


def c_string(raw: bytes) -> bytes:
    """The bytes before the first NUL, or all of them."""
    return raw.partition(b"\0")[0]


def parse_number(raw: bytes) -> int | None:
    """A numeric field: octal text or base-256, ``None`` if it is neither or blank.

    Octal: an optional NUL and spaces in front, digits, then NUL, space or the end of the field.
    A field of NULs is 0; one of spaces is no number.  Base-256: the top bit marks it, the rest is
    a big-endian two's complement number.
    """
    digits = raw[:-1]
    if digits.isdigit() and raw[-1] in b"\0 ":  # what nearly every writer writes
        try:
            return int(digits, 8)
        except ValueError:
            return None
    if raw[0] & 0x80:
        value = int.from_bytes(raw, "big") - (0x80 << (8 * len(raw) - 8))
        return value - (0x80 << (8 * len(raw) - 8)) if raw[0] & 0x40 else value
    text = raw[1:] if raw[0] == 0 else raw
    digits = c_string(text.lstrip(b" ")).partition(b" ")[0]
    if not digits:
        return None if raw.strip(b"\0") else 0
    if digits.strip(_OCTAL_DIGITS):
        return None
    return int(digits, 8)


def parse_lenient(raw: bytes) -> int | None:
    """As :func:`parse_number`, but blank is 0: some writers leave owners and devices blank."""
    number = parse_number(raw)
    return 0 if number is None and not raw.strip(b" \0") else number


def block_sum(block: bytes) -> int:
    """The unsigned checksum of a block: the sum of its bytes, those of its own field as spaces."""
    return sum(block[:148]) + 8 * 0x20 + sum(block[156:])


def _signed_sum(block: bytes) -> int:
    """What Sun's and other historic writers stored: the sum with bytes as signed characters."""
    high = sum(byte >= 0x80 for byte in block[:148]) + sum(byte >= 0x80 for byte in block[156:])
    return block_sum(block) - 256 * high


def _xstar_times(raw: bytes) -> tuple[int, int] | None:
    """atime and ctime of a POSIX tail which is laid out as star does, ``None`` if it is not.

    star marks its blocks ``tar\\0`` at 508; the xustar variant has no mark and is known by its two
    times, octal and closed by a space, behind a prefix that leaves its 131st byte NUL.
    """
    atime, ctime = raw[219:231], raw[231:243]
    marked = raw[251:255] == b"tar\0"
    if not marked and (raw[218] or atime[11:] != b" " or ctime[11:] != b" "):
        return None
    if not marked and (atime[:1] not in b"01234567" or ctime[:1] not in b"01234567"):
        return None
    parsed = _time_ns(atime), _time_ns(ctime)
    if parsed[0] is None or parsed[1] is None:
        return None
    return parsed[0], parsed[1]


def _time_ns(raw: bytes) -> int | None:
    """An optional time: ``None`` if it is blank or makes no sense."""
    seconds = parse_number(raw) if raw.strip(b"\0 ") else None
    if seconds is None or abs(seconds) > _INT64_MAX:
        return None
    return seconds * NANOSECONDS


def parse_tail(raw: bytes) -> Tail:
    """Decode the last 255 bytes of a block; never fails."""
    checksum = sum(raw)
    magic = raw[:8]
    if magic[:6] != b"ustar\0" and magic != b"ustar  \0":
        return Tail(raw, checksum, Dialect.V7)
    uname, gname = c_string(raw[8:40]), c_string(raw[40:72])
    major, minor = parse_lenient(raw[72:80]), parse_lenient(raw[80:88])
    if magic == b"ustar  \0":
        times = _time_ns(raw[88:100]), _time_ns(raw[100:112])
        return Tail(raw, checksum, Dialect.GNU, uname, gname, major, minor, b"", *times)
    star_times = _xstar_times(raw)
    if star_times is not None:
        prefix = c_string(raw[88:219])
        return Tail(raw, checksum, Dialect.STAR, uname, gname, major, minor, prefix, *star_times)
    prefix = c_string(raw[88:243])
    return Tail(raw, checksum, Dialect.USTAR, uname, gname, major, minor, prefix)


class HeaderDecoder:
    """Decodes blocks, remembering raw fields it has seen.  Not thread-safe; bounded in memory."""

    __slots__ = ("_checksums", "_ids", "_sizes", "_tails", "_times")

    def __init__(self) -> None:
        self._checksums: dict[bytes, int] = {}
        self._ids: dict[bytes, tuple[int, int, int]] = {}
        self._sizes: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        self._tails: dict[bytes, Tail] = {}

    def decode(self, view: memoryview, at: int) -> Fields | None:
        """The fields of the block at ``at``, ``None`` if its checksum is wrong (or it is zero).

        :raises HeaderError: the checksum is right, but a number is not.
        """
        name, ids, size_raw, mtime_raw, checksum, kind, link, tail_raw = _LAYOUT.unpack_from(
            view, at
        )
        tail = self._tails.get(tail_raw)
        if tail is None:
            tail = self._learn_tail(tail_raw)
        expected = self._checksums.get(checksum)
        if expected is None:
            expected = self._learn_checksum(checksum)
        # The low half of Adler-32 is 1 + the sum of the bytes modulo 65521: exact for up to 256
        # bytes, and 15 times as fast as sum().
        total = tail.checksum + (adler32(view[at : at + _HEAD_SIZE]) & 0xFFFF) - 1
        if link != _NO_LINK:
            total += (adler32(link) & 0xFFFF) - 1
        if total != expected and not self._signed_matches(view, at, checksum):
            return None
        name = name.partition(b"\0")[0]
        if tail.prefix:
            name = tail.prefix + b"/" + name
        size = self._sizes.get(size_raw)
        if size is None:
            size = self._learn_size(size_raw, name, kind)
        mtime = self._times.get(mtime_raw)
        if mtime is None:
            mtime = self._learn_time(mtime_raw, name, kind, size)
        owner = self._ids.get(ids)
        if owner is None:
            owner = self._learn_ids(ids, name, kind, size)
        mode, uid, gid = owner
        return name, mode, uid, gid, size, mtime, kind, link, tail

    def _learn_tail(self, raw: bytes) -> Tail:
        # A quarter of the entries: this is the one cache with large values.
        if len(self._tails) >= _CACHE_ENTRIES_MAX // 4:
            self._tails.clear()
        tail = self._tails[raw] = parse_tail(raw)
        return tail

    def _learn_checksum(self, raw: bytes) -> int:
        """What the bytes of the whole block must sum up to, its checksum field as it stands."""
        stored = parse_number(raw)
        blank = not raw.strip(b" \0")
        expected = _NO_CHECKSUM if stored is None or blank else stored + sum(raw) - 8 * 0x20
        if len(self._checksums) >= _CACHE_ENTRIES_MAX:
            self._checksums.clear()
        self._checksums[raw] = expected
        return expected

    def _signed_matches(self, view: memoryview, at: int, checksum: bytes) -> bool:
        stored = parse_number(checksum) if checksum.strip(b" \0") else None
        return stored is not None and stored == _signed_sum(bytes(view[at : at + BLOCK]))

    def _learn_size(self, raw: bytes, name: bytes, kind: bytes) -> int:
        size = parse_number(raw)
        if size is None or not 0 <= size <= _INT64_MAX:
            message = f"its size field {raw!r} is not a size"
            raise HeaderError(message, name=name, kind=kind, size=None)
        if len(self._sizes) >= _CACHE_ENTRIES_MAX:
            self._sizes.clear()
        self._sizes[raw] = size
        return size

    def _learn_time(self, raw: bytes, name: bytes, kind: bytes, size: int) -> int:
        mtime = parse_lenient(raw)
        if mtime is None or not -_INT64_MAX <= mtime <= _INT64_MAX:
            message = f"its time field {raw!r} is not a time"
            raise HeaderError(message, name=name, kind=kind, size=size)
        if len(self._times) >= _CACHE_ENTRIES_MAX:
            self._times.clear()
        self._times[raw] = mtime
        return mtime

    def _learn_ids(self, raw: bytes, name: bytes, kind: bytes, size: int) -> tuple[int, int, int]:
        mode, uid, gid = (parse_lenient(raw[start : start + 8]) for start in (0, 8, 16))
        if mode is None or mode < 0:
            message = f"its mode field {raw[:8]!r} is not a mode"
            raise HeaderError(message, name=name, kind=kind, size=size)
        if uid is None or gid is None or not (0 <= uid <= UID_MAX and 0 <= gid <= UID_MAX):
            message = f"its owner fields {raw[8:]!r} are not user and group numbers"
            raise HeaderError(message, name=name, kind=kind, size=size)
        if len(self._ids) >= _CACHE_ENTRIES_MAX:
            self._ids.clear()
        # The upper bits of the mode hold the file type in archives of some writers: the type field
        # is what counts.
        owner = self._ids[raw] = (mode & 0o7777, uid, gid)
        return owner
