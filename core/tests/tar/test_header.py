"""The header block: numbers, checksums, dialects."""

from __future__ import annotations

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.tar.header import Dialect, HeaderDecoder, HeaderError, block_sum, parse_number, parse_tail

from .support import END, ZERO, entry, header, read_archive


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"00000000017\0", 0o17),
        (b"00000000017 ", 0o17),
        (b"000000000017", 0o17),
        (b"         17 ", 0o17),
        (b"\0        17 ", 0o17),
        (b"17 zzz\0\0\0\0\0\0", 0o17),
        (bytes(12), 0),
        (b" " * 12, None),
        (b"00000000018\0", None),
        (b"0000000001x\0", None),
        (b"00000000017x", None),
        (b"-0000000017\0", None),
        (b"+0000000017\0", None),
        (b"0_0000000_7\0", None),
        (b"0o000000017\0", None),
        (b"\x80" + bytes(9) + b"\x01\x00", 256),
        (b"\xff" * 12, -1),
        (b"\xff" * 11 + b"\x00", -256),
        (b"\x80\0\0\0\x7f" + b"\xff" * 7, (1 << 63) - 1),
    ],
)
def test_numbers_are_octal_or_base_256(raw: bytes, value: int | None) -> None:
    assert parse_number(raw) == value


@given(st.integers(-(1 << 62), 1 << 62), st.sampled_from([8, 12]))
def test_numbers_written_by_tarfile_are_read(value: int, width: int) -> None:
    if not -(256 ** (width - 1)) <= value < 256 ** (width - 1):
        value //= 1 << 40
    raw = tarfile.itn(value, width, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    assert parse_number(raw) == value


@given(st.binary(min_size=512, max_size=512))
def test_any_bytes_with_a_right_checksum_are_a_header(block: bytes) -> None:
    total = block_sum(block)
    sound = block[:148] + b"%06o\0 " % total + block[156:]
    decoder = HeaderDecoder()
    try:
        assert decoder.decode(memoryview(sound), 0) is not None
    except HeaderError:
        pass  # of random bytes most are no numbers, but the checksum was found right
    flipped = bytearray(sound)
    flipped[5] ^= 0x10
    assert decoder.decode(memoryview(flipped), 0) is None


def test_signed_checksums_of_old_writers_are_accepted() -> None:
    name = b"\xff\xfe\xfd" * 20
    assert header(name) != header(name, signed=True)
    archive = read_archive(entry(name, signed=True) + entry(b"b") + END)
    assert archive.names == [name, b"b"]
    assert archive.problems == []


def test_a_zero_block_is_no_header() -> None:
    assert HeaderDecoder().decode(memoryview(ZERO), 0) is None


def test_caches_do_not_change_what_is_read() -> None:
    # A blank time is 0; the same bytes as a size are no number, also after the time was seen.
    blank = {136: b" " * 12}
    archive = read_archive(
        entry(b"a", raw=blank) + header(b"b", raw={124: b" " * 12}) + entry(b"c") + END
    )
    assert archive.names == [b"a", b"c"]
    assert archive.members[0].mtime_ns == 0
    assert "size" in archive.problems[0].message


def test_a_negative_time_is_not_taken_for_a_size() -> None:
    negative = b"\xff" * 12
    first = entry(b"a", raw={136: negative})
    archive = read_archive(first + header(b"b", raw={124: negative}) + entry(b"c") + END)
    assert archive.names == [b"a", b"c"]
    assert archive.members[0].mtime_ns == -1_000_000_000


def test_many_different_fields_do_not_pile_up() -> None:
    decoder = HeaderDecoder()
    for number in range(10_000):
        block = header(b"n", mtime=number, uid=number, raw={265: b"user%d" % number})
        fields = decoder.decode(memoryview(block), 0)
        assert fields is not None
        assert (fields[2], fields[5], fields[8].uname) == (number, number, b"user%d" % number)
    for cache in ("_checksums", "_ids", "_sizes", "_tails", "_times"):
        assert len(getattr(decoder, cache)) <= 8192


@pytest.mark.parametrize(
    ("magic", "name"),
    [
        (b"ustar\x0000", b"pre/n"),
        (b"ustar\0 \0", b"pre/n"),
        (b"ustar  \0", b"n"),
        (b"", b"n"),
        (b"USTAR\x0000", b"n"),
    ],
)
def test_only_posix_headers_have_a_prefix(magic: bytes, name: bytes) -> None:
    assert read_archive(entry(b"n", magic=magic, prefix=b"pre") + END).names == [name]


def test_v7_headers_have_no_owner_names() -> None:
    archive = read_archive(entry(b"n", magic=b"", raw={265: b"somebody"}) + END)
    assert archive.members[0].uname == b""


def test_gnu_headers_may_hold_times() -> None:
    raw = {345: b"00000000012\0", 357: b"\xff" * 12}
    member = read_archive(entry(b"n", magic=b"ustar  \0", raw=raw) + END).members[0]
    assert (member.atime_ns, member.ctime_ns) == (10_000_000_000, -1_000_000_000)


@pytest.mark.parametrize("mark", [b"tar\0", b"\0\0\0\0"])
def test_xstar_headers_have_a_short_prefix_and_times(mark: bytes) -> None:
    raw = {345: b"pre", 476: b"00000000012 ", 488: b"00000000013 ", 508: mark}
    member = read_archive(entry(b"n", raw=raw) + END).members[0]
    assert (member.name, member.atime_ns, member.ctime_ns) == (b"pre/n", 10 * 10**9, 11 * 10**9)
    assert parse_tail(header(b"n", raw=raw)[257:]).dialect is Dialect.STAR


def test_a_long_posix_prefix_is_not_taken_for_xstar() -> None:
    prefix = b"d" * 131 + b"00000000012 00000000013 "
    assert read_archive(entry(b"n", prefix=prefix) + END).names == [prefix + b"/n"]


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ({100: b"zzzzzzz\0"}, "mode"),
        ({108: b"\xff" * 8}, "owner"),
        ({116: b"zzzzzzz\0"}, "owner"),
        ({108: b"\x80\0\0\x01\0\0\0\0"}, "owner"),
        ({136: b"zzzzzzzzzzz\0"}, "time"),
        ({136: b"\x80\xff" + bytes(10)}, "time"),
    ],
)
def test_a_number_that_is_none_costs_one_member(raw: dict[int, bytes], word: str) -> None:
    archive = read_archive(entry(b"a") + entry(b"bad", raw=raw) + entry(b"c") + END)
    assert archive.names == [b"a", b"c"]
    [problem] = archive.problems
    assert (problem.name, problem.kind.value, problem.offset) == (b"bad", "refused", 1024)
    assert word in problem.message


def test_file_type_bits_in_the_mode_are_dropped() -> None:
    assert read_archive(entry(b"n", mode=0o100755) + END).members[0].mode == 0o755
