"""Decompression by content: every format, several streams, damage, bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.errors import Corrupt, Invalid, Unavailable
from kvfs.tar import CompressionLimits, NotATarball, TarReader, open_tar_stream

from .support import END, Dribble, drain, entry, gnu_tar, read_archive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
EACH = pytest.mark.parametrize("name", COMPRESS)


def drained(data: bytes, step: int = 700, limits: CompressionLimits | None = None) -> bytes:
    """Everything the stream gives before its end or its failure."""
    stream, _ = open_tar_stream(Dribble(data, step), limits=limits)
    pieces = []
    try:
        while piece := stream.read(10_000):
            pieces.append(piece)
    except Corrupt:
        with pytest.raises(Corrupt):
            stream.read(1)
    return b"".join(pieces)


@EACH
@pytest.mark.parametrize("step", [1, 13, 1 << 20])
def test_content_tells_and_comes_out_whole(name: str, step: int) -> None:
    data = os.urandom(20_000) + bytes(100_000) + b"text " * 4000
    packed = COMPRESS[name](data)
    stream, found = open_tar_stream(Dribble(packed, step))
    assert found == name
    assert drained(packed, step) == data
    assert stream.read(0) == b""
    with pytest.raises(Invalid):
        stream.read(-1)


@EACH
def test_several_streams_are_one(name: str) -> None:
    pack = COMPRESS[name]
    parts = [os.urandom(3000), b"", bytes(70_000), b"end"]
    packed = b"".join(map(pack, parts))
    for step in (1, 700, 1 << 20):
        assert drained(packed, step) == b"".join(parts)


@pytest.mark.parametrize(
    ("option", "name"), [("-z", "gzip"), ("--zstd", "zstd"), ("-J", "xz"), ("-j", "bzip2")]
)
def test_archives_packed_by_gnu_tar(option: str, name: str, tmp_path: Path) -> None:
    bodies = {b"f%d" % number: os.urandom(number * 100) for number in range(30)}
    for member, body in bodies.items():
        (tmp_path / os.fsdecode(member)).write_bytes(body)
    gnu_tar(option, "-cf", "a", *map(os.fsdecode, bodies), cwd=tmp_path)
    with open(tmp_path / "a", "rb") as file:
        stream, found = open_tar_stream(file)
        archive = read_archive(stream)
    assert found == name
    assert dict(zip(archive.names, archive.bodies, strict=True)) == bodies
    assert archive.problems == []


def test_plain_archives_are_handed_through() -> None:
    data = entry(b"a") + END
    seekable = io.BytesIO(data)
    assert open_tar_stream(seekable) == (seekable, "none")
    assert seekable.read() == data
    stream, name = open_tar_stream(Dribble(data))
    assert name == "none"
    assert read_archive(stream).names == [b"a"]
    for raw in (b"", b"short"):
        with pytest.raises(NotATarball):
            read_archive(open_tar_stream(Dribble(raw))[0])


@pytest.mark.parametrize("magic", [b"BZh91AY&SY", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PK\3\4"])
def test_a_member_may_be_called_like_a_magic_number(magic: bytes) -> None:
    stream, name = open_tar_stream(Dribble(entry(magic) + END))
    assert (read_archive(stream).names, name) == ([magic], "none")


@pytest.mark.parametrize(("head", "what"), [(b"LZIP\1", "lzip"), (b"\x1f\x9d\x90", "compress")])
def test_other_compressions_are_named(head: bytes, what: str) -> None:
    with pytest.raises(NotATarball, match=what):
        open_tar_stream(Dribble(head + bytes(600)))


TRAILERS = {
    ("gzip", bytes(100)): True,
    ("gzip", b"garbage" * 3): True,
    ("gzip", b"\x1f"): False,
    ("gzip", bytes(100) + gzip.compress(b"ignored")): True,
    ("gzip", b"\x1f\x8b"): False,
    ("bzip2", b"garbage" * 3): True,
    ("xz", bytes(400)): True,
    ("xz", bytes(12) + lzma.compress(b"")): True,
    ("xz", b"garbage" * 3): False,
    ("zstd", b"garbage" * 3): False,
    ("zstd", struct.pack("<II", 0x184D2A5F, 5) + b"skip!"): True,
}


@pytest.mark.parametrize(("name", "trailer"), TRAILERS, ids=range(len(TRAILERS)))
def test_what_stands_behind_the_end_is_judged_as_by_the_program(name: str, trailer: bytes) -> None:
    data = os.urandom(5000)
    packed = COMPRESS[name](data) + trailer
    done = subprocess.run([name, "-dc"], input=packed, capture_output=True, check=False)
    # gzip warns (2) of garbage that it ignores.
    assert (done.returncode in (0, 2)) == TRAILERS[name, trailer]
    for step in (1, 1 << 20):
        assert drained(packed, step) == data
        stream, _ = open_tar_stream(Dribble(packed, step))
        finish = stream.finish  # type: ignore[attr-defined]
        if TRAILERS[name, trailer]:
            finish()
        else:
            with pytest.raises(Corrupt):
                finish()


def test_skippable_frames_may_come_first() -> None:
    packed = struct.pack("<II", 0x184D2A50, 5000) + bytes(5000) + zstd.compress(b"data")
    assert open_tar_stream(Dribble(packed))[1] == "zstd"
    assert drained(packed) == b"data"


@EACH
def test_truncation_at_every_byte(name: str) -> None:
    data = entry(b"a", os.urandom(300)) + entry(b"b", b"text" * 200) + END
    packed = COMPRESS[name](data)
    previous = b""
    for cut in range(len(packed)):
        stream, found = open_tar_stream(Dribble(packed[:cut]))
        if found == "none":
            assert cut < 10
            continue
        got = drained(packed[:cut])
        assert data.startswith(got)
        assert len(got) >= len(previous)
        previous = got
        with pytest.raises(Corrupt):
            list(drain(stream))
        with pytest.raises(Corrupt):
            read_archive(open_tar_stream(Dribble(packed[:cut]))[0])


@EACH
def test_damage_comes_after_what_stands_before_it(name: str) -> None:
    data = os.urandom(200_000)
    packed = bytearray(COMPRESS[name](data) + COMPRESS[name](data))
    packed[len(packed) * 3 // 4] ^= 0x55
    got = drained(bytes(packed), 1 << 20)
    # Damage is found at the latest by the checksum of its stream.
    assert got[:200_000] == data
    assert len(got) <= 400_000


def byte_by_byte(packed: bytes) -> tuple[bytes, bool]:
    """What zlib makes of a gzip member before it finds damage, and whether it does."""
    decoder = zlib.decompressobj(31)
    pieces = []
    try:
        for byte in packed:
            pieces.append(decoder.decompress(bytes([byte])))
    except zlib.error:
        return b"".join(pieces), True
    return b"".join(pieces), False


def test_gzip_loses_nothing_in_front_of_damage() -> None:
    data = b"".join(b"line %d\n" % number for number in range(20_000))
    packed = gzip.compress(data, compresslevel=9)
    found = 0
    for place in range(len(packed) // 4, len(packed), len(packed) // 8):
        bad = packed[:place] + os.urandom(40) + packed[place + 40 :]
        before, raises = byte_by_byte(bad)
        assert drained(bad, 1 << 20) == before
        found += raises and before != data
    assert found > 0


def test_a_wrong_checksum_behind_the_archive_is_found() -> None:
    data = entry(b"a", os.urandom(300_000)) + END
    packed = bytearray(gzip.compress(data))
    packed[-6] ^= 1
    seen: list[bytes] = []
    stream, _ = open_tar_stream(Dribble(bytes(packed)))
    with pytest.raises(Corrupt) as raised:
        seen.extend(member.name for member in TarReader(stream))
    assert seen == [b"a"]
    assert isinstance(raised.value.__cause__, zlib.error)


def test_members_before_the_damage_are_served() -> None:
    data = b"".join(entry(b"%03d" % number, os.urandom(5000)) for number in range(100)) + END
    packed = gzip.compress(data)
    stream, _ = open_tar_stream(io.BytesIO(packed[: len(packed) // 2]))
    seen: list[int] = []
    reader = TarReader(stream, buffer_bytes=65_536)
    with pytest.raises(Corrupt):
        seen.extend(len(reader.read_body()) for _ in reader)
    assert set(seen) == {5000}
    assert len(seen) in (48, 49)


@EACH
def test_bombs_are_stopped_by_their_ratio(name: str) -> None:
    data = bytes(40 << 20)
    packed = COMPRESS[name](data)
    limits = CompressionLimits(expansion_ratio_max=200, expansion_floor_bytes=1 << 20)
    stream, _ = open_tar_stream(Dribble(packed, 64 << 10), limits=limits)
    sizes: list[int] = []
    with pytest.raises(Corrupt, match="ratio over 200"):
        sizes.extend(map(len, drain(stream)))
    total = sum(sizes)
    assert 0 < total <= max(200 * len(packed), 1 << 20)


def test_the_ratio_is_exact_and_the_floor_too() -> None:
    data = bytes(1 << 20)
    packed = zstd.compress(data)
    for ratio, floor, passes in ((1, 1 << 20, True), (1, (1 << 20) - 1, False)):
        limits = CompressionLimits(expansion_ratio_max=ratio, expansion_floor_bytes=floor)
        assert (drained(packed, limits=limits) == data) == passes
    ratio = -(-len(data) // len(packed))
    for allowed, passes in ((ratio, True), (ratio - 1, False)):
        limits = CompressionLimits(expansion_ratio_max=allowed, expansion_floor_bytes=0)
        assert (drained(packed, 1 << 20, limits) == data) == passes


def test_windows_that_need_too_much_memory_are_refused() -> None:
    parameter: int = zstd.CompressionParameter.window_log
    compressor = zstd.ZstdCompressor(options={parameter: 21})
    packed = compressor.compress(os.urandom(1000)) + compressor.flush()
    assert len(drained(packed, limits=CompressionLimits(zstd_window_log_max=21))) == 1000
    assert drained(packed, limits=CompressionLimits(zstd_window_log_max=20)) == b""
    packed = lzma.compress(b"x" * 1000, preset=6)
    assert len(drained(packed, limits=CompressionLimits(xz_memory_bytes_max=16 << 20))) == 1000
    assert drained(packed, limits=CompressionLimits(xz_memory_bytes_max=4 << 20)) == b""


@EACH
def test_readinto_gives_the_same(name: str) -> None:
    data = os.urandom(100_000) + bytes(1 << 20)
    stream, _ = open_tar_stream(Dribble(COMPRESS[name](data), 5000))
    target = bytearray(33_333)
    got = b""
    while count := stream.readinto(memoryview(target)):  # type: ignore[attr-defined]
        got += target[:count]
    assert got == data


@pytest.mark.parametrize("fails", [OSError("gone"), None])
def test_a_failing_stream_is_unavailable(fails: OSError | None) -> None:
    class Failing:
        def read(self, size: int, /) -> bytes:
            if fails is not None:
                raise fails
            return None  # type: ignore[return-value]

    with pytest.raises(Unavailable):
        open_tar_stream(Failing())
