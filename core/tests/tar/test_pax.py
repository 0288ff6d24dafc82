"""Extended headers: records, values, precedence, damage."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.tar import MemberType
from kvfs.tar.pax import format_record, format_time_ns, parse_records, parse_time_ns

from .support import END, entry, header, long_name, pax, read_archive


@given(st.binary(max_size=1100))
def test_record_lengths_count_their_own_digits(value: bytes) -> None:
    record = format_record(b"path", value)
    assert int(record.partition(b" ")[0]) == len(record)
    parsed = parse_records(record)
    assert parsed.error is None
    assert parsed.values == {b"path": value}


@given(st.binary(max_size=300))
def test_any_bytes_are_parsed_without_failing(data: bytes) -> None:
    parse_records(data)
    parse_records(b"12 path=foo\n" + data)


@given(st.integers(-(1 << 80), 1 << 80))
def test_times_survive_exactly(ns: int) -> None:
    text = format_time_ns(ns)
    expected = ns if abs(ns) // 10**9 < 1 << 63 else None
    assert parse_time_ns(text) == expected


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"0", 0),
        (b"1.", 10**9),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"-0.000000001", -1),
        (b"1.0000000019", 1_000_000_001),
        (b"-1.0000000011", -1_000_000_002),
        (b"-1.0000000010", -1_000_000_001),
        (b"9223372036854775807", (2**63 - 1) * 10**9),
        (b"9223372036854775808", None),
        *[
            (bad, None)
            for bad in (b"", b".5", b"1,5", b"1e5", b"+1", b" 1", b"1_0", b"zork", b"1\n")
        ],
    ],
)
def test_times_are_exact_decimals(text: bytes, ns: int | None) -> None:
    assert parse_time_ns(text) == ns


def test_every_field_can_be_replaced() -> None:
    records = (
        (b"path", b"\xff name \n="),
        (b"uid", b"4294967295"),
        (b"gid", b"12345678"),
        (b"uname", b"u" * 50),
        (b"gname", b"g" * 50),
        (b"mtime", b"-1.000000001"),
        (b"atime", b"2.000000001"),
        (b"ctime", b"3.1"),
        (b"SCHILY.xattr.user.a%3Db", b"\0\n="),
        (b"comment", b"ignored"),
        (b"hdrcharset", b"BINARY"),
    )
    archive = read_archive(pax(*records) + entry(b"n", b"body") + END)
    [member] = archive.members
    assert archive.problems == []
    assert (member.name, member.uid, member.gid) == (b"\xff name \n=", 4294967295, 12345678)
    assert (member.uname, member.gname) == (b"u" * 50, b"g" * 50)
    assert member.mtime_ns == -1_000_000_001
    assert (member.atime_ns, member.ctime_ns) == (2_000_000_001, 3_100_000_000)
    assert dict(member.xattrs) == {b"user.a=b": b"\0\n="}
    assert (member.offset, member.data_offset) == (0, 1536)


def test_size_link_and_device_records() -> None:
    data = (
        pax((b"size", b"5")) + header(b"f") + b"HELLO".ljust(512, b"\0")
        + pax((b"linkpath", b"t" * 300)) + header(b"s", flag=b"2")
        + pax((b"SCHILY.devmajor", b"9000000"), (b"SCHILY.devminor", b"5"))
        + header(b"d", flag=b"3")
        + END
    )  # fmt: skip
    archive = read_archive(data)
    file, link, device = archive.members
    assert (file.size, archive.bodies[0]) == (5, b"HELLO")
    assert (link.type, link.linkname) == (MemberType.SYMLINK, b"t" * 300)
    assert (device.devmajor, device.devminor) == (9000000, 5)


def test_precedence() -> None:
    shared = pax((b"path", b"global"), (b"mtime", b"5"), (b"uname", b"shared"), flag=b"g")
    data = (
        shared
        + entry(b"a")
        + long_name(b"long\0") + pax((b"path", b"own"), (b"mtime", b"6")) + entry(b"b")
        + pax((b"path", b"own")) + long_name(b"long\0") + entry(b"c")
        + pax((b"mtime", b""), (b"uname", b"")) + entry(b"d", raw={265: b"header"})
        + pax((b"path", b""), (b"uname", b""), flag=b"g")
        + entry(b"e", raw={265: b"header"})
        + END
    )  # fmt: skip
    seen = [(m.name, m.mtime_ns // 10**9, m.uname) for m in read_archive(data).members]
    assert seen == [
        (b"global", 5, b"shared"),
        (b"own", 6, b"shared"),
        (b"own", 5, b"shared"),
        (b"global", 1000, b""),
        (b"e", 5, b"header"),
    ]


def test_the_last_extension_of_a_kind_counts() -> None:
    data = (
        pax((b"path", b"p1"), (b"mtime", b"5")) + pax((b"path", b"p2")) + entry(b"a")
        + long_name(b"one\0") + long_name(b"two") + entry(b"b", prefix=b"pre")
        + END
    )  # fmt: skip
    members = read_archive(data).members
    assert [(m.name, m.mtime_ns // 10**9) for m in members] == [(b"p2", 1000), (b"two", 1000)]


def test_git_archives_stay_on_the_fast_path() -> None:
    archive = read_archive(pax((b"comment", b"c0ffee"), flag=b"g") + entry(b"a") + END)
    assert (archive.names, archive.problems) == ([b"a"], [])


def test_names_end_at_a_nul() -> None:
    assert read_archive(pax((b"path", b"a\0b")) + entry(b"n") + END).names == [b"a"]


def test_suns_extended_headers_are_pax() -> None:
    assert read_archive(pax((b"path", b"sun"), flag=b"X") + entry(b"n") + END).names == [b"sun"]


def test_xattrs_of_libarchive() -> None:
    value = bytes(range(256))
    encoded = base64.b64encode(value).rstrip(b"=")
    records = (
        (b"LIBARCHIVE.xattr.user.%C3%A9%20x", encoded),
        (b"LIBARCHIVE.xattr.user.both", base64.b64encode(b"encoded")),
        (b"SCHILY.xattr.user.both", b"raw"),
        (b"LIBARCHIVE.xattr.user.bad", b"!!!!"),
        (b"SCHILY.xattr.", b"no name"),
    )
    archive = read_archive(pax(*records) + entry(b"n") + END)
    assert archive.members[0].xattrs == {b"user.\xc3\xa9 x": value, b"user.both": b"raw"}
    assert [problem.name for problem in archive.problems] == [b"n", b"n"]


@pytest.mark.parametrize(
    "raw",
    [
        b"zz path=foo\n",
        b"100 path=foo\n",
        b"5 path=foo\n",
        b"8 pathx\n",
        b"11 path=foo",
        b"0 path=foo\n",
        b"-12 path=foo\n",
        b"path=foo\n",
        b"999999999999999999999999999999 path=foo\n",
        b"\n" * 100,
    ],
)
def test_malformed_records_are_ignored_and_reported(raw: bytes) -> None:
    before = format_record(b"mtime", b"7.5")
    archive = read_archive(entry(b"x", before + raw, flag=b"x") + entry(b"n") + END)
    assert archive.names == [b"n"]
    assert archive.members[0].mtime_ns == 7_500_000_000
    [problem] = archive.problems
    assert (problem.name, problem.kind.value) == (b"n", "extended-header")
    assert not problem.kind.loses_members


@pytest.mark.parametrize(
    "record",
    [(b"mtime", b"zork"), (b"atime", b"1e9"), (b"uid", b"-5"), (b"gid", b"4294967296")],
)
def test_values_that_make_no_sense_are_ignored_and_reported(record: tuple[bytes, bytes]) -> None:
    archive = read_archive(pax(record) + entry(b"n", uid=3, gid=4) + END)
    [member] = archive.members
    assert (member.mtime_ns, member.atime_ns, member.uid, member.gid) == (10**12, None, 3, 4)
    assert [problem.kind.value for problem in archive.problems] == ["extended-header"]


@pytest.mark.parametrize("size", [b"-5", b"zz", b"9223372036854775808", b"1" * 5000])
def test_a_size_that_makes_no_sense_costs_the_member(size: bytes) -> None:
    archive = read_archive(pax((b"size", size)) + entry(b"n") + entry(b"c") + END)
    assert archive.names == [b"c"]
    assert [(p.name, p.kind.value) for p in archive.problems] == [(b"n", "refused")]


def test_extension_headers_need_no_sound_owner_or_time() -> None:
    record = format_record(b"path", b"right")
    odd = entry(b"x", record, flag=b"x", raw={100: b"zzzzzzz\0", 136: b"zzzzzzzzzzz\0"})
    archive = read_archive(odd + entry(b"wrong") + END)
    assert (archive.names, archive.problems) == ([b"right"], [])


def test_a_member_whose_extension_is_damaged_does_not_appear_under_another_name() -> None:
    damaged = header(b"x", flag=b"x", raw={124: b"zzzzzzzzzzz\0"}) + bytes(512)
    archive = read_archive(damaged + entry(b"wrong") + entry(b"c") + END)
    assert archive.names == [b"c"]
    assert [problem.kind.value for problem in archive.problems] == ["refused", "refused"]
    assert archive.problems[1].name == b"wrong"


def test_an_extension_without_a_member_is_reported() -> None:
    for end in (END, b""):
        archive = read_archive(entry(b"a") + pax((b"path", b"lost")) + end)
        assert archive.names == [b"a"]
        problem = archive.problems[0]
        assert (problem.name, problem.kind.value) == (b"lost", "extended-header")
