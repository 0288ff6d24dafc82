"""What is wrong with a tarball: notes that do not stop the reading, and errors that do."""

from __future__ import annotations

from enum import StrEnum

import attrs

from kvfs.errors import Corrupt


class NotATarball(Corrupt):
    """The bytes are neither a tar archive nor a compression known here."""


class Truncated(Corrupt):
    """The stream ends inside the body of a member."""


class ProblemKind(StrEnum):
    """Closed set of the notes a reader makes."""

    INVALID_HEADER = "invalid-header"
    """Blocks that are no header stood where one was due; at least one member is lost."""
    REFUSED = "refused"
    """A member whose header makes no sense is not served."""
    LIMIT = "limit"
    """A bound of ``TarLimits`` was passed; what it names is not served."""
    TRUNCATED = "truncated"
    """The stream ends inside a member."""
    MISSING_EOF = "missing-eof"
    """The stream ends without the two zero blocks; nothing need be lost."""
    LONE_ZERO_BLOCK = "lone-zero-block"
    """One zero block without a second; the archive ends there, as for GNU tar."""
    UNKNOWN_TYPE = "unknown-type"
    """A member of an unknown type is served as a regular file."""
    EXTENDED_HEADER = "extended-header"
    """A record of an extended header is malformed and ignored; the member is served."""
    IGNORED = "ignored"
    """An entry that is no file (volume label, continuation of another volume) is passed over."""

    @property
    def loses_members(self) -> bool:
        """Whether something that the archive held is not served."""
        return self in _LOSING


_LOSING = frozenset(
    {
        ProblemKind.INVALID_HEADER,
        ProblemKind.REFUSED,
        ProblemKind.LIMIT,
        ProblemKind.TRUNCATED,
    }
)


class RefusedMember(Exception):
    """A member cannot be served as its headers describe it.

    Internal to the room: the reader turns it into a problem.

    :ivar kind: of the problem.
    :ivar resume: offset of the block behind the member, where known better than by its size.
    """

    def __init__(self, message: str, kind: ProblemKind = ProblemKind.REFUSED) -> None:
        super().__init__(message)
        self.kind = kind
        self.resume: int | None = None


@attrs.frozen
class Problem:
    """One note about an archive.

    :ivar offset: where in the uncompressed stream, in bytes.
    :ivar name: the member concerned as far as known, else ``b""``.
    :ivar kind: what sort.
    :ivar message: one sentence for a person, without offset and name.
    """

    offset: int
    name: bytes
    kind: ProblemKind
    message: str

    def __str__(self) -> str:
        """Everything in one line, the name printable whatever its bytes are."""
        subject = self.name.decode("utf-8", "backslashreplace") if self.name else "archive"
        return f"{subject}: {self.message} (at byte {self.offset:,})"
