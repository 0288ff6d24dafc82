"""Decompression by content: whatever a tarball is packed in becomes a plain stream."""

from __future__ import annotations

import io
from typing import Final

from kvfs.errors import Corrupt, Invalid, Unavailable
from kvfs.tar.codecs import CODEC_ERRORS, CODECS, FOREIGN_MAGIC, MAGIC_BYTES, Codec, Decoder
from kvfs.tar.header import BLOCK, HeaderDecoder, HeaderError
from kvfs.tar.limits import MIB, CompressionLimits
from kvfs.tar.problems import NotATarball
from kvfs.tar.window import ByteStream

_INPUT_STEP: Final = 64 << 10


def _read_raw(raw: ByteStream, size: int) -> bytes:
    try:
        data = raw.read(size)
    except OSError as error:
        raise Unavailable(f"cannot read the archive: {error}") from error
    if data is None:
        raise Unavailable("the archive is a non-blocking stream that has nothing to read")
    return data


class ReplayedStream:
    """A stream whose first bytes were read already and are given again."""

    def __init__(self, head: bytes, raw: ByteStream) -> None:
        self._head = head
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, ``b""`` at the end."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return _read_raw(self._raw, size)


class DecompressedStream:
    """The content of a compressed stream, all its members, streams or frames one after the other.

    Memory is bounded whatever the input claims: at most 1 MiB is decoded at a time, and windows
    have limits.  Not thread-safe.

    Damage raises :class:`~kvfs.errors.Corrupt`, chained, once all bytes decoded before it were
    read: all that stand before it for gzip; for the others up to 16 KiB are lost with it.  Reading
    again raises again.
    """

    def __init__(
        self, head: bytes, raw: ByteStream, codec: Codec, limits: CompressionLimits
    ) -> None:
        self._raw = raw
        self._codec = codec
        self._limits = limits
        self._input = head
        self._bytes_in = len(head)
        self._bytes_out = 0
        self._decoder: Decoder | None = self._new_decoder()
        self._at_end = False
        self._failure: Corrupt | None = None

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, ``b""`` at the end; returns early rather than wait for input.

        :raises Corrupt: the compressed bytes are damaged, end too early, or expand too much.
        :raises Unavailable: the stream below fails.
        :raises Invalid: ``size`` is negative: there is no reading to the end in one piece.
        """
        if size < 0:
            raise Invalid("a compressed archive is read in pieces: give a size")
        pieces: list[bytes] = []
        while size:
            piece = self._next_piece(size, started=bool(pieces))
            if not piece:
                break
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, target: memoryview, /) -> int:
        """As :meth:`read`, into ``target``; the number of bytes."""
        at, size = 0, len(target)
        while at < size:
            piece = self._next_piece(size - at, started=at > 0)
            if not piece:
                break
            target[at : at + len(piece)] = piece
            at += len(piece)
        return at

    def finish(self) -> None:
        """Read what is left and drop it, so that checksums behind the archive are verified.

        :raises Corrupt: as :meth:`read`.
        """
        while self.read(MIB):
            pass

    def _next_piece(self, size: int, *, started: bool) -> bytes:
        """Some bytes; none at the end or, once ``started``, where the next must be waited for."""
        if self._failure is None:
            try:
                return self._decode(min(size, self._codec.output_step), started=started)
            except Corrupt as error:
                self._failure = error
        if started:
            return b""
        raise self._failure

    def _decode(self, size: int, *, started: bool) -> bytes:
        while not self._at_end:
            decoder = self._decoder
            if decoder is None:
                if started and len(self._input) < MAGIC_BYTES:
                    return b""
                self._begin_next()
                continue
            data = b""
            if decoder.needs_input:
                if not self._input:
                    if started:
                        return b""
                    if not self._read_input():
                        raise Corrupt(f"the {self._codec.name} stream ends too early")
                data, self._input = self._input, b""
            try:
                output = decoder.decompress(data, size)
            except CODEC_ERRORS as error:
                raise Corrupt(f"the {self._codec.name} stream is damaged: {error}") from error
            if decoder.eof:
                self._input = decoder.unused_data
                self._decoder = None
            if output:
                self._count(len(output))
                return output
        return b""

    def _begin_next(self) -> None:
        """Behind one stream: start with the next, or find the end."""
        codec = self._codec
        more = True
        while more:
            if codec.skips_padding:
                self._input = self._input.lstrip(b"\0")
            more = len(self._input) < MAGIC_BYTES and self._read_input()
        if self._input and codec.recognises(self._input[:MAGIC_BYTES]):
            self._decoder = self._new_decoder()
        elif not self._input or codec.ignores_garbage:
            self._at_end = True
        else:
            raise Corrupt(f"what stands behind the {codec.name} stream is none")

    def _new_decoder(self) -> Decoder:
        return self._codec.decoder(self._limits)

    def _read_input(self) -> bool:
        data = _read_raw(self._raw, _INPUT_STEP)
        self._bytes_in += len(data)
        self._input += data
        return bool(data)

    def _count(self, size: int) -> None:
        self._bytes_out += size
        limits = self._limits
        if self._bytes_out <= limits.expansion_floor_bytes:
            return
        if self._bytes_out > limits.expansion_ratio_max * self._bytes_in:
            raise Corrupt(
                f"{self._bytes_in:,} bytes of {self._codec.name} expand to over "
                f"{self._bytes_out:,}: a ratio over {limits.expansion_ratio_max:,} is refused"
            )


def open_tar_stream(
    raw: ByteStream, *, limits: CompressionLimits | None = None
) -> tuple[ByteStream, str]:
    """The uncompressed stream of a tarball, and the name of its compression.

    What it is packed in is told by its first bytes, never by a file name: ``"gzip"``, ``"zstd"``,
    ``"xz"``, ``"bzip2"``, or ``"none"`` for anything else, which is handed through for the reader
    to judge.  A seekable ``raw`` that is not compressed is returned itself, so that the reader can
    seek in it.

    :param raw: needs no more than ``read``; it stays the caller's to close.
    :raises NotATarball: it is packed in something that cannot be read here, which is named.
    :raises Unavailable: ``raw`` fails.
    """
    head = b""
    while len(head) < BLOCK:
        piece = _read_raw(raw, BLOCK - len(head))
        if not piece:
            break
        head += piece
    if not _is_tar(head):
        for codec in CODECS:
            if codec.recognises(head[:MAGIC_BYTES]):
                stream = DecompressedStream(head, raw, codec, limits or CompressionLimits())
                return stream, codec.name
        for magic, name in FOREIGN_MAGIC.items():
            if head.startswith(magic):
                raise NotATarball(f"this is {name}, which is not supported; use gzip or zstd")
    if isinstance(raw, io.IOBase) and raw.seekable():
        raw.seek(-len(head), io.SEEK_CUR)
        return raw, "none"
    return ReplayedStream(head, raw), "none"


def _is_tar(head: bytes) -> bool:
    """Whether a valid header comes first: a member may be called ``BZh9...`` after all."""
    if len(head) < BLOCK:
        return False
    try:
        return HeaderDecoder().decode(memoryview(head), 0) is not None
    except HeaderError:
        return True
