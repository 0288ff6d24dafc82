"""Random archives against Python's tarfile, and random damage against common sense."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
import tracemalloc
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvfs.errors import Corrupt, Exhausted
from kvfs.tar import (
    ByteStream,
    Member,
    MemberType,
    NotATarball,
    Problem,
    TarReader,
    TarWriter,
    open_tar_stream,
)

from .support import END, Dribble, entry, long_name, pax, read_archive
from .test_limits import old_sparse, pax_sparse

TYPES = {
    tarfile.REGTYPE: MemberType.REGULAR,
    tarfile.LNKTYPE: MemberType.HARDLINK,
    tarfile.SYMTYPE: MemberType.SYMLINK,
    tarfile.CHRTYPE: MemberType.CHARACTER_DEVICE,
    tarfile.BLKTYPE: MemberType.BLOCK_DEVICE,
    tarfile.DIRTYPE: MemberType.DIRECTORY,
    tarfile.FIFOTYPE: MemberType.FIFO,
}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@st.composite
def tar_infos(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(
        draw(st.builds(lambda text, n: (text * n)[:300], TEXT, st.integers(1, 90)))
    )
    info.type = draw(st.sampled_from(sorted(TYPES)))
    info.name = info.name.strip("/") or "name"
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 0o7777777)), draw(st.integers(0, 0o7777777))
    info.mtime = draw(st.integers(0, 0o77777777777))
    owner = TEXT.filter(lambda text: len(text.encode()) < 32)
    info.uname, info.gname = draw(owner), draw(owner)
    body = draw(st.binary(max_size=1500)) if info.isreg() else b""
    info.size = len(body)
    if info.issym() or info.islnk():
        info.linkname = draw(TEXT)
    if info.ischr() or info.isblk():
        info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 1 << 20))
    return info, body


@settings(max_examples=150, deadline=None)
@given(
    st.lists(tar_infos(), max_size=6),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_what_tarfile_writes_is_read_as_it_was_meant(
    wanted: list[tuple[tarfile.TarInfo, bytes]], format_: int
) -> None:
    out = io.BytesIO()
    kept = []
    with tarfile.open(fileobj=out, mode="w", format=format_, encoding="utf-8") as archive:
        for info, body in wanted:
            with contextlib.suppress(ValueError):  # what ustar cannot hold
                archive.addfile(info, io.BytesIO(body))
                kept.append((info, body))
    read = read_archive(out.getvalue())
    assert read.problems == []
    assert read.bodies == [body for _, body in kept]
    for member, (info, body) in zip(read.members, kept, strict=True):
        slash = "/" if info.isdir() else ""
        assert member == Member(
            (info.name + slash).encode(),
            TYPES[info.type],
            info.mode,
            info.uid,
            info.gid,
            len(body),
            int(info.mtime) * 10**9,
            info.linkname.encode() if member.linkname or info.linkname else b"",
            info.uname.encode(),
            info.gname.encode(),
            info.devmajor,
            info.devminor,
        )


@cache
def samples() -> list[bytes]:
    """One archive of everything, plain and compressed."""
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.add(Member(b"n" * 300, size=5, mtime_ns=1, xattrs={b"user.a": b"b"}), [b"12345"])
    writer.add(Member(b"sparse", size=5000, sparse_map=((100, 5), (4000, 3))), [b"12345678"])
    plain = b"".join(
        [
            entry(b"a", b"A" * 1000),
            long_name(b"l" * 150 + b"\0"),
            long_name(b"t" * 150 + b"\0", b"K"),
            entry(b"s", b"", flag=b"2"),
            pax((b"uid", b"7"), flag=b"g"),
            pax((b"path", b"p" * 200), (b"size", b"5"), (b"mtime", b"1.25")),
            entry(b"b"),
            old_sparse(30),
            *(pax_sparse(5, version) for version in ("0.0", "0.1", "1.0")),
            entry(b"d", b"", flag=b"5"),
            entry(b"h", b"", flag=b"1", linkname=b"a"),
            out.getvalue(),
            END,
        ]
    )
    return [plain, gzip.compress(plain, mtime=0)]


def consume(stream: ByteStream) -> tuple[int, list[Problem]]:
    """Read everything there is, in bounded pieces; the number of members, and the problems."""
    problems: list[Problem] = []
    count = 0
    reader = TarReader(stream, on_problem=problems.append, buffer_bytes=65_536)
    for member in reader:
        count += 1
        assert 0 <= member.mode <= 0o7777
        assert member.size >= 0
        end = 0
        try:
            for offset, data in reader.segments(50_000):
                assert offset >= end
                end = offset + len(data)
            assert end <= member.size
            if count % 2 and member.size < 1 << 16 and member.sparse_map is None:
                assert len(reader.read_body()) == member.size
        except (Corrupt, Exhausted):
            continue
    return count, problems


@settings(max_examples=400, deadline=None)
@given(
    which=st.integers(0, 1),
    flips=st.lists(st.tuples(st.integers(0, 1 << 30), st.integers(1, 255)), min_size=1, max_size=8),
    cut=st.none() | st.integers(0, 1 << 30),
    fix_sums=st.booleans(),
    dribble=st.booleans(),
)
def test_damage_never_raises_anything_but_corrupt(
    which: int,
    flips: list[tuple[int, int]],
    cut: int | None,
    fix_sums: bool,
    dribble: bool,
) -> None:
    data = bytearray(samples()[which])
    for place, value in flips:
        data[place % len(data)] ^= value
    if fix_sums and which == 0:
        # Damage behind a right checksum reaches much further into the reader.
        for place, _ in flips:
            at = place % len(data) // 512 * 512
            block = data[at : at + 512]
            block[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    if cut is not None:
        del data[cut % len(data) :]
    raw: ByteStream = Dribble(bytes(data), 777) if dribble else io.BytesIO(bytes(data))
    with contextlib.suppress(Corrupt):
        stream, _ = open_tar_stream(raw)
        count, problems = consume(stream)
        # Each step forward costs at least one block.
        assert count + len(problems) <= len(samples()[0]) // 128 + 8


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=3000))
def test_random_bytes_are_no_tarball(data: bytes) -> None:
    with contextlib.suppress(Corrupt):
        stream, name = open_tar_stream(Dribble(data))
        count, _ = consume(stream)
        assert count == 0 or name != "none"
    with pytest.raises(NotATarball):
        read_archive(b"\1" + data)


def test_damage_does_not_make_memory_grow() -> None:
    data = bytearray(samples()[0])
    tracemalloc.start()
    try:
        for place in range(0, len(data), 37):
            damaged = bytearray(data)
            damaged[place] ^= 0x80
            with contextlib.suppress(Corrupt):
                consume(io.BytesIO(bytes(damaged)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 1500), st.integers(1, 5000))
def test_how_the_bytes_arrive_does_not_matter(step: int, piece: int) -> None:
    whole = read_archive(samples()[0])
    dribbled = read_archive(Dribble(samples()[0], step))
    assert (dribbled.members, dribbled.bodies) == (whole.members, whole.bodies)
    reader = TarReader(Dribble(samples()[0], step), buffer_bytes=65_536)
    for member, body in zip(reader, whole.bodies, strict=True):
        content = bytearray(member.size)
        for offset, data in reader.segments(piece):
            content[offset : offset + len(data)] = data
        assert bytes(content) == body
    assert os.path.basename(whole.names[0]) == b"a"
