"""The formats of keys and records: golden examples decoded by hand, and round trips.

The bytes here are the documentation of the formats: a change of any of them is a new ``FORMAT``.
"""

from __future__ import annotations

import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.errors import Corrupt
from kvfs.files import records
from kvfs.files.records import (
    EPOCH_MASK,
    ID_MAX,
    KEYSPACES,
    NUMBER_BITS,
    NUMBER_MAX,
    REMOVED_DIRENT,
    ROOT_INODE,
    ROOT_NUMBER,
    TARBALL_SPACES,
    Attributes,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    catalogue_key,
    decode_device,
    dirent_key,
    encode_device,
    extent_key,
    fence_key,
    generation_of,
    inode_key,
    inode_of,
    is_root,
    link_key,
    locks_key,
    owner_key,
    pack_dirent,
    pack_inode,
    problem_key,
    tarball_of,
    tarball_ranges,
    tree_of,
    unlinked_key,
    volume_key,
    written_key,
    xattr_key,
)

TARBALL = 0xABCDEF
INODE = 0xABCDEF_0000000007
PARENT = 0xABCDEF_0000000001
SLOT = 0x0123456789ABCDEF


def hexadecimal(*lines: str) -> bytes:
    return bytes.fromhex("".join(lines))


KEYS = {
    "D": (dirent_key(PARENT, SLOT), "44 abcdef0000000001 0123456789abcdef"),
    "I": (inode_key(INODE), "49 abcdef0000000007"),
    "E": (extent_key(INODE, 2), "45 abcdef0000000007 00000002"),
    "A": (xattr_key(INODE, b"user.x"), "41 abcdef0000000007 757365722e78"),
    "F": (fence_key(TARBALL), "46 abcdef"),
    "H": (link_key(INODE, PARENT, SLOT), "48 abcdef0000000007 abcdef0000000001 0123456789abcdef"),
    "K": (locks_key(INODE), "4b abcdef0000000007"),
    "O": (owner_key(TARBALL, b"u", 1000), "4f abcdef 75 000003e8"),
    "P": (problem_key(TARBALL, 3), "50 abcdef 00000003"),
    "T": (catalogue_key(TARBALL), "54 abcdef"),
    "U": (unlinked_key(ROOT_INODE + 5), "55 0000000000000006"),
    "V": (volume_key("next"), "56 6e657874"),
    "W": (written_key(TARBALL), "57 abcdef"),
}


@pytest.mark.parametrize("letter", KEYS)
def test_golden_keys(letter: str) -> None:
    key, expected = KEYS[letter]
    assert key == hexadecimal(expected)


def test_the_table_of_keyspaces_is_complete() -> None:
    letters = [space.letter for space in KEYSPACES]
    assert letters == sorted(KEYS)
    assert {key[:1].decode() for key, _ in KEYS.values()} == set(letters)
    sealed = "".join(space.letter for space in KEYSPACES if space.store.startswith("sealed"))
    assert sealed.replace("F", "").encode() == TARBALL_SPACES  # a fence is not what it guards
    made_here = {name for name in dir(records) if name.endswith("_key")}
    assert len(made_here) == len(KEYSPACES)


ATTRIBUTES = Attributes(
    inode=INODE,
    mode=stat.S_IFREG | 0o4755,
    size=5,
    nlink=1,
    uid=1000,
    gid=0xFFFFFFFE,
    mtime_ns=-1,
    atime_ns=1_700_000_000_123_456_789,
    ctime_ns=0,
    rdev=0,
    blocks=1,
)
ATTR_BYTES = (
    "07000000 00efcdab"  # ino
    "05000000 00000000"  # size
    "01000000 00000000"  # blocks of 512 bytes
    "00f15365 00000000"  # atime 1,700,000,000
    "ffffffff ffffffff"  # mtime -1 ...
    "00000000 00000000"  # ctime 0
    "15cd5b07"  # ... 123,456,789 ns
    "ffc99a3b"  # ... + 999,999,999 ns: one nanosecond before the epoch
    "00000000"
    "ed890000"  # mode 0o104755
    "01000000"  # nlink
    "e8030000"  # uid 1000
    "feffffff"  # gid 4,294,967,294
    "00000000"  # rdev
    "00100000"  # blksize 4096
    "00000000"  # flags
)


