"""From headers to a member: extension headers, types, sparse maps, and where data ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import attrs

from kvfs.tar.extensions import Attributes, Pending, merged_globals
from kvfs.tar.header import BLOCK, ZERO_BLOCK, Fields, HeaderDecoder, HeaderError, Tail, c_string
from kvfs.tar.limits import TarLimits
from kvfs.tar.member import Member, MemberType
from kvfs.tar.pax import PaxRecords, parse_records
from kvfs.tar.problems import ProblemKind, RefusedMember, Truncated
from kvfs.tar.sparse import SparseMap, checked_map, read_old_map, read_pax_map
from kvfs.tar.window import Window

NoteProblem: TypeAlias = Callable[[int, bytes, ProblemKind, str], None]
"""Offset, member name, kind, message."""

_TYPES: Final = {
    b"0": MemberType.REGULAR,
    b"\0": MemberType.REGULAR,
    b"7": MemberType.REGULAR,
    b"S": MemberType.REGULAR,
    b"1": MemberType.HARDLINK,
    b"2": MemberType.SYMLINK,
    b"3": MemberType.CHARACTER_DEVICE,
    b"4": MemberType.BLOCK_DEVICE,
    b"5": MemberType.DIRECTORY,
    b"D": MemberType.DIRECTORY,
    b"6": MemberType.FIFO,
}
_LINKS: Final = (MemberType.HARDLINK, MemberType.SYMLINK)
_DEVICES: Final = (MemberType.CHARACTER_DEVICE, MemberType.BLOCK_DEVICE)
_PAX: Final = (b"x", b"X", b"g")
_EXTENSIONS: Final = (b"L", b"K", *_PAX)
_NO_FILES: Final = {
    b"V": "a volume label, which is no file",
    b"M": "the continuation of a file that began on another volume",
    b"N": "a name list of an obsolete kind",
}


def padded(size: int) -> int:
    """``size`` in whole blocks."""
    return (size + BLOCK - 1) & -BLOCK


@attrs.frozen
class PassedOver:
    """Bytes of a member that nobody is given; ``stop`` is the offset behind the last of them."""

    name: bytes
    offset: int
    stop: int


@attrs.define
class _Entry:
    """A member in the making: its header, what came before it, and where its data is."""

    kind: bytes
    tail: Tail
    attributes: Attributes
    records: PaxRecords | None
    offset: int
    start: int

    @property
    def pax_values(self) -> Mapping[bytes, bytes]:
        return {} if self.records is None else self.records.values

    def member(
        self, type_: MemberType, stored: int = 0, sparse_map: SparseMap | None = None
    ) -> Member:
        known = self.attributes
        is_device = type_ in _DEVICES
        return Member(
            known.name,
            type_,
            known.mode,
            known.uid,
            known.gid,
            known.size if type_ is MemberType.REGULAR else 0,
            known.mtime_ns,
            known.linkname if type_ in _LINKS else b"",
            known.uname,
            known.gname,
            (known.devmajor or 0) if is_device else 0,
            (known.devminor or 0) if is_device else 0,
            known.atime_ns,
            known.ctime_ns,
            known.xattrs,
            sparse_map,
            self.offset,
            self.start,
            stored,
        )


class Assembler:
    """Takes the headers of a reader one by one and makes members of them.

    :ivar plain: the next header stands for itself: no extension header is in force.
    :ivar passed_over: the last data that was skipped without being a member's.
    """

    def __init__(
        self, window: Window, decoder: HeaderDecoder, limits: TarLimits, note: NoteProblem
    ) -> None:
        self._window = window
        self._decoder = decoder
        self._limits = limits
        self._note = note
        self._pending: Pending | None = None
        self._globals: dict[bytes, bytes] = {}
        self.plain = True
        self.passed_over: PassedOver | None = None

    def take(self, fields: Fields, at: int) -> tuple[Member | None, int]:
        """The member of the header at ``at``, if it is one to be served, and where to go on."""
        name, _, _, _, size, _, kind, _, tail = fields
        if kind in _EXTENSIONS:
            return None, self._read_extension(kind, name, size, at)
        pending = self._pending
        offset = at if pending is None else pending.offset
        name = self.drop_pending(name)
        attributes = Attributes.of(fields)
        records = None if pending is None else pending.records
        entry = _Entry(kind, tail, attributes, records, offset, at + BLOCK)
        try:
            self._apply_extensions(entry, pending, name)
            if kind in _NO_FILES:
                raise RefusedMember(_NO_FILES[kind], ProblemKind.IGNORED)
            return self._typed_member(entry)
        except RefusedMember as error:
            self._note(offset, name, error.kind, str(error))
            if error.resume is not None:
                return None, self._pass_over(name, offset, error.resume, 0)
            return None, self._pass_over(name, offset, at + BLOCK, attributes.size)
        except Truncated:
            # The next step finds the end of the stream, and this member cut off by it.
            return None, self._pass_over(name, offset, (self._window.seen_end or 0) + 1, 0)

    def refuse(self, error: HeaderError, at: int) -> int:
        """Where to go on behind a header with a number that makes no sense."""
        if error.kind in _EXTENSIONS and error.size is not None:
            # Owner and time of an extension header mean nothing.
            return self._read_extension(error.kind, error.name, error.size, at)
        name = self.drop_pending(error.name)
        self._note(at, name, ProblemKind.REFUSED, str(error))
        if error.kind in _EXTENSIONS and error.kind != b"g":
            # The member behind it must not appear under the name that was to be replaced.
            reason = "its extended header is damaged"
            self._expect_member(at).refusal = (reason, ProblemKind.REFUSED)
        return self._pass_over(name, at, at + BLOCK, error.size or 0)

    def drop_pending(self, header_name: bytes = b"") -> bytes:
        """Forget extension headers whose member has come or is lost; its name as far as known."""
        name = header_name if self._pending is None else self._pending.name_of(header_name)
        self._pending = None
        self.plain = not self._globals
        return name

    def note_orphan(self, at: int) -> None:
        """The archive ends: note an extension header whose member never came."""
        if self._pending is not None:
            message = "an extended header without a member behind it"
            self._note(at, self.drop_pending(), ProblemKind.EXTENDED_HEADER, message)

    def _pass_over(self, name: bytes, offset: int, start: int, size: int) -> int:
        stop = start + size
        if self.passed_over is None or self.passed_over.stop < stop:
            self.passed_over = PassedOver(name, offset, stop)
        return start + padded(size)

    # -- extension headers ----------------------------------------------------------------------

    def _expect_member(self, at: int) -> Pending:
        if self._pending is None:
            self._pending = Pending(at)
            self.plain = False
        return self._pending

    def _read_extension(self, kind: bytes, name: bytes, size: int, at: int) -> int:
        """Take in one extension header; where to go on."""
        start = at + BLOCK
        try:
            if kind == b"g":
                self._read_global(name, size, at)
            else:
                self._read_own(kind, size, at)
        except Truncated:
            if self._pending is not None:
                name = self.drop_pending(name)
        return self._pass_over(name, at, start, size)

    def _read_own(self, kind: bytes, size: int, at: int) -> None:
        limits = self._limits
        limit = limits.pax_header_bytes_max if kind in _PAX else limits.long_name_bytes_max
        pending = self._expect_member(at)
        if size > limit:
            reason = f"its extended header of {size:,} bytes is over {limit:,}"
            pending.refusal = (reason, ProblemKind.LIMIT)
            return
        data = self._window.read(at + BLOCK, size)
        if kind == b"L":
            pending.long_name = c_string(data)
        elif kind == b"K":
            pending.long_link = c_string(data)
        else:
            pending.records = parse_records(data)

    def _read_global(self, name: bytes, size: int, at: int) -> None:
        limit = self._limits.pax_header_bytes_max
        merged = None
        if size <= limit:
            records = parse_records(self._window.read(at + BLOCK, size))
            if records.error is not None:
                self._note(at, name, ProblemKind.EXTENDED_HEADER, records.error)
            merged = merged_globals(self._globals, records, limit)
        if merged is None:
            message = f"global extended headers of over {limit:,} bytes are ignored"
            self._note(at, name, ProblemKind.LIMIT, message)
        else:
            self._globals = merged
            self.plain = not merged and self._pending is None

    def _apply_extensions(self, entry: _Entry, pending: Pending | None, name: bytes) -> None:
        def note(message: str) -> None:
            self._note(entry.offset, name, ProblemKind.EXTENDED_HEADER, message)

        if pending is not None and pending.refusal is not None:
            raise RefusedMember(*pending.refusal)
        if entry.records is not None and entry.records.error is not None:
            note(entry.records.error)
        entry.attributes.apply(pending, self._globals, note)

    # -- types ----------------------------------------------------------------------------------

    def _typed_member(self, entry: _Entry) -> tuple[Member, int]:
        attributes = entry.attributes
        type_ = _TYPES.get(entry.kind)
        if type_ is None:
            message = f"its type {entry.kind!r} is unknown: served as a regular file"
            self._note(entry.offset, attributes.name, ProblemKind.UNKNOWN_TYPE, message)
            type_ = MemberType.REGULAR
        if entry.kind in (b"0", b"\0") and attributes.name.endswith(b"/"):
            # How directories were written before they had a type; data of one is passed over.
            return entry.member(MemberType.DIRECTORY), self._behind_data(entry)
        if type_ is MemberType.REGULAR:
            return self._regular_member(entry)
        if type_ in _DEVICES and (attributes.devmajor is None or attributes.devminor is None):
            raise RefusedMember("its device numbers are no numbers")
        if attributes.size and self._data_follows(entry):
            return entry.member(type_), self._behind_data(entry)
        return entry.member(type_), entry.start

    def _behind_data(self, entry: _Entry) -> int:
        attributes = entry.attributes
        return self._pass_over(attributes.name, entry.offset, entry.start, attributes.size)

    def _data_follows(self, entry: _Entry) -> bool:
        """Whether blocks of data stand behind a header that is no file but has a size.

        Programs disagree: POSIX lets a size of a directory mean an allocation and one of a hard
        link be its contents, old tars put the size of the target on a link, and GNU tar believes
        neither or both by type.  Dump directories (``D``) and pax hard links that state their size
        in a record (``pax -o linkdata``; GNU tar and libarchive believe it too) have data.  For the
        others the next block tells, as in libarchive: if it is a header, there is no data.  The
        contents of a hard link repeat those of the earlier member, so nothing is lost in passing
        them over.
        """
        if entry.kind == b"D" or (entry.kind == b"1" and entry.attributes.size_is_pax):
            return True
        place = self._window.locate(entry.start, BLOCK)
        if place < 0 or self._window.view[place : place + BLOCK] == ZERO_BLOCK:
            return False
        try:
            return self._decoder.decode(self._window.view, place) is None
        except HeaderError:
            return False

    def _regular_member(self, entry: _Entry) -> tuple[Member, int]:
        attributes = entry.attributes
        sparse_map = None
        if entry.kind == b"S" or (entry.records is not None and entry.records.is_sparse):
            stored, sparse_map = self._read_sparse_map(entry)
        else:
            stored = attributes.size
        stop = entry.start + padded(stored)
        limit = self._limits.member_bytes_max
        if attributes.size > limit:
            message = f"its size of {attributes.size:,} bytes is over {limit:,}"
            refusal = RefusedMember(message, ProblemKind.LIMIT)
            refusal.resume = stop
            raise refusal
        return entry.member(MemberType.REGULAR, stored, sparse_map), stop

    def _read_sparse_map(self, entry: _Entry) -> tuple[int, SparseMap]:
        """Stored bytes and map of a sparse file; sets its start, size and name."""
        limit = self._limits.sparse_segments_max
        is_old = entry.kind == b"S"
        at = start = entry.start
        left = stored = entry.attributes.size

        def next_block() -> bytes:
            nonlocal at
            if not is_old and at - start >= stored:
                raise RefusedMember("its sparse map is longer than what is stored of it")
            at += BLOCK
            return self._window.read(at - BLOCK, BLOCK)

        try:
            if is_old:
                size, pairs = read_old_map(entry.tail, next_block, limit)
            else:
                assert entry.records is not None
                size, pairs = read_pax_map(entry.records, next_block, limit)
                left = stored - (at - start)
            sparse_map = checked_map(pairs, size, left, limit)
        except RefusedMember as error:
            # The blocks of an old map stand in front of what its header counts.
            error.resume = (at if is_old else start) + padded(stored)
            raise
        entry.start = at
        entry.attributes.size = size
        name = c_string(entry.pax_values.get(b"GNU.sparse.name", b""))
        entry.attributes.name = name or entry.attributes.name
        return left, sparse_map
