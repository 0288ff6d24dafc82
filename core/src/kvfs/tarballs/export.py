"""A tarball written anew from its records: the same members, contents and attributes, in tar order.

Inode numbers were given in tar order, so one scan over the inodes reads the store forwards, and
memory does not grow with the number of members.  Names are as they are served: ``./a//b`` in the
original becomes ``a/b``, and what was refused is not there.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from functools import lru_cache

import attrs

from kvfs.errors import Corrupt
from kvfs.files.records import (
    CONTENT_IN_INODE,
    EXTENT_KEY,
    LINK_KEY,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    decode_device,
    dirent_key,
    extent_key,
    inode_key,
    owner_key,
    tarball_of,
    tarball_ranges,
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


@attrs.define
class ExportReport:
    """What was written."""

    members: int = 0
    content_bytes: int = 0


class Export:
    """One tarball on its way out.  Used once, by one thread.

    :param sealed: shows one instant, at which the tarball was sealed.
    :param top: the inode of the tarball's root directory.
    :param root: the record of the tarball's root directory if it is to be a member (``./``).
    """

    def __init__(
        self,
        sealed: Readable,
        top: int,
        *,
        extent_bytes: int,
        root: bytes | None,
        write: Callable[[bytes | memoryview], object],
    ) -> None:
        self._sealed = sealed
        self._top = top
        self._tarball = tarball_of(top)
        self._extent_bytes = extent_bytes
        self._root = root
        self._write = write
        self._path = lru_cache(_CACHED)(self._directory_path)
        self._owner = lru_cache(_CACHED)(self._owner_name)
        self._report = ExportReport()

    def run(self) -> ExportReport:
        """Write every member and the end of the archive.

        :raises Corrupt: a record is missing.
        """
        writer = TarWriter(self._write)
        if self._root is not None:
            self._add(writer, b"./", InodeRecord.unpack(self._root), b"")
        low, high = next(span for span in tarball_ranges(self._tarball) if span[0][:1] == b"I")
        for _, raw in self._sealed.scan(low, high):
            record = InodeRecord.unpack(raw)
            if not record.flags & InodeFlag.IMPLIED:
                name = self._name(record.parent, record.slot)
                self._add(writer, name, record, bytes(raw[CONTENT_IN_INODE:]))
        writer.close()
        return self._report

    def _add(self, writer: TarWriter, name: bytes, record: InodeRecord, content: bytes) -> None:
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
            member.sparse_map = self._sparse_map(attributes.inode, attributes.size)
            writer.add(member, self._extents(attributes.inode))
        else:
            writer.add(member, [content] if kind is MemberType.REGULAR and content else [])
        self._report.members += 1
        self._report.content_bytes += member.size
        if attributes.nlink > 1 and kind is not MemberType.DIRECTORY:
            self._add_links(writer, member, attributes.inode)

    def _add_links(self, writer: TarWriter, first: Member, inode: int) -> None:
        prefix = LINK_KEY.pack(b"H", inode, 0, 0)[:9]
        for key, _ in self._scan(prefix):
            _, _, parent, slot = LINK_KEY.unpack(key)
            link = attrs.evolve(
                first,
                name=self._name(parent, slot),
                type=MemberType.HARDLINK,
                linkname=first.name,
                size=0,
                sparse_map=None,
                xattrs={},
            )
            writer.add(link, [])
            self._report.members += 1

    # -- names ---------------------------------------------------------------------------------

    def _name(self, parent: int, slot: int) -> bytes:
        directory = self._path(parent)
        name = self._name_at(parent, slot)
        return directory + b"/" + name if directory else name

    def _name_at(self, parent: int, slot: int) -> bytes:
        raw = self._sealed.get(dirent_key(parent, slot))
        if raw is None:
            raise Corrupt(f"an inode points back to directory {parent:#x}, which lacks the entry")
        return DirentRecord.unpack(raw).name

    def _directory_path(self, inode: int) -> bytes:
        names: list[bytes] = []
        while inode != self._top:
            raw = self._sealed.get(inode_key(inode))
            if raw is None:
                raise Corrupt(f"there is no inode {inode:#x}, against what its entries say")
            record = InodeRecord.unpack(raw)
            names.append(self._name_at(record.parent, record.slot))
            inode = record.parent
        return b"/".join(reversed(names))

    def _owner_name(self, kind: bytes, number: int) -> bytes:
        return bytes(self._sealed.get(owner_key(self._tarball, kind, number)) or b"")

    def _scan(self, prefix: bytes) -> Iterator[tuple[Buffer, Buffer]]:
        return self._sealed.scan(prefix, prefix_end(prefix))

    # -- contents ------------------------------------------------------------------------------

    def _xattrs(self, inode: int) -> Iterator[tuple[bytes, bytes]]:
        prefix = xattr_key(inode, b"")
        for key, value in self._scan(prefix):
            yield bytes(key[len(prefix) :]), bytes(value)

    def _numbers(self, inode: int) -> Iterator[tuple[int, int]]:
        """(number, length) of the extents that are there."""
        prefix = extent_key(inode, 0)[:-4]
        for key, extent in self._scan(prefix):
            yield EXTENT_KEY.unpack(key)[2], len(extent)

    def _sparse_map(self, inode: int, size: int) -> tuple[tuple[int, int], ...] | None:
        segments: list[tuple[int, int]] = []
        for number, length in self._numbers(inode):
            start = number * self._extent_bytes
            if segments and sum(segments[-1]) == start:
                segments[-1] = (segments[-1][0], segments[-1][1] + length)
            else:
                segments.append((start, length))
        if segments == [(0, size)]:
            return None
        return tuple(segments)

    def _extents(self, inode: int) -> Iterator[bytes]:
        prefix = extent_key(inode, 0)[:-4]
        for _, extent in self._scan(prefix):
            yield bytes(extent)


def _unless(time_ns: int, mtime_ns: int) -> int | None:
    """A time that is only worth a record when it is not that of the last change."""
    return None if time_ns == mtime_ns else time_ns
