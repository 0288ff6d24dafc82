"""Maps of sparse files: old GNU and star headers, and GNU's three pax formats.

Source: the GNU tar manual, "Storing Sparse Files" (old GNU, 0.0, 0.1, 1.0); star(5) for star's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from kvfs.tar.header import BLOCK, Dialect, Tail, parse_number
from kvfs.tar.pax import PaxRecords, parse_count
from kvfs.tar.problems import ProblemKind, RefusedMember

SparseMap: TypeAlias = tuple[tuple[int, int], ...]

_ENTRY: Final = 24
_EXTENSION_ENTRIES: Final = 21


def _over(segments_max: int) -> RefusedMember:
    return RefusedMember(f"its sparse map has over {segments_max:,} segments", ProblemKind.LIMIT)


def checked_map(
    pairs: Iterable[tuple[int, int]], size: int, stored: int, segments_max: int
) -> SparseMap:
    """The map without its empty segments.

    :raises RefusedMember: it overlaps, goes backwards, passes the ``size`` of the file, does not
        add up to the ``stored`` bytes, or has over ``segments_max`` segments.
    """
    segments = []
    at = total = 0
    for offset, length in pairs:
        if offset < at or length < 0 or offset + length > size:
            raise RefusedMember(f"its sparse map does not fit a file of {size:,} bytes")
        at = offset + length
        total += length
        if length:
            segments.append((offset, length))
            if len(segments) > segments_max:
                raise _over(segments_max)
    if total != stored:
        raise RefusedMember(f"its sparse map describes {total:,} bytes, {stored:,} are stored")
    return tuple(segments)


def _entries(raw: bytes) -> Iterable[tuple[int, int]]:
    """Offset and length of each entry of a part of an old sparse map; a blank one ends it."""
    for start in range(0, len(raw) // _ENTRY * _ENTRY, _ENTRY):
        entry = raw[start : start + _ENTRY]
        if not entry.strip(b"\0 "):
            return
        offset, length = parse_number(entry[:12]), parse_number(entry[12:])
        if offset is None or length is None:
            raise RefusedMember("its sparse map holds what is no number")
        yield offset, length


def read_old_map(
    tail: Tail, next_block: Callable[[], bytes], segments_max: int
) -> tuple[int, list[tuple[int, int]]]:
    """Logical size and segments of a type ``S`` member, extension blocks read by ``next_block``.

    :raises RefusedMember: a number is none, or there are over ``segments_max`` segments.
    """
    if tail.dialect is Dialect.STAR:
        entries, flag, real = tail.at(356, 96), tail.at(355, 1), tail.at(452, 12)
    elif tail.dialect is Dialect.GNU:
        entries, flag, real = tail.at(386, 96), tail.at(482, 1), tail.at(483, 12)
    else:
        raise RefusedMember("it claims to be sparse in a format that has no sparse files")
    # All blocks are read before any is judged: the data begins behind the last of them.
    blocks = [entries]
    blocks_max = 2 + segments_max // _EXTENSION_ENTRIES
    while flag.strip(b"\0"):
        block = next_block()
        flag = block[504:505]
        if len(blocks) <= blocks_max:
            blocks.append(block)
    if len(blocks) > blocks_max:
        raise _over(segments_max)
    size = parse_number(real)
    if size is None or size < 0:
        raise RefusedMember("its sparse header has no size")
    return size, [pair for block in blocks for pair in _entries(block)]


def _paired(numbers: list[bytes], segments_max: int) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise RefusedMember("its sparse map has an offset without a length")
    # One empty segment at the end says where the file ends and is no segment.
    if len(numbers) // 2 > segments_max + 1:
        raise _over(segments_max)
    parsed = [parse_count(number) for number in numbers]
    known = [number for number in parsed if number is not None]
    if len(known) != len(parsed):
        raise RefusedMember("its sparse map holds what is no number")
    return list(zip(known[::2], known[1::2], strict=True))


def read_pax_map(
    records: PaxRecords, next_block: Callable[[], bytes], segments_max: int
) -> tuple[int, list[tuple[int, int]]]:
    """Logical size and segments of a file in one of the three pax formats.

    :param next_block: reads the blocks of data in front, where format 1.0 has its map.
    :raises RefusedMember: the size or a number of the map is none, or there are too many segments.
    """
    values = records.values
    real = values.get(b"GNU.sparse.realsize", values.get(b"GNU.sparse.size", b""))
    size = parse_count(real)
    if size is None:
        raise RefusedMember(f"its sparse file size {real!r} is not a size")
    if (values.get(b"GNU.sparse.major"), values.get(b"GNU.sparse.minor")) == (b"1", b"0"):
        return size, _read_data_map(next_block, segments_max)
    listed = values.get(b"GNU.sparse.map")
    if listed is not None:
        return size, _paired(listed.split(b",") if listed else [], segments_max)
    return size, _paired(records.sparse_pairs, segments_max)


def _read_data_map(next_block: Callable[[], bytes], segments_max: int) -> list[tuple[int, int]]:
    """Segments of format 1.0, whose map stands in front of the data.

    It is a list of decimal lines: a count, then an offset and a length for each segment, padded to
    whole blocks.
    """
    lines: list[bytes] = []
    rest = b""
    expected: int | None = None
    while expected is None or len(lines) < expected:
        *complete, rest = (rest + next_block()).split(b"\n")
        if len(rest) > BLOCK:
            raise RefusedMember("its sparse map has no lines")
        if expected is None and complete:
            count = parse_count(complete.pop(0))
            if count is None:
                raise RefusedMember("its sparse map has no count")
            if count > segments_max + 1:
                raise _over(segments_max)
            expected = 2 * count
        lines.extend(complete)
    return _paired(lines[:expected], segments_max)
