"""A scratch volume over stores that a test holds in its hands, and what is in them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import attrs
import pytest

from kvfs.files import Attributes, Caller, Refused, WritableFiles
from kvfs.files.records import (
    ATTR_IN_DIRENT,
    HASH_BITS,
    ROOT_INODE,
    DirentFlag,
    InodeRecord,
    dirent_key,
    inode_key,
)
from kvfs.kv import KVStore, prefix_end
from kvfs.testing.volumes import TINY, Stores
from kvfs.testing.written import inconsistencies
from kvfs.volume import Volume
from kvfs.volume.settings import choose

ROOT = ROOT_INODE
USER = Caller(1000, 1000, 0o022)
SMALL = attrs.evolve(TINY, batch_ops_max=None)
"""64 bytes are kept in the inode, 128 in one extent."""


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now_ns = 4_000_000_000_123_456_789  # behind the time at which volumes are made

    def __call__(self) -> int:
        return self.now_ns

    def tick(self) -> int:
        """A second later."""
        self.now_ns += 1_000_000_000
        return self.now_ns


@attrs.define
class World:
    """An open scratch volume, and shorthands for what tests do with it."""

    volume: Volume
    files: WritableFiles
    clock: Clock

    @property
    def store(self) -> KVStore:
        """What is stored, and what is queued to be."""
        writing = self.volume._writing
        assert writing is not None
        return writing.store

    def make(self, name: bytes, parent: int = ROOT, mode: int = 0o100644) -> int:
        """A new file; returns its inode number."""
        return number_of(self.files.mknod(parent, name, mode, 0, USER))

    def mkdir(self, name: bytes, parent: int = ROOT, mode: int = 0o755) -> int:
        """A new directory; returns its inode number."""
        return number_of(self.files.mkdir(parent, name, mode, USER))

    def find(self, name: bytes, parent: int = ROOT) -> int | None:
        """The inode that a name leads to; the kernel is not said to have it."""
        found = self.files.find(parent, name)
        if found is None:
            return None
        self.files._context.references.drop(found.inode, 1)
        return found.inode

    def names(self, parent: int = ROOT) -> set[bytes]:
        """The names in a directory; the kernel is not said to have them."""
        found = set()
        for entry in self.files.entries(parent):
            self.files._context.references.drop(entry.attributes.inode, 1)
            assert entry.name not in found
            found.add(entry.name)
        return found

    def read(self, inode: int, offset: int = 0, size: int = 1 << 30) -> bytes:
        """Contents."""
        return b"".join(self.files.read(inode, offset, size))

    def stat(self, inode: int) -> Attributes:
        """Attributes."""
        return self.files.stat(inode)

    def record(self, inode: int) -> InodeRecord:
        """What is stored of an inode."""
        raw = self.store.get(inode_key(inode))
        assert raw is not None
        return InodeRecord.unpack(raw)

    def plant(self, inode: int, **attributes: int) -> None:
        """Change what is stored of an inode behind the back of the model."""
        raw = self.store.get(inode_key(inode))
        assert raw is not None
        fresh = attrs.evolve(InodeRecord.unpack(raw).attributes, **attributes).pack()
        self.store.put(inode_key(inode), raw[:16] + fresh + raw[16 + len(fresh) :])

    def keys(self, prefix: bytes) -> list[bytes]:
        """The keys of all records that begin so."""
        return [bytes(key) for key, _ in self.store.scan(prefix, prefix_end(prefix))]

    def slots(self, parent: int) -> list[tuple[int, bytes | None]]:
        """Each slot that is taken in a directory, with its name; ``None``: one was removed."""
        found = []
        prefix = dirent_key(parent, 0)[:9]
        for key, raw in self.store.scan(prefix, prefix_end(prefix)):
            length = int.from_bytes(raw[144:148], "little")
            removed = raw[-1] & DirentFlag.REMOVED
            slot = int.from_bytes(key[9:], "big")
            found.append((slot, None if removed else bytes(raw[152 : 152 + length])))
        return found


def number_of(entry: bytes) -> int:
    """The inode number in a ``fuse_entry_out``."""
    attributes = Attributes.unpack(entry, ATTR_IN_DIRENT)
    assert int.from_bytes(entry[:8], "little") == attributes.inode
    return attributes.inode


@contextmanager
def refused(number: int) -> Iterator[None]:
    """What is done here is refused, with this errno."""
    with pytest.raises(Refused) as caught:
        yield
    found = caught.value.errno
    assert errno.errorcode[found or 0] == errno.errorcode[number]


def scratch_volume(stores: Stores, *, hash_bits: int = HASH_BITS) -> Volume:
    """The volume without a backing store whose engine is that of ``stores``."""
    config = attrs.evolve(stores.config(), backing=choose("backing", {"driver": "scratch"}))
    return Volume(config, hash_bits=hash_bits)


@contextmanager
def world_over(
    stores: Stores, *, hash_bits: int = HASH_BITS, check: bool = True
) -> Iterator[World]:
    """A scratch volume over ``stores``; at the end nothing that is not reachable may be left."""
    with scratch_volume(stores, hash_bits=hash_bits) as volume:
        volume.begin_writing("test")
        files = volume.files(wait=True)
        assert isinstance(files, WritableFiles)
        clock = Clock()
        files._clock = clock
        world = World(volume, files, clock)
        yield world
        if check:
            assert inconsistencies(world.store, world.files._context.references) == []
        files.close()
