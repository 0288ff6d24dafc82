"""What extension headers change about the member behind them.

Precedence, lowest first: the header block, a GNU long name, global pax records, the member's own
pax records.  An empty pax value deletes what a global record set; for names of owners it deletes
the header's value as well.  Only the last extended header of each kind counts, as for GNU tar, so a
chain of them costs no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from kvfs.tar.header import NANOSECONDS, UID_MAX, Fields, c_string
from kvfs.tar.member import NO_XATTRS
from kvfs.tar.pax import PaxRecords, parse_count, parse_time_ns, xattrs_of
from kvfs.tar.problems import ProblemKind, RefusedMember

Note: TypeAlias = Callable[[str], None]
"""Called with one sentence for each record that is ignored."""

_TIMES: Final = frozenset({b"mtime", b"atime", b"ctime"})
_NAMES: Final = frozenset({b"path", b"linkpath", b"uname", b"gname"})
_NUMBERS: Final = frozenset({b"uid", b"gid", b"SCHILY.devmajor", b"SCHILY.devminor"})
_GLOBAL_PREFIXES_IGNORED: Final = (b"GNU.sparse.", b"SCHILY.xattr.", b"LIBARCHIVE.xattr.")


@attrs.define
class Pending:
    """Extension headers read, whose member is yet to come.

    :ivar offset: of the first of them.
    :ivar refusal: why the member must not be served, and what sort of problem that is; known
        before its header is read.
    """

    offset: int
    long_name: bytes | None = None
    long_link: bytes | None = None
    records: PaxRecords | None = None
    refusal: tuple[str, ProblemKind] | None = None

    def name_of(self, header_name: bytes) -> bytes:
        """The member's name as far as the headers read so far tell."""
        values = self.records.values if self.records is not None else {}
        return (
            values.get(b"GNU.sparse.name")
            or values.get(b"path")
            or (self.long_name if self.long_name is not None else header_name)
        )


@attrs.define
class Attributes:
    """Attributes of a member while headers are laid over each other."""

    name: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    linkname: bytes
    uname: bytes
    gname: bytes
    devmajor: int | None
    devminor: int | None
    atime_ns: int | None
    ctime_ns: int | None
    xattrs: Mapping[bytes, bytes] = NO_XATTRS
    size_is_pax: bool = False

    @classmethod
    def of(cls, fields: Fields) -> Attributes:
        """What the header block alone says."""
        name, mode, uid, gid, size, mtime, _, link, tail = fields
        return cls(
            name,
            mode,
            uid,
            gid,
            size,
            mtime * NANOSECONDS,
            c_string(link),
            tail.uname,
            tail.gname,
            tail.devmajor,
            tail.devminor,
            tail.atime_ns,
            tail.ctime_ns,
        )

    def apply(self, pending: Pending | None, shared: Mapping[bytes, bytes], note: Note) -> None:
        """Lay extension headers over the header block.

        :raises RefusedMember: a size makes no sense, so where the member ends is unknown.
        """
        records = None
        if pending is not None:
            if pending.long_name is not None:
                self.name = pending.long_name
            if pending.long_link is not None:
                self.linkname = pending.long_link
            records = pending.records
        values = shared if records is None else {**shared, **records.values}
        for keyword, value in values.items():
            if keyword in _TIMES:
                self._apply_time(keyword, value, note)
            elif keyword in _NAMES:
                self._apply_name(keyword, value)
            elif keyword == b"size":
                self._apply_size(value)
            elif keyword in _NUMBERS:
                self._apply_number(keyword, value, note)
        if records is not None and records.has_xattrs:
            self.xattrs, malformed = xattrs_of(records.values)
            for keyword in malformed:
                note(f"its extended attribute {keyword!r} is malformed")

    def _apply_time(self, keyword: bytes, value: bytes, note: Note) -> None:
        parsed = parse_time_ns(value)
        if value and parsed is None:
            note(f"its pax record {keyword.decode()}={value!r} is not a time")
        elif keyword == b"atime":
            self.atime_ns = parsed
        elif keyword == b"ctime":
            self.ctime_ns = parsed
        elif parsed is not None:
            self.mtime_ns = parsed

    def _apply_name(self, keyword: bytes, value: bytes) -> None:
        # A NUL cannot be part of a name: what follows it is cut off, as GNU tar does.
        name = c_string(value)
        if keyword == b"uname":
            self.uname = name
        elif keyword == b"gname":
            self.gname = name
        elif keyword == b"path":
            self.name = name or self.name
        else:
            self.linkname = name or self.linkname

    def _apply_size(self, value: bytes) -> None:
        if not value:
            return
        size = parse_count(value)
        if size is None:
            raise RefusedMember(f"its pax size {value!r} is not a size")
        self.size = size
        self.size_is_pax = True

    def _apply_number(self, keyword: bytes, value: bytes, note: Note) -> None:
        if not value:
            return
        number = parse_count(value, UID_MAX)
        if number is None:
            keyword_text = keyword.decode()
            note(f"its pax record {keyword_text}={value!r} is not a number from 0 to {UID_MAX:,}")
        elif keyword == b"uid":
            self.uid = number
        elif keyword == b"gid":
            self.gid = number
        elif keyword == b"SCHILY.devmajor":
            self.devmajor = number
        else:
            self.devminor = number


def merged_globals(
    shared: Mapping[bytes, bytes], records: PaxRecords, bytes_max: int
) -> dict[bytes, bytes] | None:
    """Global records after one more global header; ``None`` if they pass ``bytes_max`` together.

    What describes one file only (a sparse map, extended attributes) has no place in a global
    header and is left out.
    """
    merged = dict(shared)
    for keyword, value in records.values.items():
        if keyword.startswith(_GLOBAL_PREFIXES_IGNORED):
            continue
        if value:
            merged[keyword] = value
        else:
            merged.pop(keyword, None)
    total = sum(len(keyword) + len(value) for keyword, value in merged.items())
    return merged if total <= bytes_max else None
