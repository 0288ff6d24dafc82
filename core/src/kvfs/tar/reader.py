"""Reading an uncompressed tar stream, member by member.

Where tar programs differ this one does what GNU tar 1.34 does, except that it never gives up on
the rest of an archive because of one member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kvfs.errors import Exhausted, Invalid
from kvfs.tar.assembly import Assembler, NoteProblem
from kvfs.tar.header import BLOCK, NANOSECONDS, ZERO_BLOCK, HeaderDecoder, HeaderError
from kvfs.tar.limits import TarLimits
from kvfs.tar.member import NO_XATTRS, Member, MemberType
from kvfs.tar.problems import NotATarball, Problem, ProblemKind, Truncated
from kvfs.tar.window import ByteStream, Window

BUFFER_BYTES: Final = 1 << 20

_PLAIN: Final = (b"0", b"\0")


def _reporter(on_problem: Callable[[Problem], None] | None) -> NoteProblem:
    def note(offset: int, name: bytes, kind: ProblemKind, message: str) -> None:
        if on_problem is not None:
            on_problem(Problem(offset, name, kind, message))

    return note


class TarReader:
    """Iterates over the members of a tar stream, once.

    ``for member in reader:`` gives members in the archive's order; until the next step,
    :meth:`read_body` or :meth:`segments` give the contents of the current one.  Bodies that nobody
    reads are passed over, by seeking where the stream can.  Reads only forwards, holds one buffer
    of ``buffer_bytes`` (and those of which a caller keeps views), and is not thread-safe.

    The archive ends at two zero blocks; what follows is not looked at, but a stream with a method
    ``finish`` (one that decompresses) is asked to verify its own end.

    :param stream: uncompressed; see :class:`~kvfs.tar.window.ByteStream`.
    :param limits: bounds of what is served and of the memory used.
    :param on_problem: called with each note while iterating; it must not use the reader.
    :param buffer_bytes: size of the buffer, at least 64 KiB.
    :raises Invalid: ``buffer_bytes`` is too small.

    Iterating raises:

    - :class:`NotATarball` if the first block is neither a header nor zero, or there is none;
    - :class:`~kvfs.errors.Corrupt` if the compression around the archive is damaged, after the
      members before the damage;
    - :class:`~kvfs.errors.Unavailable` if the stream fails.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        limits: TarLimits | None = None,
        on_problem: Callable[[Problem], None] | None = None,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        if buffer_bytes < 64 << 10:
            raise Invalid(f"a buffer of {buffer_bytes:,} bytes is too small: 64 KiB at least")
        self._stream = stream
        self._limits = limits if limits is not None else TarLimits()
        self._note = _reporter(on_problem)
        self._buffer_bytes = buffer_bytes
        self._window = Window(stream, capacity=buffer_bytes)
        self._decoder = HeaderDecoder()
        self._assembler = Assembler(self._window, self._decoder, self._limits, self._note)
        self._member: Member | None = None
        self._lost = False
        self._last_zero = -1
        self._truncation_raised = False
        self._iterated = False

    def __iter__(self) -> Iterator[Member]:
        """The one iterator of this reader.

        :raises Invalid: there was one before.
        """
        # The generator is not kept: it refers to the reader, and a cycle would hold the buffers of
        # a reader that nobody uses any more until the collector comes by.
        if self._iterated:
            raise Invalid("an archive is read once: make another reader")
        self._iterated = True
        return self._iterate()

    # -- bodies ---------------------------------------------------------------------------------

    def read_body(self) -> memoryview:
        """The whole logical content of the current member, holes as zeros.

        Without a copy where the buffer holds it.  The view stays valid and unchanged for as long
        as it is held, but a view held keeps ``buffer_bytes`` of memory: copy what is kept for
        long.  May be called again until the next step, unless the body passes ``buffer_bytes``.

        :raises Truncated: the stream ends inside the body.
        :raises Exhausted: the member is larger than ``limits.body_bytes_max``: use
            :meth:`segments`.
        :raises Invalid: there is no current member, or its body was read before and is gone.
        """
        member = self._member
        if member is None:
            raise Invalid("the reader stands at no member")
        size = member.size
        if member.sparse_map is None and size <= self._buffer_bytes:
            window = self._window
            at = member.data_offset - window.base
            if at < 0 or at + size > window.end:
                at = window.locate(member.data_offset, size)
                if at < 0:
                    raise self._truncated(member)
            return window.view[at : at + size]
        if size > self._limits.body_bytes_max:
            limit = self._limits.body_bytes_max
            raise Exhausted(f"a body of {size:,} bytes is over {limit:,}: read it in segments")
        body = bytearray()
        for offset, data in self.segments(self._buffer_bytes):
            body.extend(bytes(offset - len(body)))
            body.extend(data)
        body.extend(bytes(size - len(body)))
        return memoryview(body)

    def segments(self, max_bytes: int = 64 << 10) -> Iterator[tuple[int, memoryview]]:
        """The data of the current member as ``(logical offset, bytes)``, in order, without holes.

        Each piece has ``max_bytes`` exactly, except the last of a segment between two holes (of
        the file, where it has none).  Views are as those of :meth:`read_body`.

        :param max_bytes: 1 to ``buffer_bytes``.
        :raises Truncated: the stream ends inside the body, after the pieces that are there.
        :raises Invalid: ``max_bytes`` is out of range; there is no current member; the iterator is
            used after the next step of the reader; the body was read before and is gone.
        """
        if not 1 <= max_bytes <= self._buffer_bytes:
            raise Invalid(f"max_bytes must be 1 to {self._buffer_bytes:,}, not {max_bytes:,}")
        member = self._member
        if member is None:
            raise Invalid("the reader stands at no member")
        return self._segments(member, max_bytes)

    def _segments(self, member: Member, max_bytes: int) -> Iterator[tuple[int, memoryview]]:
        window = self._window
        stored = member.data_offset
        runs = ((0, member.size),) if member.sparse_map is None else member.sparse_map
        for start, length in runs:
            offset, end = start, start + length
            while offset < end:
                if self._member is not member:
                    raise Invalid("the reader has moved on to another member")
                part = min(max_bytes, end - offset)
                at = window.locate(stored, part)
                if at < 0:
                    at = stored - window.base
                    if at < window.end:
                        yield offset, window.view[at : window.end]
                    raise self._truncated(member)
                yield offset, window.view[at : at + part]
                offset += part
                stored += part

    def _truncated(self, member: Member) -> Truncated:
        self._truncation_raised = True
        name = member.name.decode("utf-8", "backslashreplace")
        return Truncated(f"{name}: the archive ends inside this member")

    # -- iteration ------------------------------------------------------------------------------

    def _iterate(self) -> Iterator[Member]:
        window, decode, assembler = self._window, self._decoder.decode, self._assembler
        regular, bytes_max = MemberType.REGULAR, self._limits.member_bytes_max
        remaining = self._limits.members_max
        at = 0
        while at >= 0:
            place = at - window.base
            if place + BLOCK > window.end:
                place = window.locate(at, BLOCK)
                if place < 0:
                    self._note_end(at)
                    break
            try:
                fields = decode(window.view, place)
            except HeaderError as error:
                self._lost = error.size is None
                at = assembler.refuse(error, at)
                continue
            if fields is None:
                at = self._pass_no_header(at, bytes(window.view[place : place + BLOCK]))
                continue
            self._lost = False
            name, mode, uid, gid, size, mtime, kind, _, tail = fields
            if assembler.plain and kind in _PLAIN and size <= bytes_max and name[-1:] != b"/":
                start = at + BLOCK
                member = Member(
                    name,
                    regular,
                    mode,
                    uid,
                    gid,
                    size,
                    mtime * NANOSECONDS,
                    b"",
                    tail.uname,
                    tail.gname,
                    0,
                    0,
                    tail.atime_ns,
                    tail.ctime_ns,
                    NO_XATTRS,
                    None,
                    at,
                    start,
                    size,
                )
                at = start + ((size + 511) & -512)
            else:
                assembled, at = assembler.take(fields, at)
                if assembled is None:
                    continue
                member = assembled
            if not remaining:
                message = f"over {self._limits.members_max:,} members: the rest is not served"
                self._note(member.offset, member.name, ProblemKind.LIMIT, message)
                break
            remaining -= 1
            self._member = member
            yield member
        self._member = None
        finish = getattr(self._stream, "finish", None)
        if finish is not None:
            finish()

    def _pass_no_header(self, at: int, block: bytes) -> int:
        """Where to go on behind a block that is no header; -1 at the end of the archive."""
        if block == ZERO_BLOCK:
            # Behind a damaged header, zeros are more likely part of the body that was lost than
            # the end of the archive, so they end nothing there (GNU tar stops).
            if self._lost or self._limits.ignore_zeros:
                self._last_zero = at
                return at + BLOCK
            self._assembler.note_orphan(at)
            second = self._window.locate(at + BLOCK, BLOCK)
            if second < 0 or self._window.view[second : second + BLOCK] != ZERO_BLOCK:
                message = "a lone zero block ends the archive"
                self._note(at, b"", ProblemKind.LONE_ZERO_BLOCK, message)
            return -1
        if at == 0:
            raise NotATarball("this is not a tar archive: its first block is no header")
        if not self._lost:
            self._lost = True
            name = self._assembler.drop_pending()
            message = "an invalid header: skipping to the next valid one"
            self._note(at, name, ProblemKind.INVALID_HEADER, message)
        return at + BLOCK

    def _note_end(self, at: int) -> None:
        """The stream has ended where a header was due."""
        end = self._window.seen_end or 0
        if end < BLOCK:
            what = "it is empty" if end == 0 else f"it has {end} bytes"
            raise NotATarball(f"this is not a tar archive: {what}")
        member, passed = self._member, self._assembler.passed_over
        if member is not None and member.data_offset + member.stored_size > end:
            if not self._truncation_raised:
                message = "the archive ends inside this member"
                self._note(member.offset, member.name, ProblemKind.TRUNCATED, message)
            return
        if passed is not None and passed.stop > end:
            message = "the archive ends inside this member, which was not served"
            self._note(passed.offset, passed.name, ProblemKind.TRUNCATED, message)
            return
        self._assembler.note_orphan(at)
        if self._last_zero < 0 or self._last_zero != at - BLOCK:
            message = "the archive ends without an end-of-archive mark"
            self._note(end, b"", ProblemKind.MISSING_EOF, message)
