"""A scratch volume with something of everything in it, and what is in it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import closing

import attrs

from kvfs.checking import Kind, Problem, Report, check
from kvfs.files import Attributes, Caller, Files, WritableFiles
from kvfs.files.records import ROOT_INODE
from kvfs.kv import KVStore
from kvfs.testing.volumes import TINY, Stores
from kvfs.volume import Volume
from kvfs.volume.settings import choose

SMALL = attrs.evolve(TINY, batch_ops_max=None)
"""64 bytes are kept in the inode, 128 in one extent."""
ACL = b"system.posix_acl_access"


def volume_over(stores: Stores, *, hash_bits: int = 62) -> Volume:
    """The volume without a backing store whose engine is that of ``stores``."""
    config = attrs.evolve(stores.config(), backing=choose("backing", {"driver": "scratch"}))
    return Volume(config, hash_bits=hash_bits)


def fill(stores: Stores, work: Callable[[WritableFiles], object], *, hash_bits: int = 62) -> None:
    """Write to the volume, and unmount it."""
    with volume_over(stores, hash_bits=hash_bits) as volume:
        volume.begin_writing("a test")
        files = volume.files(wait=False)
        assert isinstance(files, WritableFiles)
        with closing(files):
            work(files)


def number_of(entry: bytes) -> int:
    """The inode number in a ``fuse_entry_out``."""
    return int.from_bytes(entry[:8], "little")


def make_everything(files: WritableFiles) -> None:
    """Something of everything that there can be."""
    me = Caller(1000, 1000, 0o022)
    directory = number_of(files.mkdir(ROOT_INODE, b"dir", 0o755, me))
    sub = number_of(files.mkdir(directory, b"sub", 0o755, me))
    number_of(files.mkdir(sub, b"deep", 0o755, me))
    small = number_of(files.mknod(directory, b"small", stat.S_IFREG | 0o644, 0, me))
    files.write(small, 0, b"a few bytes")
    large = number_of(files.mknod(sub, b"large", stat.S_IFREG | 0o644, 0, me))
    files.write(large, 0, bytes(range(1, 251)) * 2)
    files.write(large, 1000, b"behind a hole")
    files.link(small, ROOT_INODE, b"second")
    files.link(small, sub, b"third")
    files.setxattr(large, b"user.note", b"kept")
    files.symlink(directory, b"link", b"../somewhere", me)
    files.mknod(directory, b"fifo", stat.S_IFIFO | 0o600, 0, me)
    files.mknod(directory, b"null", stat.S_IFCHR | 0o600, 259, me)


def inode_at(stores: Stores, path: bytes) -> int:
    """The inode number of a path."""
    with volume_over(stores) as volume, closing(volume.files(wait=False)) as files:
        return files.open_path(path, follow=False).inode


@attrs.frozen
class Seen:
    """What a user sees of a file or directory."""

    attributes: Attributes
    content: bytes | None
    xattrs: tuple[tuple[bytes, bytes], ...]


def look(stores: Stores) -> dict[bytes, Seen]:
    """Everything that can be reached, by its path."""
    with volume_over(stores) as volume, closing(volume.files(wait=False)) as files:
        found: dict[bytes, Seen] = {}
        _look(files, ROOT_INODE, b"", found)
        return found


def _look(files: Files, inode: int, path: bytes, found: dict[bytes, Seen]) -> None:
    attributes = files.stat(inode)
    content = None
    if stat.S_ISREG(attributes.mode):
        content = b"".join(files.read(inode, 0, attributes.size))
    elif stat.S_ISLNK(attributes.mode):
        content = bytes(files.readlink(inode))
    xattrs = tuple(
        sorted((name, bytes(files.getxattr(inode, name) or b"")) for name in files.listxattr(inode))
    )
    found[path] = Seen(attributes, content, xattrs)
    if attributes.is_directory:
        for entry in files.entries(inode):
            if entry.name not in (b".", b".."):
                _look(files, entry.attributes.inode, os.path.join(path, entry.name), found)


def damage(stores: Stores) -> KVStore:
    """The records, to be damaged behind everybody's back."""
    return KVStore(stores.kv["state"], name="state")


def fsck(stores: Stores, *, repair: bool = False) -> tuple[list[Problem], Report]:
    """The problems found, and what came of it."""
    told: list[Problem] = []
    with volume_over(stores) as volume:
        report = check(volume, told.append, repair=repair)
    return told, report


def kinds(stores: Stores) -> set[Kind]:
    """The kinds of problems there are."""
    return {problem.kind for problem in fsck(stores)[0]}


def mended(stores: Stores) -> list[Problem]:
    """Mend everything, and see that nothing is left."""
    told, report = fsck(stores, repair=True)
    assert report.left == 0, told
    left, _ = fsck(stores)
    assert left == []
    return told
