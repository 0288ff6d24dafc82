"""Writing tar archives in the pax format of POSIX.1-2001.

A member whose values all fit a ustar header gets one and nothing else; what does not fit (long or
large values, times with nanoseconds, extended attributes, holes) goes into an extended header in
front of it.  Sparse files are written in GNU's sparse format 1.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from kvfs.errors import Closed, Invalid
from kvfs.tar.assembly import padded
from kvfs.tar.header import BLOCK, NANOSECONDS, UID_MAX
from kvfs.tar.member import Member, MemberType
from kvfs.tar.pax import format_record, format_time_ns, format_xattr_keyword
from kvfs.tar.problems import RefusedMember
from kvfs.tar.sparse import SparseMap, checked_map

RECORD: Final = 20 * BLOCK
_NAME_MAX: Final = 100
_PREFIX_MAX: Final = 155
_OWNER_NAME_MAX: Final = 31
_OCTAL_7_MAX: Final = 0o7777777
_OCTAL_11_MAX: Final = 0o77777777777
_SIZE_MAX: Final = (1 << 63) - 1

_TYPE_FLAGS: Final = {
    MemberType.REGULAR: b"0",
    MemberType.HARDLINK: b"1",
    MemberType.SYMLINK: b"2",
    MemberType.CHARACTER_DEVICE: b"3",
    MemberType.BLOCK_DEVICE: b"4",
    MemberType.DIRECTORY: b"5",
    MemberType.FIFO: b"6",
}
_LINKS: Final = (MemberType.HARDLINK, MemberType.SYMLINK)
_DEVICES: Final = (MemberType.CHARACTER_DEVICE, MemberType.BLOCK_DEVICE)


def _split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """Prefix and name of a ustar header, ``None`` if the name does not fit there."""
    if len(name) <= _NAME_MAX:
        return b"", name
    # The slash between the two is not stored.  The last one of a directory cannot be it, since an
    # empty name behind it would lose that slash.
    slash = name.rfind(b"/", 1, min(_PREFIX_MAX + 1, len(name) - 1))
    if slash < 1 or len(name) - slash - 1 > _NAME_MAX:
        return None
    return name[:slash], name[slash + 1 :]


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _header(
    *,
    name: bytes,
    flag: bytes,
    size: int,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    uname: bytes = b"",
    gname: bytes = b"",
    devmajor: int = 0,
    devminor: int = 0,
    prefix: bytes = b"",
) -> bytes:
    """One ustar block; every value must fit."""
    block = bytearray(
        b"".join(
            (
                name.ljust(100, b"\0"),
                _octal(mode, 8),
                _octal(uid, 8),
                _octal(gid, 8),
                _octal(size, 12),
                _octal(mtime, 12),
                b" " * 8,
                flag,
                linkname.ljust(100, b"\0"),
                b"ustar\x0000",
                uname.ljust(32, b"\0"),
                gname.ljust(32, b"\0"),
                _octal(devmajor, 8),
                _octal(devminor, 8),
                prefix.ljust(167, b"\0"),
            )
        )
    )
    assert len(block) == BLOCK
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


class TarWriter:
    """Writes members one after the other; holds no contents.

    What :class:`~kvfs.tar.reader.TarReader` reads back equals what was written, except that the
    name of a directory ends in ``/``, as in every archive, and that segments of a sparse file grow
    to whole blocks of 512 bytes.  GNU tar, libarchive and Python read it too.  Not thread-safe.

    After an error in the middle of a member the archive is unusable, and so is the writer.

    :param write: takes bytes-like pieces in order, all of each; what it raises passes through.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._write = write
        self._written = 0
        self._closed = False
        self._broken = False

    def add(self, member: Member, chunks: Iterable[bytes | memoryview] = ()) -> None:
        """Write one member.

        :param member: its offsets are ignored.  ``size`` is the logical size.
        :param chunks: the contents; of a sparse file the data of its segments, one after the other.
        :raises Invalid: a value cannot be written (a name that is empty or has a NUL in it, a
            regular file whose name ends in ``/``, a number out of range, a sparse map that does
            not fit, contents for what is no file), or the chunks are not exactly as many bytes as
            ``member`` says.
        :raises Closed: the writer was closed, or a member failed half-way.
        """
        if self._closed or self._broken:
            raise Closed("this archive was closed" if self._closed else "this archive is broken")
        stored = _stored_size(member)
        _check(member)
        data_map = b""
        sparse_map = member.sparse_map
        if sparse_map is not None:
            aligned = _aligned_map(sparse_map, member.size)
            if aligned != sparse_map:
                chunks = _with_zeros(sparse_map, aligned, chunks)
                stored = sum(length for _, length in aligned)
            data_map = _format_map(aligned, member.size)
        head = _headers(member, len(data_map) + stored)
        # From here on a failure leaves half a member in the archive.
        self._broken = True
        self._put(head + data_map)
        left = stored
        for chunk in chunks:
            left -= len(chunk)
            if left < 0:
                raise Invalid(f"{member.name!r} has more than the {stored:,} bytes it should")
            self._put(chunk)
        if left:
            raise Invalid(f"{member.name!r} has {left:,} bytes less than the {stored:,} it should")
        self._pad(BLOCK)
        self._broken = False

    def close(self) -> None:
        """Write the end-of-archive mark, padded to a record of 10,240 bytes.  May be repeated.

        :raises Closed: a member failed half-way: an end would make the archive look whole.
        """
        if self._broken:
            raise Closed("this archive is broken: a member of it was not written in full")
        if not self._closed:
            self._closed = True
            self._put(bytes(2 * BLOCK))
            self._pad(RECORD)

    def _put(self, data: bytes | memoryview) -> None:
        self._write(data)
        self._written += len(data)

    def _pad(self, unit: int) -> None:
        missing = -self._written % unit
        if missing:
            self._put(bytes(missing))


