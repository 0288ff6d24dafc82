"""Damaged, cut and odd archives: as GNU tar where it has an answer, and never worse."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from kvfs.errors import Exhausted, Invalid, Unavailable
from kvfs.tar import MemberType, NotATarball, Problem, ProblemKind, TarLimits, TarReader, Truncated

from .support import (
    END,
    ZERO,
    Dribble,
    entry,
    gnu_names,
    header,
    long_name,
    padded,
    pax,
    read_archive,
)

A, B, C = entry(b"a"), entry(b"b"), entry(b"c")
JUNK = b"x" * 512

AS_GNU = {
    "two zero blocks only": END,
    "lone zero block at the start": ZERO + A,
    "lone zero block": A + ZERO + B + END,
    "lone zero block at the end": A + ZERO,
    "concatenated": A + END + B + END,
    "no end": A + B,
    "half a block at the end": A + b"x" * 300,
    "junk in the middle": A + JUNK * 3 + B + END,
    "junk before the end": A + JUNK + END,
    "junk behind the end": A + END + JUNK,
    "negative size": A + header(b"n", raw={124: b"\xff" * 12}) + B + END,
    "size in letters": A + header(b"n", raw={124: b"zzzzzzzzzzz\0"}) + B + END,
    "blank size": A + header(b"n", raw={124: b" " * 12}) + B + END,
    "size of NULs": A + header(b"n", raw={124: bytes(12)}) + B + END,
    "hard link with size and data": A + entry(b"n", flag=b"1", linkname=b"a") + B + END,
    "hard link with size alone": A + header(b"n", flag=b"1", size=5, linkname=b"a") + B + END,
    "directory with size alone": A + header(b"n", flag=b"5", size=5) + B + END,
    "directory with data": A + entry(b"n", flag=b"5") + B + END,
    "dump directory": A + entry(b"n", flag=b"D") + B + END,
    "symlink with data": A + entry(b"n", flag=b"2", linkname=b"a") + B + END,
    "device with data": A + entry(b"n", flag=b"3") + B + END,
    "old directory with data": A + entry(b"n/", magic=b"", flag=b"\0") + B + END,
    "regular file with a slash": A + entry(b"n/", flag=b"0") + B + END,
    "contiguous file": A + entry(b"n", flag=b"7") + B + END,
    "unknown type": A + entry(b"n", flag=b"Z") + B + END,
    "linked data in pax": A + pax((b"size", b"5")) + entry(b"n", flag=b"1") + B + END,
    "long name, then junk": A + long_name(b"one\0") + JUNK + B + END,
    "long name at the end": A + long_name(b"one\0"),
    "long directory name": long_name(b"dir/\0") + A + B + END,
    "lying size": A + header(b"n", size=512) + B + C + END,
}


@pytest.mark.parametrize("case", AS_GNU)
def test_members_are_those_gnu_tar_lists(case: str, tmp_path: Path) -> None:
    data = AS_GNU[case]
    assert read_archive(data).names == gnu_names(data, tmp_path)
    assert read_archive(Dribble(data)).names == gnu_names(data, tmp_path)


KINDS = {
    "two zero blocks only": [],
    "lone zero block": ["lone-zero-block"],
    "lone zero block at the end": ["lone-zero-block"],
    "concatenated": [],
    "no end": ["missing-eof"],
    "half a block at the end": ["missing-eof"],
    "junk in the middle": ["invalid-header"],
    "junk before the end": ["invalid-header"],
    "junk behind the end": [],
    "negative size": ["refused"],
    "size in letters": ["refused"],
    "unknown type": ["unknown-type"],
    "long name, then junk": ["invalid-header"],
    "hard link with size and data": [],
    "old directory with data": [],
}


@pytest.mark.parametrize("case", KINDS)
def test_what_is_reported(case: str) -> None:
    archive = read_archive(AS_GNU[case])
    assert [kind.value for kind in archive.kinds] == KINDS[case]


def test_problems_name_member_and_place() -> None:
    archive = read_archive(A + header(b"bad", raw={124: b"\xff" * 12}) + B + JUNK + C + END)
    refused, junk = archive.problems
    assert (refused.offset, refused.name) == (1024, b"bad")
    assert str(refused).startswith("bad: its size field")
    assert str(refused).endswith("(at byte 1,024)")
    assert (junk.offset, junk.name) == (2560, b"")
    assert refused.kind.loses_members
    assert archive.names == [b"a", b"b", b"c"]


def test_a_lost_member_is_named_where_its_long_name_is_known() -> None:
    archive = read_archive(A + long_name(b"its/name\0") + JUNK + B + END)
    assert [problem.name for problem in archive.problems] == [b"its/name"]


def test_zeros_inside_the_body_of_a_lost_member_do_not_end_the_archive() -> None:
    lost = bytearray(entry(b"lost", bytes(5000)))
    lost[0] ^= 1
    archive = read_archive(A + bytes(lost) + B + END)
    assert archive.names == [b"a", b"b"]
    assert archive.kinds == [ProblemKind.INVALID_HEADER]


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 600, JUNK + A + END, b"PK\3\4" * 300])
def test_what_is_no_tarball_is_called_so(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(NotATarball):
        read_archive(data)
    with pytest.raises(NotATarball):
        read_archive(Dribble(data))


def test_types(tmp_path: Path) -> None:
    expected = {
        b"\0": MemberType.REGULAR,
        b"0": MemberType.REGULAR,
        b"1": MemberType.HARDLINK,
        b"2": MemberType.SYMLINK,
        b"3": MemberType.CHARACTER_DEVICE,
        b"4": MemberType.BLOCK_DEVICE,
        b"5": MemberType.DIRECTORY,
        b"6": MemberType.FIFO,
        b"7": MemberType.REGULAR,
        b"D": MemberType.DIRECTORY,
        b"?": MemberType.REGULAR,
    }
    numbers = {329: b"0000010\0" + b"0000021\0"}
    data = b"".join(header(b"n", flag=flag, linkname=b"t", raw=numbers) for flag in expected)
    members = read_archive(data + END).members
    assert [member.type for member in members] == list(expected.values())
    for member in members:
        is_link = member.type in (MemberType.HARDLINK, MemberType.SYMLINK)
        is_device = member.type in (MemberType.CHARACTER_DEVICE, MemberType.BLOCK_DEVICE)
        assert member.linkname == (b"t" if is_link else b"")
        assert (member.devmajor, member.devminor) == ((8, 17) if is_device else (0, 0))


def test_devices_without_numbers_are_refused_and_files_do_not_care() -> None:
    odd = {329: b"zzzzzzz\0"}
    archive = read_archive(header(b"dev", flag=b"3", raw=odd) + entry(b"f", raw=odd) + END)
    assert archive.names == [b"f"]
    assert [problem.name for problem in archive.problems] == [b"dev"]


def test_names_are_handed_out_raw() -> None:
    names = [b"/etc/passwd", b"../../x", b".", b"a//b", b"\xff\xfe", b"n" * 100]
    data = b"".join(entry(name) for name in names)
    assert read_archive(data + entry(b"") + END).names == [*names, b""]


def small_archive() -> tuple[bytes, list[tuple[bytes, bytes, int]]]:
    """An archive with all sorts of headers, and where each member has ended."""
    data = b""
    ends = []
    for name, body, head in (
        (b"a", b"A" * 600, b""),
        (b"long" * 50, b"B" * 100, long_name(b"long" * 50 + b"\0")),
        (b"p", b"C" * 1024, pax((b"path", b"p"), (b"mtime", b"1.5"))),
        (b"empty", b"", b""),
    ):
        data += head + entry(name[:100], body)
        ends.append((name, body, len(data) - (-len(body) % 512)))
    return data + END, ends


@pytest.mark.parametrize("seekable", [True, False])
def test_truncation_at_every_block_and_around_it(seekable: bool) -> None:
    data, ends = small_archive()
    for cut in [*range(512, len(data), 512), *range(513, len(data), 512), len(data) - 1]:
        stream = io.BytesIO(data[:cut]) if seekable else Dribble(data[:cut])
        whole: list[tuple[bytes, bytes]] = []
        problems: list[Problem] = []
        reader = TarReader(stream, on_problem=problems.append)
        raised = False
        for member in reader:
            try:
                whole.append((member.name, bytes(reader.read_body())))
            except Truncated:
                raised = True
        assert whole == [(name, body) for name, body, end in ends if end <= cut], cut
        assert raised or problems or cut >= len(data) - 512, cut


@pytest.mark.parametrize("seekable", [True, False])
def test_a_cut_body_that_nobody_reads_is_reported(seekable: bool) -> None:
    data = A + header(b"cut", size=1 << 20) + b"x" * 900
    archive = read_archive(io.BytesIO(data) if seekable else Dribble(data), bodies=False)
    assert archive.names == [b"a", b"cut"]
    [problem] = archive.problems
    assert (problem.kind, problem.name) == (ProblemKind.TRUNCATED, b"cut")


def test_a_cut_body_gives_what_there_is() -> None:
    problems: list[Problem] = []
    reader = TarReader(
        io.BytesIO(A + header(b"cut", size=1 << 40) + b"x" * 200_000), on_problem=problems.append
    )
    members = iter(reader)
    next(members)
    next(members)
    pieces = reader.segments(65_536)
    got: list[tuple[int, int]] = []
    with pytest.raises(Truncated, match="cut"):
        got.extend((offset, len(data)) for offset, data in pieces)
    assert got == [(0, 65_536), (65_536, 65_536), (131_072, 65_536), (196_608, 3392)]
    assert list(members) == []
    assert problems == []


def test_padding_may_lack_at_the_very_end() -> None:
    archive = read_archive(A + entry(b"b", b"body")[: 512 + 4])
    assert archive.bodies == [b"hello", b"body"]
    assert archive.kinds == [ProblemKind.MISSING_EOF]


def test_ignoring_zeros_reads_concatenated_archives() -> None:
    data = A + END + B + ZERO + C + END + bytes(8192)
    archive = read_archive(data, TarLimits(ignore_zeros=True))
    assert (archive.names, archive.problems) == ([b"a", b"b", b"c"], [])


def test_segments_have_the_size_asked_for() -> None:
    body = os.urandom(300_000)
    for step in (1, 999, 65_536):
        size = min(len(body), step * 500)
        reader = TarReader(Dribble(entry(b"f", body[:size]) + B + END), buffer_bytes=65_536)
        members = iter(reader)
        next(members)
        pieces = [(offset, bytes(data)) for offset, data in reader.segments(step)]
        assert [offset for offset, _ in pieces] == list(range(0, size, step))
        assert all(len(data) == step for _, data in pieces[:-1])
        assert b"".join(data for _, data in pieces) == body[:size]
        assert [member.name for member in members] == [b"b"]


def test_misuse_is_refused() -> None:
    reader = TarReader(io.BytesIO(entry(b"f", os.urandom(200_000)) + B + END), buffer_bytes=65_536)
    with pytest.raises(Invalid):
        reader.read_body()
    with pytest.raises(Invalid):
        reader.segments()
    members = iter(reader)
    next(members)
    for bad in (0, -1, 65_537):
        with pytest.raises(Invalid):
            reader.segments(bad)
    pieces = reader.segments()
    next(pieces)
    next(members)
    with pytest.raises(Invalid, match="moved on"):
        next(pieces)
    assert bytes(reader.read_body()) == bytes(reader.read_body()) == b"hello"
    assert list(members) == []
    with pytest.raises(Invalid):
        reader.read_body()
    with pytest.raises(Invalid):
        TarReader(io.BytesIO(), buffer_bytes=100)


def test_bodies_larger_than_the_buffer_are_assembled_up_to_a_limit() -> None:
    body = os.urandom(200_000)
    data = entry(b"f", body) + B + END
    assert read_archive(data, TarLimits(body_bytes_max=200_000)).bodies[0] == body
    with pytest.raises(Exhausted):
        read_archive(data, TarLimits(body_bytes_max=199_999))


def test_views_that_are_held_never_change() -> None:
    bodies = [os.urandom(700) for _ in range(2000)]
    data = b"".join(entry(b"f%d" % number, body) for number, body in enumerate(bodies))
    reader = TarReader(io.BytesIO(data + END), buffer_bytes=65_536)
    held = [reader.read_body() for _ in reader]
    assert [bytes(view) for view in held] == bodies


def test_a_failing_stream_is_unavailable() -> None:
    class Failing:
        def __init__(self) -> None:
            self.data = io.BytesIO(A)

        def read(self, size: int, /) -> bytes:
            if got := self.data.read(size):
                return got
            raise OSError("the disk is gone")

    seen: list[bytes] = []
    with pytest.raises(Unavailable, match="gone") as raised:
        seen.extend(member.name for member in TarReader(Failing()))
    assert seen == [b"a"]
    assert isinstance(raised.value.__cause__, OSError)


def test_reading_starts_where_the_stream_stands() -> None:
    stream = io.BytesIO(b"prefix" + A + entry(b"big", bytes(300_000)) + B + END)
    stream.seek(6)
    archive = read_archive(stream, bodies=False)
    assert archive.names == [b"a", b"big", b"b"]
    assert archive.members[1].offset == 1024
    assert padded(b"x")[0] == ord("x")
