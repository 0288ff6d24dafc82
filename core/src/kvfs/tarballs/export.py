"""A tarball written anew from its records: the same members, contents and attributes, in tar order.

Inode numbers were given in tar order, so one scan over the inodes reads the store forwards, and
memory does not grow with the number of members.  Names are as they are served: ``./a//b`` in the
original becomes ``a/b``, and what was refused is not there.

One that was written to is written as it is now, directory by directory: to put something into a
directory dates it, so whatever is in one has to stand right behind it.  Memory grows with the files
that have names still to come.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from functools import lru_cache

import attrs

from kvfs.errors import Corrupt
from kvfs.files.overlay import Overlay, scan_extents
from kvfs.files.records import (
    CONTENT_IN_INODE,
    FIRST_SLOT,
    LAST_SLOT,
    LINK_KEY,
    NUMBER_BITS,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    decode_device,
    dirent_key,
    inode_key,
    owner_key,
    tarball_of,
    xattr_key,
)
from kvfs.kv import Buffer, Readable, prefix_end
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter

_TYPES = {
    stat.S_IFREG: MemberType.REGULAR,
    stat.S_IFDIR: MemberType.DIRECTORY,
    stat.S_IFLNK: MemberType.SYMLINK,
    stat.S_IFCHR: MemberType.CHARACTER_DEVICE,
    stat.S_IFBLK: MemberType.BLOCK_DEVICE,
    stat.S_IFIFO: MemberType.FIFO,
}
_CACHED = 16_384
_WINDOW = 128


@attrs.define
class ExportReport:
    """What was written."""

    members: int = 0
    content_bytes: int = 0
    sockets: int = 0
    """Left out: there are no such members."""


class Export:
    """One tarball on its way out.  Used once, by one thread.

    :param view: shows one instant, at which the tarball was sealed; of one that was written to,
        with what lies over it.
    :param top: the inode of the tarball's root directory.
    :param root: the record of the tarball's root directory if it is to be a member (``./``).
    """

    def __init__(
        self,
        view: Readable | Overlay,
        top: int,
        *,
        extent_bytes: int,
        root: bytes | None,
        write: Callable[[bytes | memoryview], object],
    ) -> None:
        self._view = view
        self._top = top
        self._tarball = tarball_of(top)
        self._extent_bytes = extent_bytes
        self._root = root
        self._writer = TarWriter(write)
        self._path = lru_cache(_CACHED)(self._directory_path)
        self._owner = lru_cache(_CACHED)(self._owner_name)
        self._report = ExportReport()

    def run(self) -> ExportReport:
        """Write every member and the end of the archive.

        :raises Corrupt: a record is missing.
        """
        if self._root is not None:
            self._add(b"./", InodeRecord.unpack(self._root), b"")
        if isinstance(self._view, Overlay):
            self._add_tree()
        else:
            self._add_inodes()
        self._writer.close()
        return self._report

    def _add_inodes(self) -> None:
        """Add everything in tar order."""
        first = inode_key(self._top >> NUMBER_BITS << NUMBER_BITS)
        for _, raw in self._scan(first[: -NUMBER_BITS // 8]):
            record = InodeRecord.unpack(raw)
            if not record.flags & InodeFlag.IMPLIED:
                name = self._name(record.parent, record.slot)
                member = self._add(name, record, bytes(raw[CONTENT_IN_INODE:]))
                if record.attributes.nlink > 1 and not record.attributes.is_directory:
                    self._add_links(member, record.attributes.inode)

    def _add_tree(self) -> None:
        """Add everything directory by directory."""
        linked: dict[int, tuple[Member, int]] = {}
        """Files with names still to come, and how many."""
        below = [self._entries(self._top, b"")]
        while below:
            entry = next(below[-1], None)
            if entry is None:
                below.pop()
                continue
            name, record, content = entry
            attributes = record.attributes
            inode, left = attributes.inode, attributes.nlink - 1
            if stat.S_ISSOCK(attributes.mode):
                self._report.sockets += 1
                continue
            if attributes.is_directory:
                self._add(name, record, b"")
                below.append(self._entries(inode, name + b"/"))
                continue
            if inode in linked:
                member, left = linked.pop(inode)
                self._add_link(member, name)
                left -= 1
            else:
                member = self._add(name, record, content)
            if left:
                linked[inode] = member, left

    def _entries(self, directory: int, prefix: bytes) -> Iterator[tuple[bytes, InodeRecord, bytes]]:
        """Name, inode, and small contents or target, of everything in a directory."""
        start, stop = dirent_key(directory, FIRST_SLOT), dirent_key(directory, LAST_SLOT)
        while window := [
            (bytes(key), DirentRecord.unpack(raw))
            for key, raw in self._view.scan(start, stop, limit=_WINDOW)
        ]:
            start = window[-1][0] + b"\0"
            dirents = [dirent for _, dirent in window if not dirent.flags & DirentFlag.REMOVED]
            found = self._view.get_many([inode_key(dirent.inode) for dirent in dirents])
            records = [None if raw is None else bytes(raw) for raw in found]
            for dirent, raw in zip(dirents, records, strict=True):
                name = prefix + dirent.name
                if raw is None:
                    raise Corrupt(f"{name!r} leads to no inode: kvfs fsck mends that")
                yield name, InodeRecord.unpack(raw), raw[CONTENT_IN_INODE:]

    def _add(self, name: bytes, record: InodeRecord, content: bytes) -> Member:
        attributes = record.attributes
        kind = _TYPES[stat.S_IFMT(attributes.mode)]
        member = Member(
            name=name + b"/" if kind is MemberType.DIRECTORY and name != b"./" else name,
            type=kind,
            mode=stat.S_IMODE(attributes.mode),
            uid=attributes.uid,
            gid=attributes.gid,
            size=attributes.size if kind is MemberType.REGULAR else 0,
            mtime_ns=attributes.mtime_ns,
            uname=self._owner(b"u", attributes.uid),
            gname=self._owner(b"g", attributes.gid),
            atime_ns=_unless(attributes.atime_ns, attributes.mtime_ns),
            ctime_ns=_unless(attributes.ctime_ns, attributes.mtime_ns),
        )
        if kind is MemberType.SYMLINK:
            member.linkname = content
        elif kind in (MemberType.CHARACTER_DEVICE, MemberType.BLOCK_DEVICE):
            member.devmajor, member.devminor = decode_device(attributes.rdev)
        if record.flags & InodeFlag.XATTRS:
            member.xattrs = dict(self._xattrs(attributes.inode))
        if record.flags & InodeFlag.EXTENTS:
            member.sparse_map = self._sparse_map(record)
            self._writer.add(member, (bytes(extent) for _, extent in self._extents(record)))
        else:
            self._writer.add(member, [content] if kind is MemberType.REGULAR and content else [])
        self._report.members += 1
        self._report.content_bytes += member.size
        return member

    def _add_links(self, first: Member, inode: int) -> None:
        prefix = LINK_KEY.pack(b"H", inode, 0, 0)[:9]
        for key, _ in self._scan(prefix):
            _, _, parent, slot = LINK_KEY.unpack(key)
            self._add_link(first, self._name(parent, slot))

    def _add_link(self, first: Member, name: bytes) -> None:
        link = attrs.evolve(
            first,
            name=name,
            type=MemberType.HARDLINK,
            linkname=first.name,
            size=0,
            sparse_map=None,
            xattrs={},
        )
        self._writer.add(link, [])
        self._report.members += 1

    # -- names ---------------------------------------------------------------------------------

    def _name(self, parent: int, slot: int) -> bytes:
        directory = self._path(parent)
        name = self._name_at(parent, slot)
        return directory + b"/" + name if directory else name

    def _name_at(self, parent: int, slot: int) -> bytes:
        raw = self._view.get(dirent_key(parent, slot))
        if raw is None:
            raise Corrupt(f"an inode points back to directory {parent:#x}, which lacks the entry")
        return DirentRecord.unpack(raw).name

    def _directory_path(self, inode: int) -> bytes:
        names: list[bytes] = []
        while inode != self._top:
            raw = self._view.get(inode_key(inode))
            if raw is None:
                raise Corrupt(f"there is no inode {inode:#x}, against what its entries say")
            record = InodeRecord.unpack(raw)
            names.append(self._name_at(record.parent, record.slot))
            inode = record.parent
        return b"/".join(reversed(names))

    def _owner_name(self, kind: bytes, number: int) -> bytes:
        fetched = self._view.lower if isinstance(self._view, Overlay) else self._view
        return bytes(fetched.get(owner_key(self._tarball, kind, number)) or b"")

    def _scan(self, prefix: bytes) -> Iterator[tuple[Buffer, Buffer]]:
        return self._view.scan(prefix, prefix_end(prefix))

    # -- contents ------------------------------------------------------------------------------

    def _xattrs(self, inode: int) -> Iterator[tuple[bytes, bytes]]:
        prefix = xattr_key(inode, b"")
        for key, value in self._scan(prefix):
            yield bytes(key[len(prefix) :]), bytes(value)

    def _extents(self, record: InodeRecord) -> Iterator[tuple[int, Buffer]]:
        """(number, value) of the extents that are there."""
        return scan_extents(self._view, record.attributes.inode, record.cut, 0)

    def _sparse_map(self, record: InodeRecord) -> tuple[tuple[int, int], ...] | None:
        segments: list[tuple[int, int]] = []
        for number, extent in self._extents(record):
            start = number * self._extent_bytes
            if segments and sum(segments[-1]) == start:
                segments[-1] = (segments[-1][0], segments[-1][1] + len(extent))
            else:
                segments.append((start, len(extent)))
        if segments == [(0, record.attributes.size)]:
            return None
        return tuple(segments)


def _unless(time_ns: int, mtime_ns: int) -> int | None:
    """A time that is only worth a record when it is not that of the last change."""
    return None if time_ns == mtime_ns else time_ns
