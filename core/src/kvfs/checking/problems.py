"""What can be wrong with a tree."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import attrs

from kvfs.files.change import Change

Mend = Callable[[Change], None]
"""Puts one thing right, in one batch; it goes by what is there now, not by what was found."""


class Kind(StrEnum):
    """The kinds of problems, by the names that programs know them by."""

    STRAY = "stray"
    """A record under a key that means nothing here."""
    MARK = "mark"
    """Says that something fetched is not there any more, which never was there."""
    WRITTEN = "written"
    """What says that a tarball was written to is missing, or is of none."""
    NOT_CHECKED = "not-checked"
    """A tarball that was written to cannot be fetched."""
    COUNTER = "counter"
    """The next inode number was given out before."""
    ROOT = "root"
    INODE = "inode"
    """An inode record that cannot be read, or contradicts itself."""
    LOST_INODE = "lost-inode"
    """Names or contents of an inode that is not there, or not as they need it."""
    CONTENT = "content"
    """Small contents or a link target, or the size of them."""
    EXTENT = "extent"
    BLOCKS = "blocks"
    XATTR = "xattr"
    DIRENT = "dirent"
    """A dirent record that cannot be read, or is not as its inode would have it."""
    DANGLING = "dangling"
    """A name that leads to no inode."""
    NAME = "name"
    """No file name, or one that is in its directory twice."""
    SLOT = "slot"
    """A name where nobody who looks for it comes by."""
    BACK_POINTER = "back-pointer"
    LINK = "link"
    """The record of a further name is missing, or there is no such name."""
    SECOND_NAME = "second-name"
    """A directory has two names."""
    ORPHAN = "orphan"
    """An inode without a name that was not unlinked."""
    UNLINKED = "unlinked"
    """Said to be unlinked, and is not; or is not there."""
    LINK_COUNT = "link-count"
    LOOP = "loop"
    """Directories that are in one another, and not in the root."""


@attrs.frozen
class Problem:
    """One thing that is wrong."""

    kind: Kind
    inode: int | None
    text: str
    """What is wrong with what; behind its last colon, what mending it does."""
    mend: Mend | None = attrs.field(eq=False, repr=False)
    """``None``: nothing can be done here."""
    path: bytes | None = None
    """Of the inode, in the volume, where its names lead up to the root."""


__all__ = ["Kind", "Mend", "Problem"]
