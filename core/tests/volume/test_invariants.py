"""The check of a volume finds what is wrong: whatever record is damaged, it is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs
import pytest

from kvfs.capability import Durability
from kvfs.files.records import (
    DirentRecord,
    InodeRecord,
    catalogue_key,
    dirent_key,
    extent_key,
    inode_key,
    inode_of,
    link_key,
    owner_key,
    pack_dirent,
    pack_inode,
    problem_key,
    xattr_key,
)
from kvfs.kv import Batch
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter
from kvfs.tarballs.catalogue import State
from kvfs.testing.invariants import violations
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

from .support import contents, number_of


def archive() -> bytes:
    """A file, a large one with a hole and two names, a directory and an attribute."""
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    large = b"x" * 150_000 + bytes(150_000) + b"y" * 100_000
    writer.add(Member(b"d", MemberType.DIRECTORY, 0o755, uname=b"root"))
    writer.add(Member(b"d/small", size=5, xattrs={b"user.a": b"1"}), [b"small"])
    writer.add(Member(b"d/large", size=len(large)), [large])
    writer.add(Member(b"link", MemberType.HARDLINK, linkname=b"d/large"))
    writer.add(Member(b"../out"))
    writer.close()
    return b"".join(parts)


@pytest.fixture
def volume() -> Iterator[Volume]:
    stores = Stores()
    stores.backing.write("above/t.tar", archive())
    stores.backing.write("u.tar", archive())
    with stores.volume() as volume:
        contents(volume, b"above/t")
        assert [*violations(volume)] == []
        yield volume


Damage = Callable[[Volume, int], None]


def path(volume: Volume, name: bytes) -> InodeRecord:
    inode = volume.files(wait=True).open_path(b"above/t/" + name).inode
    raw = volume.sealed.get(inode_key(inode))
    assert raw is not None
    return InodeRecord.unpack(raw)


def change_inode(volume: Volume, record: InodeRecord, **fields: int) -> None:
    raw = volume.sealed.get(inode_key(record.attributes.inode))
    assert raw is not None
    attributes = attrs.evolve(
        record.attributes, **{k: v for k, v in fields.items() if hasattr(record.attributes, k)}
    )
    made = pack_inode(
        attributes.pack(),
        fields.get("parent", record.parent),
        fields.get("slot", record.slot),
        valid_s=record.valid_s,
        flags=fields.get("flags", record.flags),
        content=raw[128:],
    )
    volume.sealed.put(inode_key(record.attributes.inode), made)


def wrong_nlink(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"link"), nlink=3)


def wrong_nlink_of_directory(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"d"), nlink=3)


def wrong_back_pointer(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"d/small"), slot=77)


def wrong_size(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"d/small"), size=6)


def wrong_number(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"d/small"), inode=1 << 50)


def other_attributes(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"d/small"), uid=7)


def no_flag_of_attributes(volume: Volume, tarball: int) -> None:
    change_inode(volume, path(volume, b"d/small"), flags=0)


def no_inode(volume: Volume, tarball: int) -> None:
    volume.sealed.delete(inode_key(path(volume, b"d/small").attributes.inode))


def no_dirent(volume: Volume, tarball: int) -> None:
    record = path(volume, b"d/small")
    volume.sealed.delete(dirent_key(record.parent, record.slot))


def no_directory(volume: Volume, tarball: int) -> None:
    volume.sealed.delete(inode_key(path(volume, b"d").attributes.inode))


def moved_dirent(volume: Volume, tarball: int) -> None:
    record = path(volume, b"d/small")
    key = dirent_key(record.parent, record.slot)
    raw = volume.sealed.get(key)
    assert raw is not None
    moved = dirent_key(record.parent, record.slot + 1)
    volume.sealed.commit(Batch().delete(key).put(moved, raw))


def bad_name(volume: Volume, tarball: int) -> None:
    record = path(volume, b"d/small")
    raw = volume.sealed.get(dirent_key(record.parent, record.slot))
    assert raw is not None
    dirent = DirentRecord.unpack(raw)
    made = pack_dirent(
        dirent.attributes.pack(),
        dirent.inode,
        dirent.attributes.mode,
        dirent.slot,
        b"..",
        valid_s=dirent.valid_s,
    )
    volume.sealed.put(dirent_key(record.parent, record.slot), made)


def no_link_record(volume: Volume, tarball: int) -> None:
    low = link_key(path(volume, b"link").attributes.inode, 0, 0)
    volume.sealed.commit(Batch().delete_range(low, low[:9] + b"\xff"))


def stray_link_record(volume: Volume, tarball: int) -> None:
    volume.sealed.put(link_key(path(volume, b"d/small").attributes.inode, 5, 5), b"")


def stray_extent(volume: Volume, tarball: int) -> None:
    volume.sealed.put(extent_key(path(volume, b"d/small").attributes.inode, 0), b"stray")


def short_extent(volume: Volume, tarball: int) -> None:
    volume.sealed.put(extent_key(path(volume, b"d/large").attributes.inode, 0), b"short")


def extent_of_zeros(volume: Volume, tarball: int) -> None:
    extent = bytes(volume.superblock.extent_bytes)
    volume.sealed.put(extent_key(path(volume, b"d/large").attributes.inode, 0), extent)


def stray_attribute(volume: Volume, tarball: int) -> None:
    volume.sealed.put(xattr_key(path(volume, b"d/large").attributes.inode, b"user.x"), b"")


def missing_remark(volume: Volume, tarball: int) -> None:
    volume.sealed.delete(problem_key(tarball, 0))


def bad_owner(volume: Volume, tarball: int) -> None:
    volume.sealed.put(owner_key(tarball, b"u", 5), b"")


def no_record_at_all(volume: Volume, tarball: int) -> None:
    volume.sealed.put(inode_key(path(volume, b"d/small").attributes.inode), b"what is this")


def left_half_done(volume: Volume, tarball: int) -> None:
    record = volume.tarballs.catalogue.get(tarball)
    assert record is not None
    volume.tarballs.catalogue.change(tarball, record, attrs.evolve(record, state=State.EVICTING))


def leftovers(volume: Volume, tarball: int) -> None:
    volume.sealed.put(inode_key(inode_of(number_of(volume, "u.tar"), 9)), b"left")


def leftovers_of_nobody(volume: Volume, tarball: int) -> None:
    volume.sealed.put(extent_key(inode_of((1 << 24) - 1, 9), 3), b"left")


def in_the_wrong_store(volume: Volume, tarball: int) -> None:
    volume.state.put(extent_key(5, 5), b"x")


def unknown_space(volume: Volume, tarball: int) -> None:
    volume.sealed.put(b"Zebra", b"x", Durability.MEMORY)


def no_root(volume: Volume, tarball: int) -> None:
    volume.state.delete(inode_key(inode_of(tarball, 1)))


def lost_in_the_catalogue(volume: Volume, tarball: int) -> None:
    raw = volume.state.get(catalogue_key(tarball))
    assert raw is not None
    moved = catalogue_key(tarball + 5)
    volume.state.commit(Batch().delete(catalogue_key(tarball)).put(moved, raw))


def counter_too_low(volume: Volume, tarball: int) -> None:
    volume.state.put(b"Vnext", b"2")


DAMAGES: dict[Damage, str] = {
    wrong_nlink: "a link count of 3, and 2 names",
    wrong_nlink_of_directory: "a link count of 3, and 0 directories in it",
    wrong_back_pointer: "points back to a dirent that is not there",
    wrong_size: "5 bytes behind the record, 6 expected",
    wrong_number: "calls itself 0x4000000000000",
    other_attributes: "its attributes are",
    no_flag_of_attributes: "its flag of extended attributes is False, wrongly",
    no_inode: "there is no inode",
    no_dirent: "points back to a dirent that is not there",
    no_directory: "which is no directory",
    moved_dirent: "where nobody who looks for it comes by",
    bad_name: "is no file name",
    no_link_record: "a further name of",
    stray_link_record: "there is no such dirent",
    stray_extent: "which has none",
    short_extent: "5 bytes for",
    extent_of_zeros: "or zeros",
    stray_attribute: "of no inode that has any",
    missing_remark: "0 problems kept, the catalogue has 1",
    bad_owner: "is no owner",
    no_record_at_all: "not an inode record",
    left_half_done: "was left evicting",
    leftovers: "which is not sealed",
    leftovers_of_nobody: "which is not sealed",
    in_the_wrong_store: "a space that does not belong there",
    unknown_space: "a space that does not belong there",
    no_root: "has no root inode",
    lost_in_the_catalogue: "is not found by the name of its object",
    counter_too_low: "is not below the counter 2",
}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_is_found(volume: Volume, damage: Damage) -> None:
    damage(volume, number_of(volume, "above/t.tar"))
    found = [*violations(volume)]
    assert any(DAMAGES[damage] in line for line in found), found
