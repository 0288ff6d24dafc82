"""A tree of files as the records that an ingest writes, out of a seed.

Keys and values are made by :mod:`kvfs.files.records`: 17-byte keys of dirents with values of about
170 bytes, 9-byte keys of inodes with the contents behind 128 bytes, extents for what the engine
does not want in one piece.  A tarball has 1,000 files in 10 directories; sizes of files are
log-uniform from 64 bytes to 16 KiB, contents do not compress.
"""

from __future__ import annotations

import math
import stat
from array import array
from collections.abc import Iterator
from random import Random

import attrs
from xxhash import xxh3_64, xxh3_64_intdigest

from kvfs.files.names import NameHash
from kvfs.files.records import (
    FOREVER_S,
    ROOT_NUMBER,
    Attributes,
    InodeFlag,
    dirent_key,
    extent_key,
    inode_key,
    inode_of,
    pack_dirent,
    pack_inode,
)

FILES_PER_TARBALL = 1000
DIRECTORIES_PER_TARBALL = 10
BYTES_MIN, BYTES_MAX = 64, 16 << 10
_POOL_BYTES = 1 << 20
_MTIME_NS = 1_600_000_000_000_000_000


@attrs.frozen
class File:
    """A file, and what a lookup of its name has to answer."""

    parent: int
    inode: int
    slot: int
    size: int
    attributes: bytes
    dirent: bytes


@attrs.frozen
class Directory:
    """A directory, and what a listing of it has to answer."""

    inode: int
    entries: int
    digest: int
    """xxh3 of the records of its entries, in their order."""


class Tree:
    """So many files out of a seed."""

    def __init__(self, files: int, seed: int) -> None:
        self.files = files
        self.seed = seed
        self.tarballs = max(4, files // FILES_PER_TARBALL)
        self._slot = NameHash(seed).slot
        self._pool = Random(seed).randbytes(_POOL_BYTES)
        self.keys: list[bytes] = []
        """Of the dirents of all files."""
        self.digests = array("Q")
        """xxh3 of their records."""
        self.directories: list[Directory] = []
        self.entries_of: list[int] = []
        """How many names each tarball has."""
        for tarball in range(1, self.tarballs + 1):
            self._learn(tarball)

    def _learn(self, tarball: int) -> None:
        entries = 0
        for inode, _, files in self._directories(tarball):
            listing = xxh3_64()
            for file in sorted(files, key=lambda file: file.slot):
                listing.update(file.dirent)
            for file in files:
                self.keys.append(dirent_key(inode, file.slot))
                self.digests.append(xxh3_64_intdigest(file.dirent))
            self.directories.append(Directory(inode, len(files), listing.intdigest()))
            entries += 1 + len(files)
        self.entries_of.append(entries)

    def _directories(self, tarball: int) -> Iterator[tuple[int, bytes, list[File]]]:
        """(inode, name, files) of each directory of a tarball."""
        rng = Random(f"{self.seed}/{tarball}")
        low, high = math.log(BYTES_MIN), math.log(BYTES_MAX)
        count = self.files * tarball // self.tarballs - self.files * (tarball - 1) // self.tarballs
        number = ROOT_NUMBER
        for directory in range(DIRECTORIES_PER_TARBALL):
            number += 1
            parent = inode_of(tarball, number)
            files = []
            for within in range(directory, count, DIRECTORIES_PER_TARBALL):
                number += 1
                size = round(math.exp(rng.uniform(low, high)))
                files.append(self.file(parent, inode_of(tarball, number), b"f%07d" % within, size))
            yield parent, b"d%04d" % directory, files

    def file(self, parent: int, inode: int, name: bytes, size: int) -> File:
        """A file of that name and size."""
        mode = stat.S_IFREG | 0o644
        attributes = Attributes(
            inode=inode, mode=mode, size=size, mtime_ns=_MTIME_NS, blocks=-(-size // 512)
        ).pack()
        slot = self._slot(name)
        dirent = pack_dirent(attributes, inode, mode, slot, name, valid_s=FOREVER_S)
        return File(parent, inode, slot, size, attributes, dirent)

    def records(
        self, tarball: int, *, inline_bytes: int, extent_bytes: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """Every record of a tarball, in the order in which an ingest comes by them."""
        root = inode_of(tarball, ROOT_NUMBER)
        for inode, name, files in self._directories(tarball):
            mode = stat.S_IFDIR | 0o755
            slot = self._slot(name)
            attributes = Attributes(inode=inode, mode=mode, nlink=2, mtime_ns=_MTIME_NS).pack()
            dirent = pack_dirent(attributes, inode, mode, slot, name, valid_s=FOREVER_S)
            yield dirent_key(root, slot), dirent
            yield inode_key(inode), pack_inode(attributes, root, slot, valid_s=FOREVER_S)
            for file in files:
                yield dirent_key(inode, file.slot), file.dirent
                yield from self.contents(file, inline_bytes, extent_bytes)

    def contents(
        self, file: File, inline_bytes: int, extent_bytes: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """The inode of a file, with its contents or after the extents that hold them."""
        start = file.inode * 0x9E3779B1 % (_POOL_BYTES - file.size)
        content, flags = self._pool[start : start + file.size], 0
        if file.size > inline_bytes:
            for number, offset in enumerate(range(0, file.size, extent_bytes)):
                yield extent_key(file.inode, number), content[offset : offset + extent_bytes]
            content, flags = b"", InodeFlag.EXTENTS
        yield (
            inode_key(file.inode),
            pack_inode(
                file.attributes,
                file.parent,
                file.slot,
                valid_s=FOREVER_S,
                flags=flags,
                content=content,
            ),
        )
