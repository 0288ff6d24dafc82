"""Sparse maps that lie.  What honest ones give is tested against GNU tar."""

from __future__ import annotations

import pytest

from kvfs.tar import TarReader

from .support import END, Dribble, entry, header, octal, padded, pax, read_archive

SIZE = (b"GNU.sparse.size", b"100")
V1 = (
    (b"GNU.sparse.major", b"1"),
    (b"GNU.sparse.minor", b"0"),
    (b"GNU.sparse.name", b"b"),
    (b"GNU.sparse.realsize", b"100"),
)


def mapped(value: bytes) -> bytes:
    return pax(SIZE, (b"GNU.sparse.map", value)) + entry(b"b", b"12345")


def old(entries: bytes, *, real: bytes = b"00000000144\0", more: bytes = b"\0") -> bytes:
    raw = {386: entries, 482: more, 483: real}
    return header(b"b", flag=b"S", size=5, magic=b"ustar  \0", raw=raw)


LIES = {
    "overlap": mapped(b"0,3,2,2"),
    "backwards": mapped(b"50,3,0,2"),
    "past the end": mapped(b"98,5"),
    "more than stored": mapped(b"0,6"),
    "less than stored": mapped(b"0,4"),
    "odd": mapped(b"0,5,9"),
    "no number": mapped(b"0,x"),
    "negative": mapped(b"0,-5"),
    "huge number": mapped(b"0," + b"9" * 4000),
    "no size": pax((b"GNU.sparse.map", b"0,5")) + entry(b"b", b"12345"),
    "1.0 no count": pax(*V1) + entry(b"m", padded(b"x\n") + b"12345"),
    "1.0 no lines": pax(*V1) + entry(b"m", b"1" * 4096),
    "1.0 count past the data": pax(*V1) + entry(b"m", padded(b"5\n0\n5\n")),
    "1.0 empty": pax(*V1) + entry(b"m", b""),
    "1.0 odd lines": pax(*V1) + entry(b"m", padded(b"1\n0\nz\n") + b"12345"),
    "old overlap": old(octal(0, 12) + octal(3, 12) + octal(2, 12) + octal(2, 12))
    + padded(b"12345"),
    "old no number": old(b"zzzzzzzzzzz\0" + octal(5, 12)) + padded(b"12345"),
    "old no size": old(octal(0, 12) + octal(5, 12), real=b"zzzzzzzzzzz\0") + padded(b"12345"),
    "old negative size": old(octal(0, 12) + octal(5, 12), real=b"\xff" * 12) + padded(b"12345"),
    "sparse in a format without": header(b"b", flag=b"S", size=5) + padded(b"12345"),
    "0.0 not alternating": pax(SIZE, *[(b"GNU.sparse.offset", b"0")] * 2) + entry(b"b", b"12345"),
}


@pytest.mark.parametrize("case", LIES)
def test_a_map_that_lies_costs_one_member(case: str) -> None:
    data = entry(b"a") + LIES[case] + entry(b"c") + END
    for stream in (Dribble(data), Dribble(data, 100_000)):
        archive = read_archive(stream)
        assert archive.names == [b"a", b"c"]
        refused = [problem for problem in archive.problems if problem.kind.value == "refused"]
        assert [problem.name for problem in refused] == [b"b"]


def test_an_endless_chain_of_map_blocks_ends_with_the_stream() -> None:
    block = (octal(0, 12) * 2).ljust(504, b"\0") + b"\1".ljust(8, b"\0")
    archive = read_archive(entry(b"a") + old(b"", more=b"\1") + block * 1000)
    assert archive.names == [b"a"]
    assert [problem.name for problem in archive.problems] == [b"b"]
    assert [kind.value for kind in archive.kinds] == ["truncated"]


def test_star_keeps_its_map_elsewhere() -> None:
    raw = {
        356: octal(10, 12) + octal(5, 12),
        452: octal(100, 12),
        508: b"tar\0",
        476: b"00000000001 00000000002 ",
    }
    data = header(b"s", flag=b"S", size=5, raw=raw) + padded(b"12345") + entry(b"c") + END
    archive = read_archive(data)
    assert archive.members[0].sparse_map == ((10, 5),)
    assert archive.bodies == [bytes(10) + b"12345" + bytes(85), b"hello"]


def test_segments_leave_out_holes() -> None:
    data = pax(SIZE, (b"GNU.sparse.map", b"10,3,50,2,100,0")) + entry(b"b", b"12345") + END
    reader = TarReader(Dribble(data))
    next(iter(reader))
    assert [(at, bytes(piece)) for at, piece in reader.segments(2)] == [
        (10, b"12"),
        (12, b"3"),
        (50, b"45"),
    ]


def test_a_global_header_cannot_make_files_sparse() -> None:
    data = pax(SIZE, (b"GNU.sparse.map", b"0,5"), flag=b"g") + entry(b"b", b"12345") + END
    [member] = read_archive(data).members
    assert (member.sparse_map, member.size) == (None, 5)
