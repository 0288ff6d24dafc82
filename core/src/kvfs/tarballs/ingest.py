"""From a tar stream straight into batches of records, without temporary files (K032).

One pass in tar order.  Memory is bounded by the batch, the cache of directories and a filter of
fixed size, not by the number of files.  A record is written only when everything it stands for has
been written, so readers may use what has arrived while the rest is still coming.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from threading import Event
from time import perf_counter

from kvfs.errors import Closed, Corrupt
from kvfs.files import Attributes
from kvfs.files.records import (
    ATTR,
    SECOND_NS,
    InodeFlag,
    encode_device,
    extent_key,
    owner_key,
    problem_key,
    xattr_key,
)
from kvfs.kv import Buffer
from kvfs.tar.member import Member, MemberType
from kvfs.tar.problems import NotATarball, Problem, ProblemKind
from kvfs.tar.reader import TarReader
from kvfs.tarballs.paths import Refused, check, split
from kvfs.tarballs.report import IngestReport
from kvfs.tarballs.tree import Directory, TreeBuilder

_FORMAT_OF_TYPE = {
    MemberType.REGULAR: stat.S_IFREG,
    MemberType.SYMLINK: stat.S_IFLNK,
    MemberType.CHARACTER_DEVICE: stat.S_IFCHR,
    MemberType.BLOCK_DEVICE: stat.S_IFBLK,
    MemberType.FIFO: stat.S_IFIFO,
}
OWNERS_MAX = 4096
"""Names of users and groups remembered per tarball."""
OWNER_BYTES_MAX = 255


class Cancelled(Closed):
    """The ingest was told to stop; the volume is being closed."""


class Damaged(Exception):
    """The archive cannot be read on from here; the message says why.  Never leaves the ingest.

    A type of its own, because :class:`~kvfs.errors.Corrupt` may also come from the engine.
    """


class Ingest:
    """One tarball on its way into the sealed store.  Used once, by one thread."""

    def __init__(
        self,
        tree: TreeBuilder,
        report: IngestReport,
        *,
        inline_bytes: int,
        extent_bytes: int,
        cancel: Event,
    ) -> None:
        self._tree = tree
        self._batch = tree.batch
        self._report = report
        self._inline_bytes = inline_bytes
        self._extent_bytes = extent_bytes
        self._cancel = cancel
        self._owners: set[tuple[bytes, int, bytes, int]] = set()

    def run(self, reader: TarReader) -> IngestReport:
        """Read every member; what cannot be served is noted in the report, and the rest is."""
        start = perf_counter()
        report = self._report
        add = self._add
        tree = self._tree
        for member in self._members(reader):
            self._check_cancelled()
            try:
                add(member, reader)
            except Refused as refusal:
                report.note(Problem(member.offset, member.name, ProblemKind.REFUSED, str(refusal)))
            except Damaged as damage:
                report.note(Problem(member.offset, member.name, ProblemKind.TRUNCATED, str(damage)))
                break
            if tree.is_full:
                tree.flush()
        root = tree.finish()
        report.root, report.root_listed = root.attributes, root.listed
        report.root_xattrs = root.xattrs
        for number, problem in enumerate(report.problems):
            if tree.is_full:
                tree.flush()
            self._batch.put(
                problem_key(report.tarball, number),
                json.dumps(
                    {
                        "offset": problem.offset,
                        "name": problem.name.decode("utf-8", "surrogateescape"),
                        "kind": str(problem.kind),
                        "message": problem.message,
                    }
                ).encode(),
            )
        tree.flush()
        report.seconds = perf_counter() - start
        return report

    def _members(self, reader: TarReader) -> Iterator[Member]:
        """The members up to the end, or to where the compression is damaged."""
        try:
            yield from reader
        except NotATarball:
            raise
        except Corrupt as error:
            self._report.note(Problem(0, b"", ProblemKind.TRUNCATED, str(error)))

    def _check_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Cancelled(f"the ingest of {self._report.object} was stopped")

    def _add(self, member: Member, reader: TarReader) -> None:
        head, _, base = member.name.rstrip(b"/").rpartition(b"/")
        while base == b".":
            head, _, base = head.rstrip(b"/").rpartition(b"/")
        if not base:
            self._add_root(member)
            return
        if base == b".." or len(base) > 255 or b"\0" in member.name:
            check(base)
            split(head)
        if b".." in head or len(head) > 255:
            split(head)
        report = self._report
        kind = member.type
        # Before the directories above it are made, which could stand in the way of others.
        if kind is MemberType.HARDLINK:
            self._tree.target_of(member.linkname)
        elif kind is MemberType.SYMLINK:
            _check_target(member.linkname)
        parent = self._tree.parent_of(head)
        if kind is MemberType.REGULAR:
            self._add_file(member, reader, parent, base)
            report.files += 1
            report.content_bytes += member.stored_size
        elif kind is MemberType.DIRECTORY:
            self._add_directory(member, parent, base)
            report.directories += 1
        elif kind is MemberType.HARDLINK:
            self._tree.link(parent, base, member.linkname)
            report.links += 1
        elif kind is MemberType.SYMLINK:
            self._add_special(member, parent, base)
            report.symlinks += 1
        else:
            self._add_special(member, parent, base)
            report.others += 1
        report.members += 1
        self._remember_owner(member)

    def _remember_owner(self, member: Member) -> None:
        owner = (member.uname, member.uid, member.gname, member.gid)
        if owner not in self._owners:
            self._add_owner(member, owner)

    def _add_root(self, member: Member) -> None:
        if member.type is not MemberType.DIRECTORY:
            raise Refused("it would replace the root of the tarball")
        self._add_directory(member, None, b"")
        self._report.members += 1
        self._report.directories += 1
        self._remember_owner(member)

    def _add_directory(self, member: Member, parent: Directory | None, base: bytes) -> None:
        directory = self._tree.add_directory(parent, base, self._attributes(member))
        if member.xattrs:
            self._add_xattrs(member, directory.inode)
            directory.xattrs = directory.unsaved = True

    def _attributes(self, member: Member) -> Attributes:
        """Of a directory."""
        mtime_ns = member.mtime_ns
        return Attributes(
            inode=0,
            mode=stat.S_IFDIR | member.mode,
            size=4096,
            blocks=8,
            uid=member.uid,
            gid=member.gid,
            mtime_ns=mtime_ns,
            atime_ns=mtime_ns if member.atime_ns is None else member.atime_ns,
            ctime_ns=mtime_ns if member.ctime_ns is None else member.ctime_ns,
        )

    def _add_file(self, member: Member, reader: TarReader, parent: Directory, base: bytes) -> None:
        inode = self._tree.new_inode()
        size = member.size
        mode = stat.S_IFREG | member.mode
        if size <= self._inline_bytes and not member.xattrs:
            content = _read_body(reader)
            attr = _pack(member, inode, mode, size, (size + 511) >> 9)
            self._tree.add(parent, base, attr, inode, mode, content=content)
            return
        try:
            flags = self._add_xattrs(member, inode)
            if size <= self._inline_bytes:
                content = _read_body(reader)
                blocks = (size + 511) >> 9
            else:
                content = b""
                flags |= InodeFlag.EXTENTS
                blocks = self._add_extents(member, reader, inode)
            attr = _pack(member, inode, mode, size, blocks)
            self._tree.add(parent, base, attr, inode, mode, content=content, flags=flags)
        except (Refused, Damaged):
            self._tree.abandon(inode)
            raise

    def _add_special(self, member: Member, parent: Directory, base: bytes) -> None:
        """Symbolic links, devices and FIFOs."""
        inode = self._tree.new_inode()
        kind = _FORMAT_OF_TYPE[member.type]
        content = b""
        rdev = 0
        permissions = member.mode
        if kind == stat.S_IFLNK:
            content = member.linkname
            permissions = 0o777  # As Linux has it, whatever the header says.
        elif kind != stat.S_IFIFO:
            rdev = encode_device(member.devmajor, member.devminor)
        attr = _pack(member, inode, kind | permissions, len(content), 0, rdev=rdev)
        try:
            flags = self._add_xattrs(member, inode)
            mode = kind | permissions
            self._tree.add(parent, base, attr, inode, mode, content=content, flags=flags)
        except Refused:
            if member.xattrs:
                self._tree.abandon(inode)
            raise

    def _add_xattrs(self, member: Member, inode: int) -> int:
        for name, value in member.xattrs.items():
            if not 0 < len(name) <= 255 or len(value) > 65536:
                raise Refused(f"an extended attribute {name[:300]!r} of {len(value)} bytes")
        tree = self._tree
        for name, value in member.xattrs.items():
            if tree.is_full:
                tree.flush()
            tree.batch.put(xattr_key(inode, name), value)
            tree.bytes += len(value)
        return InodeFlag.XATTRS if member.xattrs else 0

    def _add_extents(self, member: Member, reader: TarReader, inode: int) -> int:
        """Write a large body; returns the blocks of 512 bytes that it takes.

        Extents go first, flushed as they fill a batch: the inode follows when they are all there.
        """
        tree = self._tree
        blocks = 0
        for number, extent in _extents(reader, member.size, self._extent_bytes):
            if tree.is_full:
                self._check_cancelled()
                tree.flush()
            tree.batch.put(extent_key(inode, number), extent)
            tree.bytes += len(extent)
            blocks += (len(extent) + 511) >> 9
        return blocks

    def _add_owner(self, member: Member, owner: tuple[bytes, int, bytes, int]) -> None:
        """Remember what the tarball calls its users and groups, to write it back the same."""
        if len(self._owners) >= OWNERS_MAX:
            return
        if len(member.uname) + len(member.gname) <= 2 * OWNER_BYTES_MAX:
            self._owners.add(owner)
        tarball, longest = self._report.tarball, OWNER_BYTES_MAX
        if member.uname:
            self._tree.batch.put(owner_key(tarball, b"u", member.uid), member.uname[:longest])
        if member.gname:
            self._tree.batch.put(owner_key(tarball, b"g", member.gid), member.gname[:longest])


def _pack(member: Member, inode: int, mode: int, size: int, blocks: int, *, rdev: int = 0) -> bytes:
    """The ``fuse_attr`` of a member that is no directory."""
    mtime, mtime_ns = divmod(member.mtime_ns, SECOND_NS)
    atime, atime_ns, ctime, ctime_ns = mtime, mtime_ns, mtime, mtime_ns
    if member.atime_ns is not None:
        atime, atime_ns = divmod(member.atime_ns, SECOND_NS)
    if member.ctime_ns is not None:
        ctime, ctime_ns = divmod(member.ctime_ns, SECOND_NS)
    return ATTR.pack(
        inode, size, blocks, atime, mtime, ctime, atime_ns, mtime_ns, ctime_ns,
        mode, 1, member.uid, member.gid, rdev, 4096, 0,
    )  # fmt: skip


def _read_body(reader: TarReader) -> Buffer:
    try:
        return reader.read_body()
    except Corrupt as error:
        raise Damaged(str(error)) from error


def _segments(reader: TarReader, size: int) -> Iterator[tuple[int, memoryview]]:
    try:
        yield from reader.segments(size)
    except Corrupt as error:
        raise Damaged(str(error)) from error


def _extents(reader: TarReader, size: int, extent_bytes: int) -> Iterator[tuple[int, Buffer]]:
    """The body of ``size`` bytes cut into extents; those that are all zero are left out."""
    zeros = bytes(extent_bytes)
    current = 0
    buffer = bytearray()

    def finished() -> Iterator[tuple[int, Buffer]]:
        if buffer:
            length = min(extent_bytes, size - current * extent_bytes)
            whole = bytes(buffer) + zeros[: length - len(buffer)]
            if whole != zeros[:length]:
                yield current, whole

    for segment, data in _segments(reader, extent_bytes):
        offset = segment
        view = memoryview(data)
        while view:
            number, start = divmod(offset, extent_bytes)
            if number != current:
                yield from finished()
                current = number
                buffer.clear()
            piece = view[: extent_bytes - start]
            buffer += zeros[len(buffer) : start]
            buffer += piece
            offset += len(piece)
            view = view[len(piece) :]
    yield from finished()


def _check_target(target: bytes) -> None:
    """:raises Refused: no symbolic link can lead there."""
    if not 0 < len(target) < 4096 or b"\0" in target:
        raise Refused(f"a symbolic link with a target of {len(target)} bytes")
