"""Every kind of record can be named, found and read by a person."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable

import pytest

from kvfs.errors import Invalid
from kvfs.files import Attributes, NameHash
from kvfs.files.inspect import (
    KeyRange,
    describe,
    describe_above,
    hexdump,
    key_text,
    may_lie_over,
    parse_key,
)
from kvfs.files.records import (
    KEYSPACES,
    TERM,
    InodeFlag,
    catalogue_key,
    dirent_key,
    encode_device,
    extent_key,
    fence_key,
    inode_key,
    inode_of,
    link_key,
    locks_key,
    owner_key,
    pack_dirent,
    pack_inode,
    problem_key,
    unlinked_key,
    volume_key,
    written_key,
    xattr_key,
)

TARBALL = 0xA100EF
INODE = inode_of(TARBALL, 7)
ATTRIBUTES = Attributes(
    inode=INODE, mode=stat.S_IFREG | 0o640, size=5, uid=33, gid=44, mtime_ns=1_000_000_001
)
FILE = pack_inode(ATTRIBUTES.pack(), 99, 16, valid_s=1, content=b"hello")

RECORDS: dict[str, tuple[bytes, str, bytes, dict[str, str]]] = {
    "A": (
        xattr_key(INODE, b"user.a:b"),
        f"A:{INODE:#x}:user.a:b",
        b"\x00bin",
        {"inode": f"{INODE:#x}", "name": "user.a:b", "value": "\x00bin"},
    ),
    "D": (
        dirent_key(INODE, 1234),
        f"D:{INODE:#x}:#1234",
        pack_dirent(ATTRIBUTES.pack(), INODE, ATTRIBUTES.mode, 1234, b"na\xffme", valid_s=3),
        {"parent": f"{INODE:#x}", "slot": "1234", "name": "na\\xffme", "valid": "3 s"},
    ),
    "E": (extent_key(INODE, 5), f"E:{INODE:#x}:5", b"x" * 1000, {"number": "5", "bytes": "1,000"}),
    "F": (fence_key(7), "F:7", TERM.pack(3), {"tarball": "7 (0x000007)", "term": "3"}),
    "H": (
        link_key(INODE, INODE + 1, 77),
        f"H:{INODE:#x}:{INODE + 1:#x}:#77",
        b"",
        {"parent": f"{INODE + 1:#x}", "slot": "77"},
    ),
    "I": (
        inode_key(INODE),
        f"I:{INODE:#x}",
        FILE,
        {
            "mode": "-rw-r----- (0o100640)",
            "owner": "33:44",
            "modified": "1.000000001",
            "contents": "5 bytes in this record",
            "back pointer": "D:99:#16",
        },
    ),
    "K": (
        locks_key(INODE),
        f"K:{INODE:#x}",
        json.dumps({"mounts": ["a"], "locks": []}).encode(),
        {"inode": f"{INODE:#x}", "mounts": '["a"]', "locks": "[]"},
    ),
    "O": (owner_key(TARBALL, b"u", 33), f"O:{TARBALL}:u:33", b"www", {"id": "33", "value": "www"}),
    "P": (
        problem_key(TARBALL, 2),
        f"P:{TARBALL}:2",
        json.dumps({"offset": 512, "name": "x", "kind": "refused", "message": "no"}).encode(),
        {"offset": "512", "kind": "refused", "message": "no"},
    ),
    "T": (
        catalogue_key(TARBALL),
        f"T:{TARBALL}",
        json.dumps({"object": "a.tar", "state": "sealed"}).encode(),
        {"tarball": f"{TARBALL} (0xa100ef)", "object": "a.tar", "state": "sealed"},
    ),
    "U": (unlinked_key(19), "U:19", b"", {"inode": "19"}),
    "V": (
        volume_key("superblock"),
        "V:superblock",
        json.dumps({"format": 1}).encode(),
        {"name": "superblock", "format": "1"},
    ),
    "W": (written_key(TARBALL), f"W:{TARBALL}", b"2147483648", {"value": "2147483648"}),
}
"""For each keyspace: a key as the file system makes it, its text, a value, what must be shown."""


def test_every_keyspace_is_covered() -> None:
    assert set(RECORDS) == {space.letter for space in KEYSPACES}


@pytest.mark.parametrize("letter", sorted(RECORDS))
def test_a_key_turns_into_text_and_back(letter: str) -> None:
    key, text, _, _ = RECORDS[letter]
    assert key_text(key) == text
    assert parse_key(text.encode()) == KeyRange(key, key + b"\0")
    assert parse_key(b"hex:" + key.hex().encode()) == KeyRange(key, key + b"\0")


@pytest.mark.parametrize("letter", sorted(RECORDS))
def test_a_record_is_described(letter: str) -> None:
    key, text, value, expected = RECORDS[letter]
    shown = dict(describe(key, value))
    assert shown["key"] == text
    assert shown["keyspace"] == next(s.name for s in KEYSPACES if s.letter == letter)
    assert {name: shown.get(name) for name in expected} == expected
    assert "damaged" not in shown


@pytest.mark.parametrize("letter", sorted(set(RECORDS) - {"A", "E", "O", "V"}))
def test_a_damaged_record_is_shown_as_damaged(letter: str) -> None:
    key, _, _, _ = RECORDS[letter]
    assert "damaged" in dict(describe(key, b"\xff" * 200))


@pytest.mark.parametrize("letter", sorted(RECORDS))
def test_a_letter_alone_names_the_whole_keyspace(letter: str) -> None:
    key, _, _, _ = RECORDS[letter]
    found = parse_key(f"{letter}:".encode())
    assert found.start == letter.encode()
    assert found.stop == chr(ord(letter) + 1).encode()
    assert found.start <= key < found.stop


def test_left_out_parts_stand_for_all() -> None:
    found = parse_key(f"E:{INODE}".encode())
    assert found.stop is not None
    assert found.start <= extent_key(INODE, 0) < extent_key(INODE, (1 << 32) - 1) < found.stop
    assert not found.start <= extent_key(INODE + 1, 0) < found.stop


def test_a_name_is_found_behind_those_it_collides_with() -> None:
    names = NameHash(seed=3, bits=1)
    store: dict[bytes, bytes] = {}
    home = names.slot(b"a")
    for offset, name in enumerate((b"x", b"a")):
        key = dirent_key(1, home + offset)
        packed = ATTRIBUTES.pack()
        store[key] = pack_dirent(packed, INODE, ATTRIBUTES.mode, home + offset, name, valid_s=1)
    found = parse_key(b"D:1:a", names=names, get=store.get)
    assert found.start == dirent_key(1, home + 1)


def test_a_name_may_hold_a_colon() -> None:
    names = NameHash(seed=3)
    found = parse_key(b"D:1:a:b", names=names, get=lambda _: None)
    assert found.start == dirent_key(1, names.slot(b"a:b"))


@pytest.mark.parametrize(
    "text",
    [
        "", "I", "I1", "Z:1", "i:1", "I:x", "I:-1", f"I:{1 << 64}", "I:1:2", "E:1:2:3", "O:1:uu:3",
        "T:16777216", "hex:", "hex:xyz", "hex:abc", "D:1:name", "D:x:#1",
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_key(text.encode())


@pytest.mark.parametrize("parent", [b"x", b"-1", b"18446744073709551616"])
def test_a_directory_that_is_no_number_is_refused(parent: bytes) -> None:
    with pytest.raises(Invalid):
        parse_key(b"D:" + parent + b":name", names=NameHash(1), get=lambda _: None)


@pytest.mark.parametrize("key", [b"", b"\xff\x00", b"Ishort", b"I" + bytes(9), b"Q12345678"])
def test_an_unknown_key_is_shown_as_bytes(key: bytes) -> None:
    assert key_text(key) == f"hex:{key.hex()}"
    shown = dict(describe(key, b"abc"))
    assert shown["keyspace"] == "unknown"
    assert shown["bytes"] == "3"


def test_what_lies_over_what_was_fetched() -> None:
    for letter, (key, *_) in RECORDS.items():
        assert may_lie_over(key) == (letter in "ADEHI")
    for key in (dirent_key(1, 16), inode_key(1), xattr_key(1, b"user.a"), b"", b"I1"):
        assert not may_lie_over(key)


@pytest.mark.parametrize("letter", "ADEHI")
def test_a_record_above_is_described(letter: str) -> None:
    key, _, value, expected = RECORDS[letter]
    shown = dict(describe_above(key, value + b"=" if letter in "AH" else value))
    assert {name: shown.get(name) for name in expected} == expected
    assert "damaged" not in shown
    hidden = dict(describe_above(key, b""))
    assert hidden["hides"] == "the record of sealed"
    assert "damaged" not in hidden
    if letter in "AH":
        assert "damaged" in dict(describe_above(key, b"?"))


def test_where_a_file_was_cut_off() -> None:
    cut = pack_inode(ATTRIBUTES.pack(), 1, 16, valid_s=1, flags=InodeFlag.EXTENTS, cut=0)
    assert (
        dict(describe(inode_key(INODE), cut))["cut"] == "its extents in sealed end before number 0"
    )
    assert "cut" not in dict(describe(inode_key(INODE), FILE))


@pytest.mark.parametrize(
    ("mode", "rdev", "flags", "content", "name", "shown"),
    [
        (stat.S_IFLNK | 0o777, 0, 0, b"to/\xff", "target", "to/\\xff"),
        (stat.S_IFCHR | 0o600, encode_device(300, 70000), 0, b"", "device", "300, 70000"),
        (stat.S_IFREG, 0, InodeFlag.EXTENTS, b"", "contents", f"in extents, E:{INODE:#x}"),
        (stat.S_IFREG, 0, InodeFlag.XATTRS, b"", "flags", "xattrs"),
        (stat.S_IFDIR, 0, InodeFlag.IMPLIED, b"", "flags", "implied"),
    ],
)
def test_types_of_inodes(
    *, mode: int, rdev: int, flags: int, content: bytes, name: str, shown: str
) -> None:
    attributes = Attributes(inode=INODE, mode=mode, rdev=rdev)
    record = pack_inode(attributes.pack(), 1, 16, valid_s=1, flags=flags, content=content)
    assert dict(describe(inode_key(INODE), record))[name] == shown


def test_hexdump_shows_offsets_bytes_and_characters() -> None:
    lines = hexdump(b"KVFS\x00\xff" + bytes(range(32, 48))).splitlines()
    assert lines[0].startswith("00000000  4b 56 46 53 00 ff 20 21  22 23")
    assert lines[0].endswith("|KVFS.. !\"#$%&'()|")
    assert lines[1].startswith("00000010  2a 2b")
    assert hexdump(b"") == ""


@pytest.mark.parametrize("length", [4095, 4096, 4097])
def test_a_long_hexdump_ends_and_says_so(length: int) -> None:
    lines = hexdump(bytes(length)).splitlines()
    assert len(lines) == 256 + (length > 4096)
    assert (lines[-1] == "... and 1 bytes more") == (length == 4097)


def test_describe_takes_any_bytes(fuzz: Callable[[], bytes]) -> None:
    for letter in sorted(RECORDS):
        for _ in range(200):
            fields = describe(letter.encode() + fuzz(), fuzz())
            assert fields[0][0] == "key"


@pytest.fixture
def fuzz() -> Callable[[], bytes]:
    """Bytes of any length; the same in every run."""
    import random

    dice = random.Random(20)
    return lambda: dice.randbytes(dice.choice((0, 3, 4, 8, 16, 24, 128, 154, 160, 300)))
