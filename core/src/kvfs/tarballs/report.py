"""What an ingest did."""

from __future__ import annotations

import attrs

from kvfs.files import Attributes
from kvfs.tar.problems import Problem

PROBLEMS_KEPT = 1000
"""Remarks kept word for word; the rest are counted."""
PROBLEM_BYTES_MAX = 4096
"""How much is kept of a name or a message: a hostile archive has names of a megabyte."""


@attrs.define(kw_only=True)
class IngestReport:
    """What an ingest did, and what it could not do."""

    tarball: int
    object: str
    compression: str = "none"
    members: int = 0
    """Members served, directories that were only implied not counted."""
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    links: int = 0
    """Hard links."""
    others: int = 0
    """Devices and FIFOs."""
    content_bytes: int = 0
    """Holes left out."""
    archive_bytes: int = 0
    """Size of the object."""
    archive_bytes_read: int = 0
    """How much of the object has been read so far."""
    seconds: float = 0.0
    problems: list[Problem] = attrs.field(factory=list)
    problems_total: int = 0
    lost: int = 0
    """How many of the problems mean that something in the archive is not served."""
    root: Attributes | None = None
    """The attributes of the tarball's own directory."""
    root_xattrs: bool = False
    """It has extended attributes."""
    root_listed: bool = False
    """The tarball has a member ``./``."""

    def note(self, problem: Problem) -> None:
        """Remember a remark, the first thousand of them in full."""
        self.problems_total += 1
        self.lost += problem.kind.loses_members
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(
                attrs.evolve(
                    problem,
                    name=problem.name[:PROBLEM_BYTES_MAX],
                    message=problem.message[:PROBLEM_BYTES_MAX],
                )
            )