def _stored_size(member: Member) -> int:
    """Bytes of contents to come."""
    if member.type is not MemberType.REGULAR:
        if member.size or member.sparse_map is not None:
            raise Invalid(f"{member.name!r} is a {member.type.value}: it has no contents")
        return 0
    if not 0 <= member.size <= _SIZE_MAX:
        raise Invalid(f"{member.name!r} cannot have a size of {member.size:,}")
    if member.sparse_map is None:
        return member.size
    stored = sum(length for _, length in member.sparse_map)
    try:
        checked_map(member.sparse_map, member.size, stored, len(member.sparse_map))
    except RefusedMember as error:
        raise Invalid(f"{member.name!r}: {error}") from error
    return stored


def _check(member: Member) -> None:
    if not member.name or b"\0" in member.name + member.linkname + member.uname + member.gname:
        raise Invalid(f"{member.name!r}: names must not be empty, nor have a NUL in them")
    if member.type is MemberType.REGULAR and member.name.endswith(b"/"):
        raise Invalid(f"{member.name!r} would be read back as a directory")
    if member.type in _LINKS and not member.linkname:
        raise Invalid(f"{member.name!r} is a link to nothing")
    if not 0 <= member.mode <= 0o7777:
        raise Invalid(f"{member.name!r} cannot have a mode of {member.mode:o}")
    for number in (member.uid, member.gid, member.devmajor, member.devminor):
        if not 0 <= number <= UID_MAX:
            raise Invalid(f"{member.name!r}: {number} is not a number from 0 to {UID_MAX:,}")
    for name in member.xattrs:
        if not name or b"\0" in name:
            raise Invalid(f"{member.name!r} has an extended attribute without a proper name")


def _aligned_map(sparse_map: SparseMap, size: int) -> SparseMap:
    """The map with segments of whole blocks, except at the end of the file.

    GNU tar starts each segment at a block of the archive, other programs right behind the one
    before.  With segments of whole blocks, which is what file systems have, both agree.
    """
    aligned: list[tuple[int, int]] = []
    for offset, length in sparse_map:
        start = offset - offset % BLOCK
        end = min(padded(offset + length), size)
        if aligned and start <= sum(aligned[-1]):
            start = aligned.pop()[0]
        aligned.append((start, end - start))
    return tuple(aligned)


def _with_zeros(
    sparse_map: SparseMap, aligned: SparseMap, chunks: Iterable[bytes | memoryview]
) -> Iterator[bytes | memoryview]:
    """The data of the segments of ``sparse_map`` as data of those of ``aligned`` around them."""
    outer = iter(aligned)
    end = at = 0
    pieces = iter(chunks)
    piece = memoryview(b"")
    for offset, length in sparse_map:
        if offset >= end:
            yield bytes(end - at)
            at, size = next(outer)
            end = at + size
        yield bytes(offset - at)
        at = offset
        while at < offset + length:
            piece = piece or memoryview(next(pieces, b""))
            if not piece:
                return
            part = piece[: offset + length - at]
            yield part
            at += len(part)
            piece = piece[len(part) :]
    yield bytes(end - at)
    # What is too much is passed on too, to be counted.
    yield piece
    yield from pieces


