"""Any record as a person reads it: keys as text and back, values field by field.

The text of a key is its letter and its parts, joined by colons, in the order of the table of
keyspaces: ``I:1``, ``E:0x10000000007:0``, ``D:1:#16``.  Numbers are decimal or, after ``0x``,
hexadecimal.  Parts may be left out from the end: what is left names every record that begins so.
Whatever is there is described, damaged records and unknown keys too: as far as they can be read.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from enum import IntFlag
from struct import error as StructError
from typing import Any

import attrs

from kvfs.errors import Invalid, KVFSError
from kvfs.files.names import NameHash, locate
from kvfs.files.overlay import TAG, TAGGED
from kvfs.files.records import (
    CONTENT_IN_INODE,
    KEYSPACES,
    NAME_BYTES_MAX,
    SECOND_NS,
    TERM,
    VOLUME_ID,
    Attributes,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    decode_device,
    dirent_key,
    tarball_of,
)
from kvfs.kv import Buffer, prefix_end

Fields = list[tuple[str, str]]
"""Names and values, in the order of the record."""

HEXDUMP_BYTES_MAX = 4096
_SPACES = {space.letter: space for space in KEYSPACES}

# Parts of keys: big-endian numbers of so many bytes, one character, or all the bytes that are left.
_U24, _U32, _U64, _CHARACTER, _NAME = 3, 4, 8, 1, 0
_PARTS: dict[str, tuple[tuple[str, int], ...]] = {
    "A": (("inode", _U64), ("name", _NAME)),
    "D": (("parent", _U64), ("slot", _U64)),
    "E": (("inode", _U64), ("number", _U32)),
    "F": (("tarball", _U24),),
    "H": (("inode", _U64), ("parent", _U64), ("slot", _U64)),
    "I": (("inode", _U64),),
    "K": (("inode", _U64),),
    "O": (("tarball", _U24), ("kind", _CHARACTER), ("id", _U32)),
    "P": (("tarball", _U24), ("number", _U32)),
    "T": (("tarball", _U24),),
    "U": (("inode", _U64),),
    "V": (("name", _NAME),),
    "W": (("tarball", _U24),),
}


@attrs.frozen
class KeyRange:
    """The records that a text names: ``start <= key < stop``; ``None``: to the end."""

    start: bytes
    stop: bytes | None


# -- keys ------------------------------------------------------------------------------------------


def parse_key(
    text: bytes,
    *,
    names: NameHash | None = None,
    get: Callable[[bytes], Buffer | None] | None = None,
) -> KeyRange:
    """What a text names; whether there is such a record is another question.

    ``D:<parent>:<name>`` asks for a name, and needs ``names`` and ``get``; ``D:<parent>:#<slot>``
    asks for a slot.  ``hex:<digits>`` is one key, byte for byte.

    :param names: hashes names, as the volume does.
    :param get: reads a record; follows names whose hashes collide.
    :raises Invalid: it is not the text of a key; says what one looks like.
    """
    letter, colon, rest = text.partition(b":")
    if colon and letter.lower() == b"hex":
        return _exactly(_parse_hex(rest))
    space = _SPACES.get(letter.decode("ascii", "replace"))
    if space is None or not colon:
        known = ", ".join(f"{letter}:" for letter in _SPACES)
        raise Invalid(f"{_show(text)} is no key: it begins with one of {known}, or hex:")
    layout = _PARTS[space.letter]
    parts = rest.split(b":", len(layout) - 1) if rest else []
    if space.letter == "D" and len(parts) == 2 and not re.fullmatch(rb"#\w+", parts[1]):
        return _exactly(_dirent_of_name(parts, names, get))
    try:
        packed = [_pack_part(part, width) for part, (_, width) in zip(parts, layout, strict=False)]
    except (ValueError, OverflowError) as error:
        raise Invalid(f"{_show(text)} is no key: behind {space.letter}: {space.key}") from error
    start = letter + b"".join(packed)
    if len(parts) == len(layout):
        return _exactly(start)
    return KeyRange(start, prefix_end(start))


def _exactly(key: bytes) -> KeyRange:
    return KeyRange(key, key + b"\0")


def _parse_hex(text: bytes) -> bytes:
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError as error:
        raise Invalid(f"hex:{_show(text)}: these are not pairs of hexadecimal digits") from error
    if not key:
        raise Invalid("hex: needs the bytes of a key behind it")
    return key


def _dirent_of_name(
    parts: list[bytes], names: NameHash | None, get: Callable[[bytes], Buffer | None] | None
) -> bytes:
    if names is None or get is None:
        raise Invalid("a name needs an open volume to be found: give its slot, as #<slot>")
    if len(parts[1]) > NAME_BYTES_MAX:
        raise Invalid(f"a name of {len(parts[1])} bytes (the longest is {NAME_BYTES_MAX})")
    try:
        parent = int(parts[0], 0)
        slot, _ = locate(get, parent, names.slot(parts[1]), parts[1])
        return dirent_key(parent, slot)
    except (ValueError, OverflowError, StructError) as error:
        raise Invalid(f"{_show(parts[0])} is not the number of a directory") from error


def _pack_part(part: bytes, width: int) -> bytes:
    if width == _NAME:
        return part
    if width == _CHARACTER:
        if len(part) != 1:
            raise ValueError("one character")
        return part
    return int(part.removeprefix(b"#"), 0).to_bytes(width, "big")


def _split_key(key: bytes) -> list[tuple[str, int | bytes]] | None:
    """The parts of a key by name; ``None`` for one that is not of ours."""
    layout = _PARTS.get(chr(key[0])) if key else None
    if layout is None:
        return None
    parts: list[tuple[str, int | bytes]] = []
    offset = 1
    for name, width in layout:
        raw = key[offset : offset + width] if width else key[offset:]
        if len(raw) < width:
            return None
        offset += len(raw)
        is_text = width in (_NAME, _CHARACTER)
        parts.append((name, raw if is_text else int.from_bytes(raw, "big")))
    return parts if offset == len(key) else None


def key_text(key: bytes) -> str:
    """A key as text that :func:`parse_key` takes back; bytes that are no UTF-8 as surrogates."""
    parts = _split_key(key)
    if parts is None:
        return f"hex:{key.hex()}"
    return ":".join([chr(key[0]), *(_part_text(name, part) for name, part in parts)])


def _part_text(name: str, part: int | bytes) -> str:
    if isinstance(part, bytes):
        return part.decode("utf-8", "surrogateescape")
    if name == "slot":
        return f"#{part}"
    return inode_text(part) if name in ("inode", "parent") else str(part)


def may_lie_over(key: bytes) -> bool:
    """May a record of the store *state* lie over one of *sealed*, or hide it?

    See :mod:`kvfs.files.overlay`.
    """
    parts = _split_key(key)
    if parts is None or chr(key[0]) not in "ADEHI":
        return False
    owner = parts[0][1]
    return isinstance(owner, int) and tarball_of(owner) != VOLUME_ID


def describe_above(key: bytes, value: Buffer) -> Fields:
    """As :func:`describe`, of a record of *state* that may lie over one of *sealed*."""
    if not may_lie_over(key):
        return describe(key, value)
    raw = bytes(value)
    fields = describe(key, raw[: -len(TAG)] if key[0] in TAGGED else raw)
    if not raw:
        return [*fields[: len(_split_key(key) or ()) + 2], ("hides", "the record of sealed")]
    if key[0] in TAGGED and not raw.endswith(TAG):
        fields.append(("damaged", "does not end in the byte that tells it from one that hides"))
    return fields


# -- values ----------------------------------------------------------------------------------------


def describe(key: bytes, value: Buffer) -> Fields:
    """Every field of a record, those of the key first.  Never raises for what is stored."""
    raw = bytes(value)
    parts = _split_key(key)
    letter = chr(key[0]) if key else ""
    fields: Fields = [("key", key_text(key))]
    if parts is None:
        return [*fields, ("keyspace", "unknown"), ("bytes", f"{len(raw):,}")]
    fields.append(("keyspace", _SPACES[letter].name))
    fields += [(name, _show_part(name, part)) for name, part in parts]
    try:
        fields += _VALUES[letter](raw)
    except (KVFSError, ValueError) as error:
        fields.append(("damaged", str(error)))
    return fields


def _dirent_fields(raw: bytes) -> Fields:
    record = DirentRecord.unpack(raw)
    fields = [("name", _show(record.name)), ("inode", inode_text(record.inode))]
    fields += [("record slot", str(record.slot)), ("valid", f"{record.valid_s} s")]
    return [*fields, *attribute_fields(record.attributes), ("flags", _flags(record.flags))]


def _inode_fields(raw: bytes) -> Fields:
    record = InodeRecord.unpack(raw)
    fields = [
        ("valid", f"{record.valid_s} s"),
        *attribute_fields(record.attributes),
        ("back pointer", f"D:{inode_text(record.parent)}:#{record.slot}"),
        ("flags", _flags(record.flags)),
    ]
    content = raw[CONTENT_IN_INODE:]
    if stat.S_ISLNK(record.attributes.mode):
        return [*fields, ("target", _show(content))]
    if record.cut is not None:
        fields.append(("cut", f"its extents in sealed end before number {record.cut}"))
    if record.flags & InodeFlag.EXTENTS:
        return [*fields, ("contents", f"in extents, E:{inode_text(record.attributes.inode)}")]
    if stat.S_ISREG(record.attributes.mode):
        fields.append(("contents", f"{len(content):,} bytes in this record"))
    return fields


def attribute_fields(attributes: Attributes) -> Fields:
    """The attributes of an inode, one a line."""
    fields = [
        ("mode", f"{stat.filemode(attributes.mode)} ({attributes.mode:#o})"),
        ("size", str(attributes.size)),
        ("blocks", f"{attributes.blocks} of 512 bytes"),
        ("links", str(attributes.nlink)),
        ("owner", f"{attributes.uid}:{attributes.gid}"),
        ("modified", _time(attributes.mtime_ns)),
        ("accessed", _time(attributes.atime_ns)),
        ("changed", _time(attributes.ctime_ns)),
    ]
    if stat.S_ISCHR(attributes.mode) or stat.S_ISBLK(attributes.mode):
        fields.append(("device", "{}, {}".format(*decode_device(attributes.rdev))))
    return fields


def _json_fields(raw: bytes) -> Fields:
    value: Any = json.loads(raw)
    if not isinstance(value, dict):
        return [("value", json.dumps(value))]
    return [
        (str(name), item if isinstance(item, str) else json.dumps(item))
        for name, item in value.items()
    ]


def _volume_fields(raw: bytes) -> Fields:
    try:
        return _json_fields(raw)
    except ValueError:
        return [("value", _show(raw))]  # who has the volume open: plain text


def _bytes_fields(raw: bytes) -> Fields:
    return [("bytes", f"{len(raw):,}")]


def _term_fields(raw: bytes) -> Fields:
    if len(raw) != TERM.size:
        return [("damaged", f"{len(raw)} bytes where there should be {TERM.size}")]
    return [("term", str(TERM.unpack(raw)[0]))]


def _text_fields(raw: bytes) -> Fields:
    return [("value", _show(raw))]


_WRITER = re.compile(rb"[0-9a-f]{32}")


def _user_fields(raw: bytes) -> Fields:
    if raw and not _WRITER.fullmatch(raw):
        return [("damaged", f"{len(raw)} bytes that name no writer")]
    return [("writer", _show(raw))] if raw else []


def _no_fields(raw: bytes) -> Fields:
    return [("damaged", f"{len(raw)} bytes where there should be none")] if raw else []


_VALUES: dict[str, Callable[[bytes], Fields]] = {
    "A": _text_fields,
    "D": _dirent_fields,
    "E": _bytes_fields,
    "F": _term_fields,
    "H": _no_fields,
    "I": _inode_fields,
    "K": _json_fields,
    "O": _text_fields,
    "P": _json_fields,
    "T": _json_fields,
    "U": _user_fields,
    "V": _volume_fields,
    "W": _json_fields,
}


def hexdump(data: Buffer) -> str:
    """Bytes with their offsets and characters, as ``hexdump -C``; the first 4096 of them."""
    raw = bytes(data[:HEXDUMP_BYTES_MAX])
    lines = []
    for offset in range(0, len(raw), 16):
        row = raw[offset : offset + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{offset:08x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|")
    if len(data) > len(raw):
        lines.append(f"... and {len(data) - len(raw):,} bytes more")
    return "\n".join(lines)


# -- how things are written ------------------------------------------------------------------------


def inode_text(inode: int) -> str:
    """The number of an inode: in hexadecimal inside a tarball, whose id can be seen then."""
    return str(inode) if tarball_of(inode) == VOLUME_ID else f"{inode:#x}"


def _show_part(name: str, part: int | bytes) -> str:
    if isinstance(part, bytes):
        return _show(part)
    if name == "tarball":
        return f"{part} ({part:#08x})"
    return inode_text(part) if name in ("inode", "parent") else str(part)


def _show(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _flags(flags: IntFlag) -> str:
    known = [flag.name.lower() for flag in type(flags) if flag in flags and flag.name]
    return ", ".join(known) or "none"


def _time(time_ns: int) -> str:
    seconds, rest = divmod(time_ns, SECOND_NS)
    return f"{seconds}.{rest:09d}"