def test_a_golden_attribute_record() -> None:
    assert ATTRIBUTES.pack() == hexadecimal(ATTR_BYTES)
    assert len(ATTRIBUTES.pack()) == 88
    assert Attributes.unpack(hexadecimal(ATTR_BYTES)) == ATTRIBUTES


def test_a_golden_dirent() -> None:
    record = hexadecimal(
        "07000000 00efcdab"  # fuse_entry_out: nodeid
        "00000000 00000000"  # generation
        "ffffffff 00000000 ffffffff 00000000"  # entry and attributes valid for 2**32 - 1 s
        "00000000 00000000",  # and no nanoseconds
        ATTR_BYTES,
        "07000000 00efcdab"  # fuse_dirent: ino
        "efcdab89 67452301"  # off: the slot
        "05000000"  # namelen
        "08000000"  # type DT_REG
        "68656c6c6f 000000"  # "hello", padded to 8
        "03"  # version of the format
        "01",  # flags: shared
    )
    made = pack_dirent(
        ATTRIBUTES.pack(), INODE, ATTRIBUTES.mode, SLOT, b"hello", valid_s=2**32 - 1, flags=1
    )
    assert made == record
    assert len(record) == 152 + 8 + 2
    assert DirentRecord.unpack(record) == DirentRecord(
        inode=INODE,
        slot=SLOT,
        name=b"hello",
        attributes=ATTRIBUTES,
        valid_s=2**32 - 1,
        flags=DirentFlag.SHARED,
    )


def test_a_golden_inode() -> None:
    record = hexadecimal(
        "01000000 00000000 00000000 00000000",  # fuse_attr_out: valid for 1 s, 0 ns, padding
        ATTR_BYTES,
        "01000000 00efcdab"  # parent
        "efcdab89 67452301"  # slot
        "03"  # version of the format
        "02"  # flags: extended attributes
        "000000000000"
        "68656c6c6f",  # contents: "hello"
    )
    made = pack_inode(
        ATTRIBUTES.pack(), PARENT, SLOT, valid_s=1, flags=InodeFlag.XATTRS, content=b"hello"
    )
    assert made == record
    assert InodeRecord.unpack(record) == InodeRecord(
        attributes=ATTRIBUTES, parent=PARENT, slot=SLOT, valid_s=1, flags=InodeFlag.XATTRS
    )


def test_a_removed_dirent() -> None:
    assert hexadecimal("00" * 152, "03", "02") == REMOVED_DIRENT
    assert DirentRecord.unpack(REMOVED_DIRENT).flags == DirentFlag.REMOVED


@pytest.mark.parametrize("damage", ["version", "short", "longer", "name"])
def test_what_is_no_record_is_refused(damage: str) -> None:
    dirent = bytearray(pack_dirent(ATTRIBUTES.pack(), INODE, 0o100644, SLOT, b"name", valid_s=0))
    inode = bytearray(pack_inode(ATTRIBUTES.pack(), PARENT, SLOT, valid_s=0))
    if damage == "version":
        dirent[-2] = inode[120] = records.FORMAT - 1
    elif damage == "short":
        del dirent[100:], inode[127:]
    elif damage == "longer":
        dirent[-2:-2] = bytes(8)
        inode[120] = 0
    else:
        dirent[144] = 200
        inode.clear()
    with pytest.raises(Corrupt):
        DirentRecord.unpack(dirent)
    with pytest.raises(Corrupt):
        InodeRecord.unpack(inode)


u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
times = st.integers(-(2**63) * 10**9, (2**63) * 10**9 - 1)
attributes = st.builds(
    Attributes, inode=u64, mode=u32, size=u64, nlink=u32, uid=u32, gid=u32, mtime_ns=times,
    atime_ns=times, ctime_ns=times, rdev=u32, blocks=u64,
)  # fmt: skip
names = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & set(b"/\0"))


@given(attributes, names, u64, u32, st.integers(0, 3))
def test_dirents_come_back(
    given_: Attributes, name: bytes, slot: int, valid_s: int, flags: int
) -> None:
    record = pack_dirent(
        given_.pack(), given_.inode, given_.mode, slot, name, valid_s=valid_s, flags=flags
    )
    assert len(record) % 8 == 2
    back = DirentRecord.unpack(memoryview(record))
    assert (back.inode, back.slot, back.name, back.attributes) == (
        given_.inode, slot, name, given_,
    )  # fmt: skip
    assert (back.valid_s, back.flags) == (valid_s, flags)


