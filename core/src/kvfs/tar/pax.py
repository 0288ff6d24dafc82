"""Extended headers of the pax format: parsing records and reading their values.

Sources: POSIX.1-2017, "pax Extended Header"; the GNU tar manual, "Storing Sparse Files"; star(5)
for ``SCHILY.*``; tar(5) of libarchive for ``LIBARCHIVE.xattr.*``.

A record is ``LENGTH KEYWORD=VALUE\\n``, its length counting all of it.  Values are bytes here, so
``hdrcharset`` does not matter: a name is what its writer put there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import attrs

from kvfs.tar.header import NANOSECONDS

_INT64_MAX: Final = (1 << 63) - 1
_LENGTH_DIGITS_MAX: Final = 20
_DECIMAL = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")

_FIELDS: Final = frozenset(
    {
        *(b"path", b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname"),
        *(b"mtime", b"atime", b"ctime", b"SCHILY.devmajor", b"SCHILY.devminor"),
    }
)
_SPARSE_FIELDS: Final = frozenset(
    {
        *(b"GNU.sparse.major", b"GNU.sparse.minor", b"GNU.sparse.name", b"GNU.sparse.realsize"),
        *(b"GNU.sparse.size", b"GNU.sparse.map", b"GNU.sparse.numblocks"),
    }
)
_SCHILY_XATTR: Final = b"SCHILY.xattr."
_LIBARCHIVE_XATTR: Final = b"LIBARCHIVE.xattr."
_XATTRS: Final = (_SCHILY_XATTR, _LIBARCHIVE_XATTR)
_SPARSE_PAIRS: Final = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")


@attrs.define
class PaxRecords:
    """What one extended header says.

    :ivar values: by keyword, the last record of each; only keywords that mean something here.
    :ivar sparse_pairs: offset, length, offset, length, ... of the repeated keywords of GNU sparse
        format 0.0.
    :ivar is_sparse: some record is about a sparse file.
    :ivar has_xattrs: some record is an extended attribute.
    :ivar error: what is malformed in the header, ``None`` if nothing is.  What stands before the
        malformed record holds, as for GNU tar and libarchive.
    """

    values: dict[bytes, bytes]
    sparse_pairs: list[bytes]
    is_sparse: bool = False
    has_xattrs: bool = False
    error: str | None = None


def parse_records(data: bytes) -> PaxRecords:
    """Split an extended header into its records.  Never fails."""
    records = PaxRecords({}, [])
    values = records.values
    at, end = 0, len(data)
    while at < end:
        space = data.find(b" ", at, at + _LENGTH_DIGITS_MAX + 1)
        digits = data[at:space]
        if space < 0 or not digits.isdigit():
            # Some writers pad a header with NULs inside its size.
            if data[at:].strip(b"\0"):
                records.error = f"a record without a length at byte {at} of its extended header"
            break
        stop = at + int(digits)
        equals = data.find(b"=", space + 1, stop - 1)
        if stop > end or equals < 0 or data[stop - 1] != 0x0A:
            records.error = f"a malformed record at byte {at} of its extended header"
            break
        keyword = data[space + 1 : equals]
        if keyword in _FIELDS:
            values[keyword] = data[equals + 1 : stop - 1]
        elif keyword in _SPARSE_FIELDS:
            values[keyword] = data[equals + 1 : stop - 1]
            records.is_sparse = True
        elif keyword.startswith(_XATTRS):
            values[keyword] = data[equals + 1 : stop - 1]
            records.has_xattrs = True
        elif keyword in _SPARSE_PAIRS:
            # Offsets come at even places, lengths at odd ones, or the map means nothing.
            if len(records.sparse_pairs) % 2 != (keyword == _SPARSE_PAIRS[1]):
                records.error = "sparse offsets and lengths do not alternate"
                break
            records.sparse_pairs.append(data[equals + 1 : stop - 1])
            records.is_sparse = True
        at = stop
    return records


def parse_time_ns(value: bytes) -> int | None:
    """Decimal seconds as nanoseconds, exact; digits beyond the ninth round towards the past.

    ``None`` if it is not a number or its seconds do not fit 64 bits.
    """
    match = _DECIMAL.fullmatch(value)
    if match is None:
        return None
    sign, seconds, fraction = match.groups()
    whole = int(seconds)
    if whole > _INT64_MAX:
        return None
    ns = whole * NANOSECONDS
    if fraction:
        ns += int((fraction + b"00000000")[:9])
    if sign:
        return -ns - 1 if fraction and fraction[9:].strip(b"0") else -ns
    return ns


def format_time_ns(ns: int) -> bytes:
    """The shortest decimal number of seconds that :func:`parse_time_ns` reads back exactly."""
    sign = b"-" if ns < 0 else b""
    seconds, fraction = divmod(abs(ns), NANOSECONDS)
    if not fraction:
        return b"%s%d" % (sign, seconds)
    return b"%s%d.%s" % (sign, seconds, (b"%09d" % fraction).rstrip(b"0"))


def parse_count(value: bytes, maximum: int = _INT64_MAX) -> int | None:
    """A decimal number from 0 to ``maximum``, else ``None``."""
    if not value.isdigit() or len(value) > _LENGTH_DIGITS_MAX:
        return None
    number = int(value)
    return number if number <= maximum else None


def _decode_base64(value: bytes) -> bytes | None:
    import binascii

    try:
        # libarchive leaves out the padding.
        return binascii.a2b_base64(value + b"=" * (-len(value) % 4), strict_mode=True)
    except binascii.Error:
        return None


def xattrs_of(values: Mapping[bytes, bytes]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """Extended attributes by name, and the keywords of malformed ones.

    GNU tar writes ``=`` and ``%`` of a name as ``%3D`` and ``%25``.  libarchive writes each
    attribute twice, raw under ``SCHILY`` and encoded under its own name; the raw one counts.
    """
    found: dict[bytes, bytes] = {}
    bad: list[bytes] = []
    for keyword, value in values.items():
        if keyword.startswith(_LIBARCHIVE_XATTR):
            name = unquote_to_bytes(keyword[len(_LIBARCHIVE_XATTR) :])
            decoded = _decode_base64(value)
            if decoded is None or not name:
                bad.append(keyword)
            else:
                found.setdefault(name, decoded)
        elif keyword.startswith(_SCHILY_XATTR):
            name = keyword[len(_SCHILY_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")
            if name:
                found[name] = value
            else:
                bad.append(keyword)
    return found, bad


def format_record(keyword: bytes, value: bytes) -> bytes:
    """One record with its length in front, which counts its own digits."""
    rest = len(keyword) + len(value) + 3
    length = rest + len(str(rest))
    if len(str(length)) != len(str(rest)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, keyword, value)


def format_xattr_keyword(name: bytes) -> bytes:
    """The keyword of an extended attribute, its name encoded as GNU tar does."""
    return _SCHILY_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")
