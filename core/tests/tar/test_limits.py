"""Each limit, reached and passed by one."""

from __future__ import annotations

import tracemalloc

import pytest

from kvfs.tar import ProblemKind, TarLimits
from kvfs.tar.pax import format_record

from .support import END, Archive, entry, header, long_name, octal, padded, pax, read_archive


def lost_to_a_limit(archive: Archive, name: bytes) -> None:
    assert [(p.kind, p.name) for p in archive.problems] == [(ProblemKind.LIMIT, name)]
    assert archive.names == [b"a", b"c"]


def between(data: bytes) -> bytes:
    return entry(b"a") + data + entry(b"c") + END


@pytest.mark.parametrize("size", [1000, 65_537, 200_000])
def test_pax_header_bytes(size: int) -> None:
    record = format_record(b"path", b"p" * (size - 7 - len(str(size))))
    size = len(record)
    data = between(entry(b"x", record, flag=b"x") + entry(b"b"))
    assert len(read_archive(data, TarLimits(pax_header_bytes_max=size)).names[1]) > size - 20
    lost_to_a_limit(read_archive(data, TarLimits(pax_header_bytes_max=size - 1)), b"b")


def test_global_pax_bytes_count_together() -> None:
    data = b"".join(
        pax((keyword, b"v" * 100), flag=b"g") for keyword in (b"uname", b"gname", b"linkpath")
    )
    total = 300 + len(b"unamegnamelinkpath")
    fits = read_archive(data + entry(b"a") + END, TarLimits(pax_header_bytes_max=total))
    assert fits.problems == []
    over = read_archive(data + entry(b"a") + END, TarLimits(pax_header_bytes_max=total - 1))
    assert over.kinds == [ProblemKind.LIMIT]
    assert (over.members[0].uname, over.members[0].gname) == (b"v" * 100, b"v" * 100)


@pytest.mark.parametrize("flag", [b"L", b"K"])
def test_long_name_bytes(flag: bytes) -> None:
    data = between(long_name(b"n" * 999 + b"\0", flag) + entry(b"b", b"", flag=b"2"))
    fits = read_archive(data, TarLimits(long_name_bytes_max=1000))
    assert fits.problems == []
    assert b"n" * 999 in (fits.members[1].name, fits.members[1].linkname)
    lost_to_a_limit(read_archive(data, TarLimits(long_name_bytes_max=999)), b"b")


def test_member_bytes() -> None:
    data = between(entry(b"b", b"12345678"))
    assert read_archive(data, TarLimits(member_bytes_max=8)).bodies[1] == b"12345678"
    lost_to_a_limit(read_archive(data, TarLimits(member_bytes_max=7)), b"b")


def test_member_bytes_counts_holes() -> None:
    data = between(
        pax((b"GNU.sparse.size", b"99"), (b"GNU.sparse.map", b"0,5")) + entry(b"b", b"12345")
    )
    assert read_archive(data, TarLimits(member_bytes_max=99)).members[1].size == 99
    lost_to_a_limit(read_archive(data, TarLimits(member_bytes_max=98)), b"b")


def test_members() -> None:
    data = b"".join(entry(b"%d" % number) for number in range(5)) + END
    assert read_archive(data, TarLimits(members_max=5)).problems == []
    archive = read_archive(data, TarLimits(members_max=4))
    assert archive.names == [b"0", b"1", b"2", b"3"]
    assert [(p.kind, p.name) for p in archive.problems] == [(ProblemKind.LIMIT, b"4")]


def old_sparse(count: int) -> bytes:
    """A file of old GNU format with ``count`` segments of one byte each."""
    entries = [octal(2 * number, 12) + octal(1, 12) for number in range(count)]
    blocks = [entries[start : start + 21] for start in range(4, count, 21)]
    raw = {
        386: b"".join(entries[:4]),
        482: b"\1" if blocks else b"\0",
        483: octal(2 * count, 12),
    }
    head = header(b"b", flag=b"S", size=count, magic=b"ustar  \0", raw=raw)
    for number, block in enumerate(blocks):
        more = b"\1" if number < len(blocks) - 1 else b"\0"
        head += (b"".join(block).ljust(504, b"\0") + more).ljust(512, b"\0")
    return head + padded(b"y" * count)


def pax_sparse(count: int, version: str) -> bytes:
    pairs = [(2 * number, 1) for number in range(count)]
    size = (b"GNU.sparse.size", b"%d" % (2 * count))
    data = b"y" * count
    if version == "0.0":
        records = [
            record
            for at, length in pairs
            for record in (
                (b"GNU.sparse.offset", b"%d" % at),
                (b"GNU.sparse.numbytes", b"%d" % length),
            )
        ]
        return pax(size, *records) + entry(b"b", data)
    if version == "0.1":
        listed = b",".join(b"%d,%d" % pair for pair in pairs)
        return pax(size, (b"GNU.sparse.map", listed)) + entry(b"b", data)
    lines = b"%d\n" % count + b"".join(b"%d\n%d\n" % pair for pair in pairs)
    records = [
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"b"),
        (b"GNU.sparse.realsize", b"%d" % (2 * count)),
    ]
    return pax(*records) + entry(b"mangled", padded(lines) + data)


@pytest.mark.parametrize("version", ["old", "0.0", "0.1", "1.0"])
@pytest.mark.parametrize("count", [1, 4, 5, 25, 26, 300])
def test_sparse_segments(version: str, count: int) -> None:
    data = between(old_sparse(count) if version == "old" else pax_sparse(count, version))
    fits = read_archive(data, TarLimits(sparse_segments_max=count))
    assert fits.problems == []
    assert len(fits.members[1].sparse_map or ()) == count
    assert fits.bodies[1] == b"y\0" * count
    lost_to_a_limit(read_archive(data, TarLimits(sparse_segments_max=count - 1)), b"b")


HUGE = 1 << 60


@pytest.mark.parametrize(
    "data",
    [
        header(b"b", raw={124: b"\x80" + bytes(3) + HUGE.to_bytes(8, "big")}),
        header(b"b", flag=b"x", raw={124: b"\x80" + bytes(3) + HUGE.to_bytes(8, "big")}),
        header(b"b", flag=b"L", raw={124: b"\x80" + bytes(3) + HUGE.to_bytes(8, "big")}),
        header(b"b", flag=b"g", raw={124: b"\x80" + bytes(3) + HUGE.to_bytes(8, "big")}),
        header(b"b", flag=b"x", size=1 << 20),
        pax((b"size", b"%d" % HUGE)) + header(b"b"),
        pax((b"GNU.sparse.size", b"%d" % HUGE), (b"GNU.sparse.map", b"")) + header(b"b"),
    ],
)
def test_claims_allocate_nothing(data: bytes) -> None:
    data = entry(b"a") + data
    tracemalloc.start()
    try:
        archive = read_archive(data, bodies=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert archive.names[0] == b"a"
    assert peak < 1 << 20
