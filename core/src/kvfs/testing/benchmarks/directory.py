"""A directory of small files, as the records in which an ingest writes it."""

from __future__ import annotations

import random
import stat
from functools import lru_cache

import attrs

from kvfs.files.names import NameHash
from kvfs.files.records import (
    FOREVER_S,
    Attributes,
    dirent_key,
    inode_key,
    inode_of,
    pack_dirent,
    pack_inode,
)

CONTENT_BYTES = (100, 2000)
"""How small the files are: any size from here to there is as likely."""


@attrs.frozen
class Directory:
    """Dirents that hold attributes, and inodes that hold contents; keys in no order."""

    dirents: dict[bytes, bytes]
    inodes: dict[bytes, bytes]
    dirent_range: tuple[bytes, bytes]
    inode_range: tuple[bytes, bytes]

    @property
    def records(self) -> dict[bytes, bytes]:
        """All of it."""
        return self.dirents | self.inodes


@lru_cache(maxsize=2)
def directory(count: int, *, tarball: int = 1) -> Directory:
    """``count`` files in the root of a tarball; always the same ones, for reading only."""
    rng = random.Random(tarball)
    slot_of = NameHash(0).slot
    root = inode_of(tarball, 1)
    dirents, inodes = {}, {}
    for number in range(2, 2 + count):
        name = b"image-%07d.jpeg" % number
        content = rng.randbytes(rng.randint(*CONTENT_BYTES))
        mode = stat.S_IFREG | 0o644
        inode, slot = inode_of(tarball, number), slot_of(name)
        attr = Attributes(inode=inode, mode=mode, size=len(content), blocks=1).pack()
        dirents[dirent_key(root, slot)] = pack_dirent(
            attr, inode, mode, slot, name, valid_s=FOREVER_S
        )
        inodes[inode_key(inode)] = pack_inode(attr, root, slot, valid_s=FOREVER_S, content=content)
    return Directory(
        dirents,
        inodes,
        (dirent_key(root, 0), dirent_key(root + 1, 0)),
        (inode_key(root), inode_key(root + 2 + count)),
    )