@given(attributes, u64, u64, u32, st.integers(0, 7), st.binary())
def test_inodes_come_back(
    given_: Attributes, parent: int, slot: int, valid_s: int, flags: int, content: bytes
) -> None:
    record = pack_inode(given_.pack(), parent, slot, valid_s=valid_s, flags=flags, content=content)
    back = InodeRecord.unpack(memoryview(record))
    assert back == InodeRecord(
        attributes=given_, parent=parent, slot=slot, valid_s=valid_s, flags=InodeFlag(flags)
    )
    assert record[records.CONTENT_IN_INODE :] == content


numbers = st.one_of(st.integers(1, NUMBER_MAX), st.sampled_from([1, 2, NUMBER_MAX]))


@given(st.one_of(st.integers(0, ID_MAX), st.just(ID_MAX)), numbers, st.integers(0, 5 * EPOCH_MASK))
def test_inode_numbers(tarball: int, number: int, epoch: int) -> None:
    inode = inode_of(tarball, number, epoch)
    assert tarball_of(inode) == tarball
    assert inode >> NUMBER_BITS == tree_of(tarball, epoch)
    assert inode - inode_of(tarball, 0, epoch) == number
    assert 0 < inode < 2**64
    assert is_root(inode) == (number == ROOT_NUMBER)
    assert inode_of(0, 1) == ROOT_INODE


@given(st.integers(0, ID_MAX), numbers, st.integers(0, 1000), st.integers(0, 1000))
def test_two_versions_never_share_a_number_and_generation(
    tarball: int, number: int, one: int, other: int
) -> None:
    """What the kernel knows an inode by."""
    known = [(inode_of(tarball, number, epoch), generation_of(epoch)) for epoch in (one, other)]
    assert (known[0] == known[1]) == (one == other)
    # Of 256 versions in a row not even the numbers are the same.
    assert (known[0][0] == known[1][0]) == ((one - other) % 256 == 0)


def test_roots_differ_in_the_bits_that_the_kernel_hashes() -> None:
    """Or a listing of many tarballs takes the square of their number."""
    low_bits = {inode_of(tarball, ROOT_NUMBER) % 2**27 for tarball in range(1, 100_000)}
    assert len(low_bits) == 99_999


@pytest.mark.parametrize("tarball", [1, 2, 0xFE, 0xFF, 0x100, 0xFFFF, ID_MAX - 1, ID_MAX])
def test_tarball_ranges(tarball: int) -> None:
    """Half-open, one for each space, disjoint, and without a gap to the next tarball's."""
    ranges = tarball_ranges(tarball)
    assert bytes(low[0] for low, _ in ranges) == TARBALL_SPACES
    last = inode_of(tarball, NUMBER_MAX, EPOCH_MASK)
    inside = {
        b"A": [xattr_key(inode_of(tarball, 1), b"a"), xattr_key(last, b"\xff" * 255)],
        b"D": [dirent_key(inode_of(tarball, 1), 0), dirent_key(last, 2**64 - 1)],
        b"E": [extent_key(inode_of(tarball, 1), 0), extent_key(last, 2**32 - 1)],
        b"H": [link_key(inode_of(tarball, 1), 0, 0), link_key(last, 2**64 - 1, 2**64 - 1)],
        b"I": [inode_key(inode_of(tarball, 1)), inode_key(last)],
        b"O": [owner_key(tarball, b"g", 0), owner_key(tarball, b"u", 2**32 - 1)],
        b"P": [problem_key(tarball, 0), problem_key(tarball, 2**32 - 1)],
    }
    for low, high in ranges:
        assert low < high
        assert all(low <= key < high for key in inside[low[:1]])
    bounds = [bound for pair in ranges for bound in pair]
    assert bounds == sorted(bounds)
    if tarball < ID_MAX:
        following = tarball_ranges(tarball + 1)
        assert [high for _, high in ranges] == [low for low, _ in following]
    else:
        assert [high for _, high in ranges] == [bytes((low[0] + 1,)) for low, _ in ranges]


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_device_numbers(major: int, minor: int) -> None:
    rdev = encode_device(major, minor)
    assert decode_device(rdev) == (major, minor)
    assert 0 <= rdev < 2**32
    # The C library's encoding is the kernel's wherever both have 32 bits.
    assert os.makedev(major, minor) == rdev