def _format_map(sparse_map: SparseMap, size: int) -> bytes:
    """GNU sparse format 1.0: decimal lines in whole blocks in front of the data.

    A hole at the end is closed by an empty segment, as GNU tar does and wants it.
    """
    if not sparse_map or sum(sparse_map[-1]) < size:
        sparse_map = (*sparse_map, (size, 0))
    numbers = [len(sparse_map), *(number for segment in sparse_map for number in segment)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text.ljust(padded(len(text)), b"\0")


def _companion_name(name: bytes, directory: bytes) -> bytes:
    """A name for what stands in front of a member, beside it: what old programs would unpack."""
    parent, _, base = name.rstrip(b"/").rpartition(b"/")
    base = base or b"root"
    companion = (parent + b"/" if parent else b"") + directory + b"/" + base
    return companion if len(companion) <= _NAME_MAX else (directory + b"/" + base)[:_NAME_MAX]


def _headers(member: Member, size: int) -> bytes:
    """The extended header if one is needed, and the header block."""
    records: list[bytes] = []

    def record(keyword: bytes, value: bytes) -> None:
        records.append(format_record(keyword, value))

    def fitted(keyword: bytes, value: int, maximum: int) -> int:
        if value <= maximum:
            return value
        record(keyword, b"%d" % value)
        return 0

    name = member.name
    if member.type is MemberType.DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    if member.sparse_map is not None:
        record(b"GNU.sparse.major", b"1")
        record(b"GNU.sparse.minor", b"0")
        record(b"GNU.sparse.name", name)
        record(b"GNU.sparse.realsize", b"%d" % member.size)
        split: tuple[bytes, bytes] | None = b"", _companion_name(name, b"GNUSparseFile.0")
    else:
        split = _split_name(name)
    if split is None:
        record(b"path", name)
        split = b"", name[:_NAME_MAX]
    linkname = member.linkname if member.type in _LINKS else b""
    if len(linkname) > _NAME_MAX:
        record(b"linkpath", linkname)
    for keyword, owner in ((b"uname", member.uname), (b"gname", member.gname)):
        if len(owner) > _OWNER_NAME_MAX:
            record(keyword, owner)
    mtime, fraction = divmod(member.mtime_ns, NANOSECONDS)
    if fraction or not 0 <= mtime <= _OCTAL_11_MAX:
        record(b"mtime", format_time_ns(member.mtime_ns))
        mtime = min(max(mtime, 0), _OCTAL_11_MAX)
    for keyword, time_ns in ((b"atime", member.atime_ns), (b"ctime", member.ctime_ns)):
        if time_ns is not None:
            record(keyword, format_time_ns(time_ns))
    for xattr, value in member.xattrs.items():
        record(format_xattr_keyword(xattr), value)
    is_device = member.type in _DEVICES
    block = _header(
        name=split[1],
        flag=_TYPE_FLAGS[member.type],
        size=fitted(b"size", size, _OCTAL_11_MAX),
        mode=member.mode,
        uid=fitted(b"uid", member.uid, _OCTAL_7_MAX),
        gid=fitted(b"gid", member.gid, _OCTAL_7_MAX),
        mtime=mtime,
        linkname=linkname[:_NAME_MAX],
        uname=member.uname[:_OWNER_NAME_MAX],
        gname=member.gname[:_OWNER_NAME_MAX],
        devmajor=fitted(b"SCHILY.devmajor", member.devmajor if is_device else 0, _OCTAL_7_MAX),
        devminor=fitted(b"SCHILY.devminor", member.devminor if is_device else 0, _OCTAL_7_MAX),
        prefix=split[0],
    )
    if not records:
        return block
    extended = b"".join(records)
    companion = _companion_name(name, b"PaxHeaders")
    head = _header(name=companion, flag=b"x", size=len(extended), mtime=mtime)
    return head + extended.ljust(padded(len(extended)), b"\0") + block
