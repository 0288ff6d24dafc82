"""The writer, checked by GNU tar, Python's tarfile and our own reader."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvfs.errors import Closed, Invalid
from kvfs.tar import Member, MemberType, TarWriter

from .support import gnu_tar, read_archive

NANOSECONDS = 10**9


def written(*members: tuple[Member, bytes]) -> bytes:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    for member, body in members:
        writer.add(member, [body])
    writer.close()
    assert len(out.getvalue()) % 10_240 == 0
    return out.getvalue()


def test_what_fits_gets_a_plain_header() -> None:
    fitting = [
        Member(b"n" * 100, mtime_ns=5 * NANOSECONDS, uname=b"u" * 31, gname=b"root"),
        Member(b"p" * 155 + b"/" + b"n" * 100, uid=0o7777777, gid=0o7777777, mode=0o7777),
        Member(b"\xff\xfe", mtime_ns=0o77777777777 * NANOSECONDS),
        Member(b"link", MemberType.SYMLINK, linkname=b"t" * 100),
        Member(b"hard", MemberType.HARDLINK, linkname=b"n" * 100),
        Member(b"dev", MemberType.CHARACTER_DEVICE, devmajor=0o7777777, devminor=1),
        Member(b"d" * 155 + b"/" + b"e" * 99 + b"/", MemberType.DIRECTORY),
        Member(b"fifo", MemberType.FIFO),
    ]
    data = written(*[(member, b"") for member in fitting])
    assert len(data) == 10_240
    assert not any(data[at + 156 : at + 157] == b"x" for at in range(0, len(data), 512))
    archive = read_archive(data)
    assert archive.members == fitting
    assert archive.problems == []


@pytest.mark.parametrize(
    "member",
    [
        Member(b"n" * 101),
        Member(b"p" * 156 + b"/n"),
        Member(b"p/" + b"n" * 101),
        Member(b"d" * 200 + b"/", MemberType.DIRECTORY),
        Member(b"n", uid=0o7777777 + 1),
        Member(b"n", gid=(1 << 32) - 1),
        Member(b"n", mtime_ns=1),
        Member(b"n", mtime_ns=-1),
        Member(b"n", mtime_ns=(0o77777777777 + 1) * NANOSECONDS),
        Member(b"n", atime_ns=0),
        Member(b"n", ctime_ns=-1_500_000_000),
        Member(b"n", uname=b"u" * 32),
        Member(b"n", gname=b"\xff" * 200),
        Member(b"n", MemberType.SYMLINK, linkname=b"t" * 101),
        Member(b"n", MemberType.BLOCK_DEVICE, devmajor=1 << 31, devminor=1 << 31),
        Member(b"n", xattrs={b"user.a=b%3D": b"\0\n=", b"user.empty": b""}),
    ],
)
def test_what_does_not_fit_gets_an_extended_header(member: Member) -> None:
    data = written((member, b""), (Member(b"next"), b""))
    assert data[156:157] == b"x"
    archive = read_archive(data)
    assert archive.members == [member, Member(b"next")]
    assert archive.problems == []


def test_sizes_past_eight_gib() -> None:
    size = 8 << 30
    out = io.BytesIO()
    writer = TarWriter(lambda data: out.write(data) if len(data) < 4096 else None)
    chunk = memoryview(bytes(1 << 26))
    writer.add(Member(b"big", size=size), (chunk for _ in range(size >> 26)))
    writer.close()
    head = out.getvalue()
    assert b"19 size=8589934592\n" in head
    archive = read_archive(head, bodies=False)
    assert archive.members[0].size == size


def tree_members(root: Path) -> Iterable[tuple[Member, bytes]]:
    """A tree as members, read by plain system calls."""
    first: dict[int, bytes] = {}
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        name = os.fsencode(path.relative_to(root))
        common = Member(
            name,
            mode=stat.S_IMODE(found.st_mode),
            uid=found.st_uid,
            gid=found.st_gid,
            mtime_ns=found.st_mtime_ns,
        )
        if path.is_symlink():
            link = os.readlink(os.fsencode(path))
            yield attrs.evolve(common, type=MemberType.SYMLINK, linkname=link), b""
        elif path.is_dir():
            yield attrs.evolve(common, type=MemberType.DIRECTORY), b""
        elif path.is_fifo():
            yield attrs.evolve(common, type=MemberType.FIFO), b""
        elif found.st_ino in first:
            target = first[found.st_ino]
            yield attrs.evolve(common, type=MemberType.HARDLINK, linkname=target), b""
        else:
            first[found.st_ino] = name
            body = path.read_bytes()
            xattrs = {
                os.fsencode(key): os.getxattr(path, key)
                for key in os.listxattr(path)
                if key.startswith("user.")
            }
            yield attrs.evolve(common, size=len(body), xattrs=xattrs), body


def listing(root: Path) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for path in sorted(root.rglob("*")):
        found = path.lstat()
        regular = stat.S_ISREG(found.st_mode)
        rows.append(
            (
                path.relative_to(root),
                found.st_mode,
                (found.st_uid, found.st_gid),
                found.st_mtime_ns,
                found.st_nlink if regular else 0,
                path.read_bytes() if regular else None,
                os.readlink(path) if path.is_symlink() else None,
                {k: os.getxattr(path, k) for k in os.listxattr(path)} if regular else None,
            )
        )
    return rows


def test_gnu_tar_unpacks_exactly_what_was_written(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    deep = source / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    files = {
        source / "plain": b"plain",
        source / os.fsdecode(b"\xff\xfe \n'"): b"binary",
        deep / ("f" * 200): os.urandom(70_000),
        source / "empty": b"",
    }
    for path, body in files.items():
        path.write_bytes(body)
    os.setxattr(source / "plain", "user.a=b%c", b"\0\n=value")
    (source / "hard").hardlink_to(source / "plain")
    (source / "symlink").symlink_to("t" * 300)
    os.mkfifo(source / "fifo")
    (source / "plain").chmod(0o6751)
    deep.chmod(0o1700)
    for path in sorted(source.rglob("*"), reverse=True):
        stamp = -1_000_000_007 if path.name == "empty" else 1_700_000_000_123_456_789
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
    data = written(*tree_members(source))
    (tmp_path / "a.tar").write_bytes(data)
    gnu_tar("--xattrs", "-xpf", tmp_path / "a.tar", "-C", target, cwd=tmp_path)
    assert listing(target) == listing(source)
    assert read_archive(data).problems == []


def test_gnu_tar_unpacks_sparse_files(tmp_path: Path) -> None:
    expected = {
        b"holes": ((1 << 20) + 7, ((0, 4096), (65_536, 1), (1 << 20, 7))),
        b"dir/" + b"n" * 150: (100_000, ((512, 512),)),
        b"nothing": (1 << 20, ()),
        b"many": (400_000, tuple((at, 100) for at in range(0, 400_000, 1000))),
        b"odd": (100_001, ((7, 3), (11, 1), (600, 1), (3000, 600), (99_999, 2))),
        b"end": (4096, ((1, 4095),)),
    }
    members = []
    contents = {}
    for name, (size, sparse_map) in expected.items():
        stored = b"".join(os.urandom(length) for _, length in sparse_map)
        content = bytearray(size)
        at = 0
        for offset, length in sparse_map:
            content[offset : offset + length] = stored[at : at + length]
            at += length
        contents[name] = bytes(content)
        members.append((Member(name, size=size, sparse_map=sparse_map), stored))
    data = written(*members)
    archive = read_archive(data)
    assert dict(zip(archive.names, archive.bodies, strict=True)) == contents
    maps = {member.name: member.sparse_map for member in archive.members}
    assert maps[b"nothing"] == ()
    assert maps[b"holes"] == ((0, 4096), (65_536, 512), (1 << 20, 7))
    assert maps[b"odd"] == ((0, 1024), (2560, 1536), (99_840, 161))
    with tarfile.open(fileobj=io.BytesIO(data)) as oracle:
        for info in oracle:
            extracted = oracle.extractfile(info)
            assert extracted is not None
            assert extracted.read() == contents[os.fsencode(info.name)]
    (tmp_path / "a.tar").write_bytes(data)
    gnu_tar("-xf", tmp_path / "a.tar", cwd=tmp_path)
    for name, whole in contents.items():
        path = tmp_path / os.fsdecode(name)
        assert path.read_bytes() == whole
    assert (tmp_path / "nothing").stat().st_blocks == 0


def test_gnu_tar_lists_devices(tmp_path: Path) -> None:
    data = written(
        (Member(b"c", MemberType.CHARACTER_DEVICE, 0o666, devmajor=4095, devminor=1048575), b""),
        (Member(b"b", MemberType.BLOCK_DEVICE, 0o660, devmajor=8, devminor=1), b""),
    )
    (tmp_path / "a.tar").write_bytes(data)
    lines = gnu_tar("-tvf", "a.tar", cwd=tmp_path).splitlines()
    assert [line[:10] for line in lines] == ["crw-rw-rw-", "brw-rw----"]
    assert "4095,1048575" in lines[0]
    assert "8,1" in lines[1]


@pytest.mark.parametrize(
    "member",
    [
        Member(b""),
        Member(b"a\0b"),
        Member(b"a/"),
        Member(b"l", MemberType.SYMLINK),
        Member(b"l", MemberType.HARDLINK, linkname=b"a\0"),
        Member(b"d/", MemberType.DIRECTORY, size=1),
        Member(b"a", size=-1),
        Member(b"a", size=1 << 63),
        Member(b"a", mode=0o10000),
        Member(b"a", uid=-1),
        Member(b"a", gid=1 << 32),
        Member(b"a", xattrs={b"": b"x"}),
        Member(b"a", size=10, sparse_map=((5, 6),)),
        Member(b"a", size=10, sparse_map=((5, 1), (5, 1))),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is(member: Member) -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    with pytest.raises(Invalid):
        writer.add(member)
    assert out.getvalue() == b""
    writer.add(Member(b"good"))
    writer.close()
    assert read_archive(out.getvalue()).names == [b"good"]


@pytest.mark.parametrize("chunks", [[], [b"12"], [b"1"] * 4, [b"123", b"4"]])
def test_the_size_of_sparse_files_is_verified(chunks: list[bytes]) -> None:
    for sparse_map in (((7, 1), (5000, 2)), ((0, 512), (1024, 3))):
        writer = TarWriter(io.BytesIO().write)
        with pytest.raises(Invalid):
            writer.add(Member(b"a", size=9000, sparse_map=sparse_map), chunks)
        with pytest.raises(Closed):
            writer.close()


@pytest.mark.parametrize("chunks", [[], [b"1234"], [b"123456"], [b"12345", b"6"]])
def test_the_size_is_verified(chunks: list[bytes]) -> None:
    writer = TarWriter(io.BytesIO().write)
    with pytest.raises(Invalid, match="5"):
        writer.add(Member(b"a", size=5), chunks)
    with pytest.raises(Closed):
        writer.add(Member(b"b"))
    with pytest.raises(Closed):
        writer.close()


def test_closing_is_final() -> None:
    out = io.BytesIO()
    writer = TarWriter(out.write)
    writer.close()
    writer.close()
    assert out.getvalue() == bytes(10_240)
    with pytest.raises(Closed):
        writer.add(Member(b"a"))


NAMES = st.binary(min_size=1, max_size=300).map(lambda raw: raw.replace(b"\0", b"_"))
TIMES = st.integers(-(1 << 80), 1 << 80)


@st.composite
def members(draw: st.DrawFn) -> tuple[Member, bytes]:
    type_ = draw(st.sampled_from(MemberType))
    name = draw(NAMES)
    body = draw(st.binary(max_size=2000)) if type_ is MemberType.REGULAR else b""
    if type_ is MemberType.REGULAR:
        name = name.rstrip(b"/") or b"file"
    elif type_ is MemberType.DIRECTORY:
        name += b"" if name.endswith(b"/") else b"/"
    number = st.integers(0, (1 << 32) - 1)
    is_device = type_ in (MemberType.BLOCK_DEVICE, MemberType.CHARACTER_DEVICE)
    is_link = type_ in (MemberType.HARDLINK, MemberType.SYMLINK)
    owner = st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"_"))
    member = Member(
        name,
        type_,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(number),
        gid=draw(number),
        size=len(body),
        mtime_ns=draw(TIMES),
        linkname=draw(NAMES) if is_link else b"",
        uname=draw(owner),
        gname=draw(owner),
        devmajor=draw(number) if is_device else 0,
        devminor=draw(number) if is_device else 0,
        atime_ns=draw(st.none() | TIMES),
        ctime_ns=draw(st.none() | TIMES),
        xattrs=draw(st.dictionaries(NAMES, st.binary(max_size=200), max_size=3)),
    )
    return member, body


@settings(max_examples=150, deadline=None)
@given(st.lists(members(), max_size=5))
def test_whatever_is_written_is_read_back(wanted: list[tuple[Member, bytes]]) -> None:
    data = written(*wanted)
    archive = read_archive(data)
    assert archive.members == [member for member, _ in wanted]
    assert archive.bodies == [body for _, body in wanted]
    assert archive.problems == []
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as oracle:
        assert len(oracle.getmembers()) == len(wanted)
