"""What the tar tests share: archives made block by block, and archives read into lists."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from kvfs.tar import ByteStream, Member, Problem, ProblemKind, TarLimits, TarReader
from kvfs.tar.pax import format_record

ZERO = bytes(512)
END = bytes(1024)


def padded(data: bytes) -> bytes:
    """Data in whole blocks."""
    return data + bytes(-len(data) % 512)


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def header(
    name: bytes,
    *,
    flag: bytes = b"0",
    size: int = 0,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1000,
    linkname: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    raw: dict[int, bytes] | None = None,
    signed: bool = False,
) -> bytes:
    """One header block; ``raw`` puts bytes at offsets before the checksum is made."""
    block = bytearray(512)

    def put(at: int, data: bytes) -> None:
        block[at : at + len(data)] = data

    put(0, name)
    put(100, octal(mode, 8) + octal(uid, 8) + octal(gid, 8) + octal(size, 12) + octal(mtime, 12))
    put(156, flag)
    put(157, linkname)
    put(257, magic)
    put(345, prefix)
    for at, data in (raw or {}).items():
        put(at, data)
    put(148, b" " * 8)
    total = sum(byte - 256 if signed and byte > 127 else byte for byte in block)
    put(148, b"%06o\0 " % total)
    assert len(block) == 512
    return bytes(block)


def entry(name: bytes, data: bytes = b"hello", **options: object) -> bytes:
    """A header and its data."""
    make: Callable[..., bytes] = header
    return make(name, size=len(data), **options) + padded(data)


def long_name(value: bytes, flag: bytes = b"L") -> bytes:
    return entry(b"././@LongLink", value, flag=flag, magic=b"ustar  \0")


def pax(*records: tuple[bytes, bytes], flag: bytes = b"x") -> bytes:
    return entry(b"PaxHeaders/x", b"".join(format_record(*record) for record in records), flag=flag)


class Dribble:
    """A stream with nothing but ``read``, which gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int = 700) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._data.read(min(size, self._step))


@attrs.frozen
class Archive:
    """Everything a reader said about an archive."""

    members: list[Member]
    bodies: list[bytes]
    problems: list[Problem]

    @property
    def names(self) -> list[bytes]:
        return [member.name for member in self.members]

    @property
    def kinds(self) -> list[ProblemKind]:
        return [problem.kind for problem in self.problems]


def read_archive(
    source: bytes | ByteStream, limits: TarLimits | None = None, *, bodies: bool = True
) -> Archive:
    """Read an archive to its end, bodies by ``read_body``."""
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    archive = Archive([], [], [])
    reader = TarReader(
        stream, limits=limits, on_problem=archive.problems.append, buffer_bytes=64 << 10
    )
    for member in reader:
        archive.members.append(member)
        if bodies:
            archive.bodies.append(bytes(reader.read_body()))
    return archive


def drain(stream: ByteStream, size: int = 1 << 20) -> Iterator[bytes]:
    """The pieces of a stream until it ends or fails."""
    while piece := stream.read(size):
        yield piece


def gnu_tar(*arguments: str | bytes | Path, cwd: Path, check: bool = True) -> str:
    """Run GNU tar in the C locale and UTC; its standard output."""
    done = subprocess.run(
        ["tar", *arguments],
        cwd=cwd,
        capture_output=True,
        check=False,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin:/usr/local/bin"},
    )
    assert not check or done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("latin-1")


def gnu_names(data: bytes, tmp_path: Path) -> list[bytes]:
    """The names GNU tar lists, damage tolerated."""
    path = tmp_path / "listed.tar"
    path.write_bytes(data)
    listed = gnu_tar("--quoting-style=literal", "-tf", path, cwd=tmp_path, check=False)
    return [line.encode("latin-1") for line in listed.splitlines()]
