"""Volumes with something of everything in them, that were written to, and what is in them."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from contextlib import closing

import attrs

from kvfs.checking import Kind, Problem, Report, check
from kvfs.files import Attributes, Caller, Files, NameHash, WritableFiles
from kvfs.files.attributing import Changes
from kvfs.files.nodes import Node
from kvfs.files.records import dirent_key, inode_key, tarball_of, volume_key, written_key
from kvfs.kv import KVStore
from kvfs.testing.volumes import TINY, Stores
from kvfs.testing.written import inconsistencies
from kvfs.volume import Volume, superblock
from kvfs.volume.settings import choose

SMALL = attrs.evolve(TINY, batch_ops_max=None)
"""64 bytes are kept in the inode, 128 in one extent."""
ACL = b"system.posix_acl_access"


SHOWN = 1 << 16
"""So much of a file is looked at: one that is mended may end far away."""
ANY = range(1 << 63)
"""Inodes that may be in use."""
TOP = b"dir/tarball"
LARGE = (bytes(range(1, 251)) * 2).ljust(1000, b"\0") + b"behind a hole"


@attrs.define(kw_only=True)
class Written(Stores):
    """The stores of a volume, and the tree in it that is written to.

    :param top: the path of the tree; empty: that of the volume itself, which has no other store.
    """

    top: bytes = b""

    def volume_over(self, *, hash_bits: int = 62) -> Volume:
        """The volume; each time that it is opened what is stored is the same."""
        if self.top:
            return self.volume({"volume": {"writable": True}}, hash_bits=hash_bits)
        config = attrs.evolve(self.config(), backing=choose("backing", {"driver": "scratch"}))
        return Volume(config, hash_bits=hash_bits)


def scratch() -> Written:
    """A volume without a store behind it."""
    return Written(capability=SMALL)


def tarball(data: bytes | None = None) -> Written:
    """A volume with a tarball."""
    stores = Written(capability=SMALL, top=TOP)
    stores.backing.write("dir/tarball.tar", archive() if data is None else data)
    return stores


def archive() -> bytes:
    """Something of everything that there can be, in a tarball."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, data, link in (
            ("dir", tarfile.DIRTYPE, b"", ""),
            ("dir/small", tarfile.REGTYPE, b"a few bytes", ""),
            ("dir/sub/large", tarfile.REGTYPE, LARGE, ""),
            ("dir/sub/deep", tarfile.DIRTYPE, b"", ""),
            ("second", tarfile.LNKTYPE, b"", "dir/small"),
            ("dir/sub/third", tarfile.LNKTYPE, b"", "dir/small"),
            ("dir/link", tarfile.SYMTYPE, b"", "../somewhere"),
            ("dir/fifo", tarfile.FIFOTYPE, b"", ""),
            ("dir/null", tarfile.CHRTYPE, b"", ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.size, member.linkname = kind, len(data), link
            member.mtime, member.devmajor, member.devminor = 1_600_000_000, 1, 3
            member.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            if data is LARGE:
                member.pax_headers = {"SCHILY.xattr.user.note": "kept"}
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def fill(
    stores: Written, work: Callable[[WritableFiles, int], object], *, hash_bits: int = 62
) -> None:
    """Write to a tree, given its root, and unmount it."""
    with stores.volume_over(hash_bits=hash_bits) as volume:
        volume.begin_writing("a test")
        files = volume.files(wait=True)
        assert isinstance(files, WritableFiles)
        with closing(files):
            work(files, files.open_path(stores.top).inode)


def number_of(entry: bytes) -> int:
    """The inode number in a ``fuse_entry_out``."""
    return int.from_bytes(entry[:8], "little")


def make_everything(files: WritableFiles, root: int) -> None:
    """Something of everything that there can be."""
    me = Caller(1000, 1000, 0o022)
    directory = number_of(files.mkdir(root, b"dir", 0o755, me))
    sub = number_of(files.mkdir(directory, b"sub", 0o755, me))
    number_of(files.mkdir(sub, b"deep", 0o755, me))
    small = number_of(files.mknod(directory, b"small", stat.S_IFREG | 0o644, 0, me))
    files.write(small, 0, b"a few bytes")
    large = number_of(files.mknod(sub, b"large", stat.S_IFREG | 0o644, 0, me))
    files.write(large, 0, LARGE[:500])
    files.write(large, 1000, LARGE[1000:])
    files.link(small, root, b"second")
    files.link(small, sub, b"third")
    files.setxattr(large, b"user.note", b"kept")
    files.symlink(directory, b"link", b"../somewhere", me)
    files.mknod(directory, b"fifo", stat.S_IFIFO | 0o600, 0, me)
    files.mknod(directory, b"null", stat.S_IFCHR | 0o600, 259, me)


def touch_everything(files: WritableFiles, root: int) -> None:
    """Have most of what was fetched be written, too, and some of it be gone."""
    for path in (b"", b"dir", b"dir/small", b"dir/sub", b"dir/link", b"dir/fifo"):
        inode = files.open_path(TOP + b"/" + path, follow=False).inode
        files.setattr(inode, Changes(uid=77))
    large = files.open_path(TOP + b"/dir/sub/large").inode
    files.write(large, 130, b"changed")
    files.setxattr(large, b"user.note", b"changed")
    files.unlink(files.open_path(TOP + b"/dir").inode, b"null")


def inode_at(stores: Written, path: bytes) -> int:
    """The inode number of a path."""
    with stores.volume_over() as volume, closing(volume.files(wait=True)) as files:
        return files.open_path(os.path.join(stores.top, path), follow=False).inode


@attrs.frozen
class Seen:
    """What a user sees of a file or directory."""

    attributes: Attributes
    content: bytes | None
    xattrs: tuple[tuple[bytes, bytes], ...]


def look(stores: Written) -> dict[bytes, Seen]:
    """Everything that can be reached, by its path."""
    with stores.volume_over() as volume, closing(volume.files(wait=True)) as files:
        found: dict[bytes, Seen] = {}
        _look(files, files.open_path(stores.top).inode, b"", found)
        return found


def _look(files: Files, inode: int, path: bytes, found: dict[bytes, Seen]) -> None:
    attributes = files.stat(inode)
    content = None
    if stat.S_ISREG(attributes.mode):
        content = b"".join(files.read(inode, 0, min(attributes.size, SHOWN)))
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


def damage(stores: Written) -> KVStore:
    """The records, to be damaged behind everybody's back."""
    return KVStore(stores.kv["state"], name="state")


def fsck(stores: Written, *, repair: bool = False) -> tuple[list[Problem], Report]:
    """The problems found, and what came of it."""
    told: list[Problem] = []
    with stores.volume_over() as volume:
        report = check(volume, told.append, repair=repair)
    return told, report


def kinds(stores: Written) -> set[Kind]:
    """The kinds of problems there are."""
    return {problem.kind for problem in fsck(stores)[0]}


def mended(stores: Written) -> list[Problem]:
    """Mend everything, and see that nothing is left."""
    told, report = fsck(stores, repair=True)
    assert report.left == 0, told
    left, _ = fsck(stores)
    assert left == []
    with stores.volume_over() as volume, closing(volume.files(wait=True)) as files:
        root = files.open_path(stores.top).inode
        sealed = volume.sealed if stores.top else None
        assert (wrong := inconsistencies(volume.state, ANY, sealed=sealed, root=root)) == [], wrong
    return told


@attrs.frozen
class Bench:
    """The records of a volume, and where the paths in it are."""

    stores: Written
    store: KVStore
    root: int

    @property
    def nobody(self) -> int:
        """An inode that is not there."""
        return self.root + 4710

    @property
    def counter(self) -> bytes:
        """The key of the next inode number."""
        return written_key(tarball_of(self.root)) if self.stores.top else volume_key("next")

    def inode(self, path: bytes) -> int:
        """The number of a path."""
        return inode_at(self.stores, path)

    def put(self, key: bytes, value: bytes) -> None:
        """Store a record as it would be written."""
        self.store.put(key, value + b"=" if self.stores.top and key[:1] in b"AH" else value)

    def node(self, inode: int) -> Node:
        """The record of an inode."""
        raw = self.store.get(inode_key(inode))
        assert raw is not None
        return Node.unpack(raw)

    def change(self, path: bytes, **attributes: int) -> None:
        """Change attributes of an inode."""
        inode = self.inode(path)
        node = self.node(inode)
        for name, value in attributes.items():
            setattr(node.attributes, name, value)
        self.store.put(inode_key(inode), node.pack())

    @property
    def names(self) -> NameHash:
        """Where names go."""
        found = superblock.read(self.store)
        assert found is not None
        return NameHash(found.hash_seed, found.hash_bits)

    def key_of(self, path: bytes) -> bytes:
        """The key of the name that an inode points back to."""
        node = self.node(self.inode(path))
        return dirent_key(node.parent, node.slot)


def bench_over(stores: Written) -> Bench:
    """What is in stores."""
    return Bench(stores, damage(stores), inode_at(stores, b""))


def essence(seen: dict[bytes, Seen]) -> dict[bytes, object]:
    """What stays of everything that was not hurt: link counts of directories may change."""
    found: dict[bytes, object] = {}
    for path, each in seen.items():
        attributes = each.attributes
        if attributes.is_directory:
            attributes = attrs.evolve(attributes, nlink=0, mtime_ns=0, ctime_ns=0)
        found[path] = (attributes, each.content, each.xattrs)
    return found


Harm = Callable[[Bench], None]
Harms = dict[str, tuple[Kind, Harm, set[bytes]]]


def adding_to(harms: Harms) -> Callable[..., Callable[[Harm], Harm]]:
    """A decorator that adds a function to a table, by its name.

    It takes what is found, and the paths that do not look as before.
    """

    def harm(kind: Kind, *paths: bytes) -> Callable[[Harm], Harm]:
        def add(function: Harm) -> Harm:
            harms[function.__name__] = kind, function, set(paths)
            return function

        return add

    return harm
