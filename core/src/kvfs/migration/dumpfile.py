"""The dump format, version 1 (docs/reference/dump.md is made from this): blocks with checksums.

::

    file    = block...                              .zst: each block a zstd frame of its own
    block   = kind (1 byte) length (u32) payload check (u64)
    check   = xxh3-64 of kind, length and payload, with the block's number as its seed
    blocks  = H  ( S R... )...  F                   and nothing behind F
    H       = JSON: magic, version, superblock, engine
    S       = JSON: the name of the store whose records follow, in the order of their keys
    R       = records: key length (u32) value length (u32) key value
    F       = JSON: by store: records, bytes, longest_key, largest_value, digest

Numbers are little-endian.  The seed makes a block that is missing, doubled or moved as visible as
one that was altered; the footer, where the file ends too early.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO

import attrs
import xxhash

from kvfs.errors import Corrupt, Unsupported
from kvfs.kv import Buffer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = "KVFS dump"
VERSION = 1
BLOCK_BYTES = 1 << 20
"""What a block of records should have; one record may make it longer."""
_BLOCK_BYTES_MAX = (1 << 30) + (1 << 20)
_HEAD = Struct("<cI")
_CHECK = Struct("<Q")
_SIZES = Struct("<II")
_READ_BYTES = 1 << 20

HEADER, STORE, RECORDS, FOOTER = b"H", b"S", b"R", b"F"


def pack_block(number: int, kind: bytes, payload: bytes) -> bytes:
    """A block as it stands in a plain file."""
    head = _HEAD.pack(kind, len(payload))
    return b"".join((head, payload, _CHECK.pack(xxhash.xxh3_64_intdigest(head + payload, number))))


def pack_record(key: Buffer, value: Buffer) -> bytes:
    """A record as it stands in a block."""
    return b"".join((_SIZES.pack(len(key), len(value)), key, value))


def records_of(payload: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The records of a block.  :raises Corrupt: it does not end with one."""
    at, end = 0, len(payload)
    while at < end:
        if at + _SIZES.size > end:
            raise Corrupt("a block of the dump ends in the midst of a record")
        key_bytes, value_bytes = _SIZES.unpack_from(payload, at)
        at += _SIZES.size
        if at + key_bytes + value_bytes > end:
            raise Corrupt("a block of the dump ends in the midst of a record")
        yield payload[at : at + key_bytes], payload[at + key_bytes : at + key_bytes + value_bytes]
        at += key_bytes + value_bytes


@attrs.frozen
class Block:
    """One block that was read, its checksum found right."""

    number: int
    kind: bytes
    payload: bytes
    end: int
    """Where it ends in the file, in bytes."""

    def json(self) -> Any:
        """Its payload.  :raises Corrupt: it is no JSON."""
        try:
            return json.loads(self.payload)
        except ValueError as error:
            raise Corrupt(f"block {self.number} of the dump is not JSON") from error


class Writer:
    """Appends blocks to a file."""

    def __init__(self, file: BinaryIO, *, compressed: bool, number: int = 0) -> None:
        """:param number: of the next block."""
        self._file = file
        self._compressed = compressed
        self._number = number

    def write(self, kind: bytes, payload: bytes) -> None:
        """One more block."""
        block = pack_block(self._number, kind, payload)
        self._file.write(zstd.compress(block) if self._compressed else block)
        self._number += 1


def read_blocks(path: Path, *, compressed: bool) -> Generator[Block, None, None]:
    """The blocks of a file, one in memory at a time.

    :raises Corrupt: one is damaged, or cut off; those before it have been given.
    """
    with path.open("rb") as file:
        blocks = _frames(file) if compressed else _plain(file)
        for number, (raw, end) in enumerate(blocks):
            head = raw[: _HEAD.size]
            kind, length = _HEAD.unpack(head)
            body, check = raw[: -_CHECK.size], raw[-_CHECK.size :]
            is_whole = len(raw) == _HEAD.size + length + _CHECK.size
            if not is_whole or _CHECK.pack(xxhash.xxh3_64_intdigest(body, number)) != check:
                raise Corrupt(f"{path}: block {number} is damaged: make the dump anew")
            yield Block(number, kind, body[_HEAD.size :], end)


def _plain(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    while head := file.read(_HEAD.size):
        length = _HEAD.unpack(head)[1] if len(head) == _HEAD.size else _BLOCK_BYTES_MAX + 1
        if length > _BLOCK_BYTES_MAX:
            raise Corrupt(f"{file.name}: the dump is damaged or cut off at byte {file.tell():,}")
        rest = file.read(length + _CHECK.size)
        if len(rest) < length + _CHECK.size:
            raise Corrupt(f"{file.name}: the dump is cut off at byte {file.tell():,}")
        yield head + rest, file.tell()


def _frames(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    data = b""
    while data or (data := file.read(_READ_BYTES)):
        decoder = zstd.ZstdDecompressor()
        parts: list[bytes] = []
        size = 0
        try:
            while not decoder.eof:
                parts.append(decoder.decompress(data, _BLOCK_BYTES_MAX))
                size += len(parts[-1])
                if size > _BLOCK_BYTES_MAX:
                    raise Corrupt(f"{file.name}: a block of the dump is too long")
                data = b""
                if not decoder.eof and not (data := file.read(_READ_BYTES)):
                    raise Corrupt(f"{file.name}: the dump is cut off at byte {file.tell():,}")
        except zstd.ZstdError as error:
            raise Corrupt(f"{file.name}: the dump is damaged: {error}") from error
        data = decoder.unused_data
        if size < _HEAD.size + _CHECK.size:
            raise Corrupt(f"{file.name}: the dump is damaged: a block is too short")
        yield b"".join(parts), file.tell() - len(data)


def check_header(block: Block | None, path: Path) -> dict[str, Any]:
    """What the first block says.

    :raises Corrupt: it is no dump.
    :raises Unsupported: it is one of another version.
    """
    fields = block.json() if block is not None and block.kind == HEADER else None
    if not isinstance(fields, dict) or fields.get("magic") != MAGIC:
        raise Corrupt(f"{path} is not a dump of KVFS")
    if fields.get("version") != VERSION:
        raise Unsupported(
            f"{path}: the dump has version {fields.get('version')}, this version of kvfs reads "
            f"version {VERSION}"
        )
    return fields
