"""Trees of files out of a seed, streamed straight into tar: nothing is unpacked on the way.

The archives are plain ustar as tarfile(3) of the standard library writes the headers, so that what
KVFS reads here was not written by KVFS.
"""

from __future__ import annotations

import math
import random
import tarfile
from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO

import attrs

from kvfs_bench.readers.plain import MASK, digest_of
from kvfs_bench.readers.words import words_of

_POOL_BYTES = 4 << 20
_STAMP_BYTES = 16
_MTIME = 1_600_000_000
END_OF_ARCHIVE = bytes(1024)


@attrs.frozen(kw_only=True)
class Shape:
    """What a tree looks like."""

    files: int
    directories: int
    """Files are spread over them evenly; 0: all of them are in the root."""
    bytes_min: int
    bytes_max: int
    """Sizes are log-uniform between the two: as many files from 1 to 2 KiB as from 2 to 4."""
    seed: int = 1

    def sizes(self) -> Iterator[int]:
        """The sizes of the files, in tar order."""
        rng = random.Random(self.seed)
        if not self.bytes_max:
            return (0 for _ in range(self.files))
        low, high = math.log(self.bytes_min), math.log(self.bytes_max)
        return (round(math.exp(rng.uniform(low, high))) for _ in range(self.files))

    @property
    def archive_bytes(self) -> int:
        """About how large the archive is."""
        span = self.bytes_max - self.bytes_min
        mean = span / math.log(self.bytes_max / self.bytes_min) if span else self.bytes_max
        return round(self.files * (512 + mean + 256)) + self.directories * 512


@attrs.define(kw_only=True)
class Written:
    """What a generated archive holds."""

    files: int = 0
    directories: int = 0
    content_bytes: int = 0
    digest: int = 0
    """That of readers/plain.py, over all files."""
    words: int = 0
    """That of native/reader.c."""
    names: list[bytes] = attrs.field(factory=list)
    digests: array[int] = attrs.field(factory=lambda: array("Q"))


def contents(seed: int) -> Callable[[int, int], bytes]:
    """A function of (number, size) that makes the contents of a file.

    Random bytes, which do not compress, cut from a pool at a place that depends on the number, with
    the number in front as far as it fits: no two files of 16 bytes or more are equal.
    """
    rng = random.Random(seed)
    pool = rng.randbytes(_POOL_BYTES)

    def make(number: int, size: int) -> bytes:
        offset = number * 0x9E3779B1 % (_POOL_BYTES - size)
        if size < _STAMP_BYTES:
            return pool[offset : offset + size]
        return b"%016x" % number + pool[offset + _STAMP_BYTES : offset + size]

    return make


def _header(name: str, *, size: int = 0, is_directory: bool = False) -> bytes:
    info = tarfile.TarInfo(name)
    info.mtime = _MTIME
    if is_directory:
        info.type = tarfile.DIRTYPE
        info.mode = 0o755
    else:
        info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def file_member(name: str, content: bytes) -> bytes:
    """A member of an archive: header, contents, padding."""
    return b"".join((_header(name, size=len(content)), content, bytes(-len(content) % 512)))


def write_tar(shape: Shape, out: BinaryIO) -> Written:
    """Write the tree of ``shape`` as one archive; what is in it."""
    written = Written(directories=shape.directories)
    make = contents(shape.seed)
    per_directory = -(-shape.files // max(shape.directories, 1))
    for number, size in enumerate(shape.sizes()):
        name = f"f{number:07}"
        if shape.directories:
            directory, within = divmod(number, per_directory)
            if within == 0:
                out.write(_header(f"d{directory:04}", is_directory=True))
            name = f"d{directory:04}/{name}"
        content = make(number, size)
        out.write(file_member(name, content))
        raw = name.encode()
        digest = digest_of(raw, content)
        written.names.append(raw)
        written.digests.append(digest)
        written.content_bytes += size
        written.digest += digest
        written.words += words_of(raw, content)
    out.write(END_OF_ARCHIVE)
    written.files = shape.files
    written.digest &= MASK
    written.words &= MASK
    return written
