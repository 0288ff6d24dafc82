"""Paths and the tarballs they lead into, found without fetching anything."""

from __future__ import annotations

from collections.abc import Iterator

from kvfs.errors import NotFound
from kvfs.files import Files
from kvfs.files.records import ROOT_INODE, VOLUME_ID, tarball_of
from kvfs.volume import Volume


def descend(files: Files, path: bytes) -> tuple[int, list[bytes]]:
    """Follow ``path`` down to a tarball; its root, and the parts of the path inside.

    For a path that ends above the tarballs: the inode of that directory, and nothing.

    :raises NotFound: there is no such directory or tarball.
    """
    inode = ROOT_INODE
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    for number, part in enumerate(parts):
        if part == b"..":
            raise NotFound(f"{path!r}: '..' leads nowhere here")
        found = files.find(inode, part)
        if found is None:
            raise NotFound(f"{path!r}: there is no {part!r}")
        inode = found.inode
        if tarball_of(inode) != VOLUME_ID:
            return inode, parts[number + 1 :]
    return inode, []


def tarballs_below(volume: Volume, path: bytes) -> Iterator[int]:
    """The tarball that ``path`` is or leads into, or every tarball below that directory."""
    files = volume.files(wait=False)
    try:
        inode, _ = descend(files, path)
        stack = [iter([inode])]
        while stack:
            inode = next(stack[-1], 0)
            if not inode:
                stack.pop()
            elif tarball_of(inode) != VOLUME_ID:
                yield tarball_of(inode)
            else:
                stack.append(entry.attributes.inode for entry in files.entries(inode))
    finally:
        files.close()
