"""The compressions a tarball may come in, one stream or frame at a time.

Sources of the magic numbers: RFC 1952 (gzip), RFC 8878 (zstd), "The .xz File Format" 1.0.4, and
bzip2's ``compress.c`` for the two block marks that may follow its header.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Final, Protocol

import attrs

from kvfs.tar.limits import CompressionLimits

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_BZ2_BLOCK: Final = b"\x31\x41\x59\x26\x53\x59"
_BZ2_EMPTY: Final = b"\x17\x72\x45\x38\x50\x90"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_XZ_MAGIC: Final = b"\xfd7zXZ\0"
_GZIP_MAGIC: Final = b"\x1f\x8b"
MAGIC_BYTES: Final = 10

CODEC_ERRORS: Final = (zlib.error, lzma.LZMAError, zstd.ZstdError, OSError, EOFError, ValueError)
"""What decoders raise on damaged input."""


class Decoder(Protocol):
    """Decodes one stream or frame: the common part of the standard library's decompressors."""

    @property
    def eof(self) -> bool:
        """Its end was reached."""
        ...

    @property
    def needs_input(self) -> bool:
        """It has nothing more to give without further input."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Input behind its end."""
        ...

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Take in ``data`` and give at most ``max_length`` bytes."""
        ...


class GzipDecoder:
    """One gzip member, checksum and length verified by zlib.

    On damage it gives every byte that stands before it, then raises: zlib alone would drop what it
    decoded in the same call.
    """

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self._full = False
        self._failure: zlib.error | None = None

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        # With its output full, zlib may hold more although it took all input.
        return not self._full

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._failure is not None:
            raise self._failure
        data = self._zlib.unconsumed_tail + data
        before = self._zlib.copy()
        try:
            output = self._zlib.decompress(data, max_length)
        except zlib.error as error:
            output = _salvage(before, data)
            if not output:
                raise
            self._failure = error
        self._full = self._failure is not None or len(output) == max_length
        self._full = self._full or bool(self._zlib.unconsumed_tail)
        return output


def _salvage(decoder: zlib._Decompress, data: bytes) -> bytes:
    """What ``decoder`` makes of ``data`` up to its first bad byte, found by halving."""
    pieces = []
    step = len(data)
    while data:
        attempt = decoder.copy()
        try:
            piece = attempt.decompress(data[:step])
        except zlib.error:
            if step == 1:
                break
            step //= 2
            continue
        pieces.append(piece)
        decoder, data = attempt, data[step:]
    return b"".join(pieces)


@attrs.frozen(kw_only=True)
class Codec:
    """One compression.

    :ivar recognises: whether a stream or frame of it starts with these bytes, of which there are
        :data:`MAGIC_BYTES` unless the input ends before.
    :ivar decoder: makes a decoder for one stream or frame, within the limits on memory.
    :ivar output_step: most bytes to take from one call.  Except for gzip, damage costs what the
        call that meets it had decoded, so the steps are small.
    :ivar skips_padding: zero bytes may stand between and behind its streams.
    :ivar ignores_garbage: its own program ignores what else stands behind the last stream.
    """

    name: str
    recognises: Callable[[bytes], bool]
    decoder: Callable[[CompressionLimits], Decoder]
    output_step: int
    skips_padding: bool = False
    ignores_garbage: bool = False


def _is_zstd(head: bytes) -> bool:
    # A skippable frame has one of sixteen magic numbers.
    return head[:4] == _ZSTD_MAGIC or (head[:1] in _SKIPPABLE and head[1:4] == b"\x2a\x4d\x18")


_SKIPPABLE: Final = [bytes([low]) for low in range(0x50, 0x60)]


def _is_bz2(head: bytes) -> bool:
    marked = head[4:10] in (_BZ2_BLOCK, _BZ2_EMPTY) or len(head) < MAGIC_BYTES
    return head[:3] == b"BZh" and head[3:4] in b"123456789" and len(head) >= 4 and marked


def _zstd_decoder(limits: CompressionLimits) -> Decoder:
    parameter: int = zstd.DecompressionParameter.window_log_max
    return zstd.ZstdDecompressor(options={parameter: limits.zstd_window_log_max})


def _xz_decoder(limits: CompressionLimits) -> Decoder:
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=limits.xz_memory_bytes_max)


CODECS: Final = (
    Codec(
        name="gzip",
        # One byte of the two is a member cut short, for gzip too.
        recognises=lambda head: head != b"" and _GZIP_MAGIC.startswith(head[:2]),
        decoder=lambda _: GzipDecoder(),
        output_step=1 << 20,
        ignores_garbage=True,
    ),
    Codec(name="zstd", recognises=_is_zstd, decoder=_zstd_decoder, output_step=16 << 10),
    Codec(
        name="xz",
        recognises=lambda head: head[:6] == _XZ_MAGIC,
        decoder=_xz_decoder,
        output_step=16 << 10,
        skips_padding=True,
    ),
    Codec(
        name="bzip2",
        recognises=_is_bz2,
        decoder=lambda _: bz2.BZ2Decompressor(),
        output_step=16 << 10,
        ignores_garbage=True,
    ),
)

FOREIGN_MAGIC: Final = {
    b"\x1f\x9d": "compress (.Z)",
    b"LZIP": "lzip",
    b"\x04\x22\x4d\x18": "lz4",
    b"\x89LZO": "lzop",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7-Zip",
    b"!<arch>\n": "ar",
}
"""What people call tarballs and this room cannot read, for a message that says so."""
