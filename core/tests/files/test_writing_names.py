"""Names of a writable tree: made, linked, removed, renamed; link counts and back pointers."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from itertools import count, islice

import pytest

from kvfs.capability import Durability
from kvfs.files import Caller, NameHash
from kvfs.files.naming import RenameFlag
from kvfs.files.records import LINK_KEY, NUMBER_BITS, Attributes, dirent_key, volume_key
from kvfs.kv import Batch
from kvfs.testing.volumes import Stores

from .writing_support import ROOT, USER, World, number_of, refused, scratch_volume, world_over

NOREPLACE, EXCHANGE = RenameFlag.NOREPLACE, RenameFlag.EXCHANGE


@pytest.fixture
def world() -> Iterator[World]:
    with world_over(Stores()) as made:
        yield made


@pytest.fixture
def crowded() -> Iterator[World]:
    """Names have two slots to be in, so that nearly all collide."""
    with world_over(Stores(), hash_bits=1) as made:
        yield made


def times(world: World, inode: int) -> tuple[int, int, int]:
    """atime, mtime and ctime, to the microsecond: within one operation time counts nanoseconds."""
    found = world.stat(inode)
    return found.atime_ns // 1000, found.mtime_ns // 1000, found.ctime_ns // 1000


def links(world: World, inode: int) -> set[tuple[int, int]]:
    """The further names of an inode: directory and slot."""
    found = [LINK_KEY.unpack(key) for key in world.keys(b"H")]
    return {(parent, slot) for _, number, parent, slot in found if number == inode}


# -- making ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR])
def test_what_mknod_makes(world: World, kind: int) -> None:
    device = os.makedev(5, 300) if kind == stat.S_IFCHR else 0
    entry = world.files.mknod(ROOT, b"a", kind | 0o666, device, Caller(7, 8, 0o027))
    inode = number_of(entry)
    now = world.clock.now_ns
    assert world.stat(inode) == Attributes(
        inode=inode, mode=kind | 0o640, nlink=1, uid=7, gid=8, rdev=device,
        atime_ns=now, mtime_ns=now, ctime_ns=now,
    )  # fmt: skip
    assert bytes(world.files.lookup(ROOT, b"a") or b"") == entry
    assert world.files.path_of(inode) == b"a"


def test_a_new_directory_counts_in_the_one_above(world: World) -> None:
    assert world.stat(ROOT).nlink == 2
    world.clock.tick()
    inode = world.mkdir(b"d", mode=0o1777)
    found = world.stat(inode)
    assert (found.mode, found.nlink, found.size) == (stat.S_IFDIR | 0o1755, 2, 4096)
    assert world.stat(ROOT).nlink == 3
    assert times(world, ROOT)[1:] == (world.clock.now_ns // 1000,) * 2
    below = world.mkdir(b"e", inode)
    assert (world.stat(inode).nlink, world.stat(ROOT).nlink) == (3, 3)
    assert world.record(below).parent == inode
    assert world.files.path_of(below) == b"d/e"


def test_a_symbolic_link_has_its_target_and_all_permissions(world: World) -> None:
    inode = number_of(world.files.symlink(ROOT, b"l", b"../\xff there", USER))
    found = world.stat(inode)
    assert (found.mode, found.size, found.blocks) == (stat.S_IFLNK | 0o777, 10, 0)
    assert bytes(world.files.readlink(inode)) == b"../\xff there"


def test_what_is_there_is_not_made_again(world: World) -> None:
    inode = world.make(b"a")
    before = (world.stat(ROOT), world.stat(inode))
    world.clock.tick()
    for make in (
        lambda: world.make(b"a"),
        lambda: world.mkdir(b"a"),
        lambda: world.files.symlink(ROOT, b"a", b"x", USER),
        lambda: world.files.link(inode, ROOT, b"a"),
    ):
        with refused(errno.EEXIST):
            make()
    assert (world.stat(ROOT), world.stat(inode)) == before


def test_nothing_is_made_in_what_is_no_directory_or_was_removed(world: World) -> None:
    file, gone = world.make(b"a"), world.mkdir(b"d")
    world.files.rmdir(ROOT, b"d")
    for parent, number in ((file, errno.ENOTDIR), (gone, errno.ENOENT), (1 << 20, errno.ESTALE)):
        for make in (
            lambda parent=parent: world.make(b"x", parent),
            lambda parent=parent: world.mkdir(b"x", parent),
            lambda parent=parent: world.files.symlink(parent, b"x", b"y", USER),
            lambda parent=parent: world.files.link(file, parent, b"x"),
            lambda parent=parent: world.files.rename(ROOT, b"a", parent, b"x"),
            lambda parent=parent: world.files.tmpfile(parent, 0o100600, USER),
        ):
            with refused(number):
                make()
    assert world.names() == {b"a"}


def test_names_go_anywhere_however_many_inodes_there_were() -> None:
    stores = Stores()
    with scratch_volume(stores):
        pass
    claimed = Batch().put(volume_key("next"), str(1 << NUMBER_BITS).encode())
    stores.kv["state"].commit(claimed, Durability.MEMORY)
    with world_over(stores) as world:
        inode, directory = world.make(b"a"), world.mkdir(b"b")
        assert directory >> NUMBER_BITS == 1
        world.files.rename(ROOT, b"a", directory, b"c")
        world.files.link(inode, ROOT, b"d")
        assert (world.names(), world.names(directory)) == ({b"b", b"d"}, {b"c"})


def test_inode_numbers_are_never_given_twice() -> None:
    stores = Stores()
    seen: set[int] = set()
    for number in range(3):
        with world_over(stores) as world:
            for name in (b"a%d" % number, b"b%d" % number):
                inode = world.make(name)
                assert inode not in seen
                seen.add(inode)
                world.files.unlink(ROOT, name)


# -- links -----------------------------------------------------------------------------------------


def test_further_names_are_noted_and_any_may_go_first(world: World) -> None:
    directory = world.mkdir(b"d")
    inode = world.make(b"a")
    world.files.write(inode, 0, b"text")
    world.clock.tick()
    assert number_of(world.files.link(inode, directory, b"b")) == inode
    now = world.clock.now_ns // 1000
    assert times(world, inode)[2] == now != times(world, inode)[1]
    assert times(world, directory)[1:] == (now, now)
    world.files.link(inode, ROOT, b"c")
    assert (world.stat(inode).nlink, len(links(world, inode))) == (3, 2)
    assert world.files.path_of(inode) == b"a"
    world.files.unlink(ROOT, b"a")  # the one that the inode points back to
    assert (world.stat(inode).nlink, len(links(world, inode))) == (2, 1)
    assert world.files.path_of(inode) in (b"d/b", b"c")
    world.files.unlink(ROOT, b"c")
    assert (world.stat(inode).nlink, links(world, inode)) == (1, set())
    assert world.files.path_of(inode) == b"d/b"
    assert world.read(inode) == b"text"


def test_a_directory_has_one_name(world: World) -> None:
    directory = world.mkdir(b"d")
    with refused(errno.EPERM):
        world.files.link(directory, ROOT, b"e")


# -- removing --------------------------------------------------------------------------------------


def test_unlink_is_for_files_and_rmdir_for_empty_directories(world: World) -> None:
    directory, file = world.mkdir(b"d"), world.make(b"f")
    world.make(b"x", directory)
    with refused(errno.EISDIR):
        world.files.unlink(ROOT, b"d")
    with refused(errno.ENOTDIR):
        world.files.rmdir(ROOT, b"f")
    with refused(errno.ENOTEMPTY):
        world.files.rmdir(ROOT, b"d")
    for remove in (world.files.unlink, world.files.rmdir):
        with refused(errno.ENOENT):
            remove(ROOT, b"nothing")
        with refused(errno.ENOTDIR):
            remove(file, b"x")
    world.files.unlink(directory, b"x")
    world.clock.tick()
    world.files.rmdir(ROOT, b"d")
    assert world.stat(ROOT).nlink == 2
    assert world.stat(directory).nlink == 0
    assert times(world, directory)[2] == times(world, ROOT)[1] == world.clock.now_ns // 1000
    assert world.names() == {b"f"}


# -- renaming --------------------------------------------------------------------------------------


def test_rename_within_and_across_directories(world: World) -> None:
    one, two = world.mkdir(b"one"), world.mkdir(b"two")
    inode = world.make(b"a", one)
    before = times(world, inode)
    world.clock.tick()
    now = world.clock.now_ns // 1000
    world.files.rename(one, b"a", one, b"b")
    assert (world.names(one), world.files.path_of(inode)) == ({b"b"}, b"one/b")
    assert times(world, inode) == (*before[:2], now)
    world.files.rename(one, b"b", two, b"c")
    assert (world.names(one), world.names(two)) == (set(), {b"c"})
    assert world.files.path_of(inode) == b"two/c"
    assert times(world, one)[1:] == times(world, two)[1:] == (now, now)


def test_a_directory_takes_its_link_along(world: World) -> None:
    one, two = world.mkdir(b"one"), world.mkdir(b"two")
    moved = world.mkdir(b"d", one)
    leaf = world.make(b"leaf", moved)
    assert (world.stat(one).nlink, world.stat(two).nlink) == (3, 2)
    world.files.rename(one, b"d", two, b"e")
    assert (world.stat(one).nlink, world.stat(two).nlink, world.stat(moved).nlink) == (2, 3, 2)
    assert world.files.path_of(leaf) == b"two/e/leaf"
    dots = b"".join(world.files.readdir(moved, 0, 4096, False))
    assert int.from_bytes(dots[32:40], "little") == two  # the inode of ``..``


def test_rename_takes_the_place_of_a_file(world: World) -> None:
    one, two = world.make(b"one"), world.make(b"two")
    world.files.forget(two, 1)
    world.files.write(two, 0, b"x" * 100_000)
    world.files.rename(ROOT, b"one", ROOT, b"two")
    assert (world.find(b"two"), world.names()) == (one, {b"two"})
    assert world.keys(b"E") == []
    three = world.make(b"three")
    world.files.link(three, ROOT, b"four")
    world.clock.tick()
    world.files.rename(ROOT, b"two", ROOT, b"three")  # one name of several
    assert world.stat(three).nlink == 1
    assert times(world, three)[2] == world.clock.now_ns // 1000
    assert world.files.path_of(three) == b"four"


def test_rename_over_directories(world: World) -> None:
    empty, full, file = world.mkdir(b"empty"), world.mkdir(b"full"), world.make(b"file")
    world.make(b"x", full)
    for name, new_name, number in (
        (b"empty", b"full", errno.ENOTEMPTY),
        (b"empty", b"file", errno.ENOTDIR),
        (b"file", b"empty", errno.EISDIR),
        (b"nothing", b"empty", errno.ENOENT),
    ):
        with refused(number):
            world.files.rename(ROOT, name, ROOT, new_name)
    assert world.stat(ROOT).nlink == 4
    world.files.rename(ROOT, b"full", ROOT, b"empty")
    assert (world.stat(ROOT).nlink, world.stat(empty).nlink) == (3, 0)
    assert (world.find(b"empty"), world.find(b"file")) == (full, file)
    other = world.mkdir(b"other")
    world.mkdir(b"there", other)
    world.files.rename(ROOT, b"empty", other, b"there")
    assert (world.stat(ROOT).nlink, world.stat(other).nlink) == (3, 3)


def test_a_directory_does_not_move_into_itself(world: World) -> None:
    top = world.mkdir(b"a")
    middle = world.mkdir(b"b", top)
    low = world.mkdir(b"c", middle)
    for parent in (top, middle, low):
        with refused(errno.EINVAL):
            world.files.rename(ROOT, b"a", parent, b"x")
    with refused(errno.EINVAL):
        world.files.rename(ROOT, b"a", middle, b"c", EXCHANGE)
    with refused(errno.EINVAL):
        world.files.rename(middle, b"c", ROOT, b"a", EXCHANGE)
    with refused(errno.ENOTEMPTY):
        world.files.rename(middle, b"c", ROOT, b"a")
    world.files.rename(middle, b"c", ROOT, b"up")
    world.files.rename(ROOT, b"a", low, b"x")
    assert world.files.path_of(middle) == b"up/x/b"


@pytest.mark.parametrize("flags", [0, EXCHANGE])
def test_two_names_of_one_file_both_stay(world: World, flags: int) -> None:
    inode = world.make(b"a")
    world.files.link(inode, ROOT, b"b")
    world.clock.tick()
    before = times(world, inode)
    world.files.rename(ROOT, b"a", ROOT, b"b", flags)
    world.files.rename(ROOT, b"a", ROOT, b"a", flags)
    assert (world.names(), world.stat(inode).nlink) == ({b"a", b"b"}, 2)
    assert times(world, inode) == before


def test_noreplace_takes_no_place(world: World) -> None:
    inode, other = world.make(b"a"), world.make(b"b")
    world.files.link(inode, ROOT, b"same")
    for name in (b"b", b"same", b"a"):
        with refused(errno.EEXIST):
            world.files.rename(ROOT, b"a", ROOT, name, NOREPLACE)
    world.files.rename(ROOT, b"a", ROOT, b"free", NOREPLACE)
    assert (world.find(b"free"), world.find(b"b"), world.find(b"a")) == (inode, other, None)


def test_exchange_of_anything_with_anything(world: World) -> None:
    one, two = world.mkdir(b"one"), world.mkdir(b"two")
    file, directory = world.make(b"x", one), world.mkdir(b"y", two)
    world.files.link(file, two, b"other")
    assert (world.stat(one).nlink, world.stat(two).nlink) == (2, 3)
    world.clock.tick()
    world.files.rename(one, b"x", two, b"y", EXCHANGE)
    now = world.clock.now_ns // 1000
    assert (world.find(b"x", one), world.find(b"y", two)) == (directory, file)
    assert (world.stat(one).nlink, world.stat(two).nlink) == (3, 2)
    assert world.files.path_of(directory) == b"one/x"
    assert {times(world, inode)[2] for inode in (one, two, file, directory)} == {now}
    world.files.rename(two, b"other", one, b"x", EXCHANGE)  # the name that has a record of its own
    assert (world.find(b"x", one), world.find(b"other", two)) == (file, directory)
    with refused(errno.ENOENT):
        world.files.rename(one, b"x", two, b"nothing", EXCHANGE)


@pytest.mark.parametrize("flags", [NOREPLACE | EXCHANGE, RenameFlag.WHITEOUT, 64])
def test_flags_that_mean_nothing_here(world: World, flags: int) -> None:
    world.make(b"a")
    with refused(errno.EINVAL):
        world.files.rename(ROOT, b"a", ROOT, b"b", flags)


def test_each_name_of_a_file_can_be_renamed(world: World) -> None:
    directory, inode = world.mkdir(b"d"), world.make(b"a")
    for name in (b"b", b"c"):
        world.files.link(inode, ROOT, name)
    for name in (b"b", b"a", b"c"):
        world.files.rename(ROOT, name, directory, name)
        assert (world.stat(inode).nlink, len(links(world, inode))) == (3, 2)
    assert world.names(directory) == {b"a", b"b", b"c"}


# -- names that collide ----------------------------------------------------------------------------


def colliding(world: World, number: int) -> list[bytes]:
    """So many names of one home slot."""
    superblock = world.volume.superblock
    names = NameHash(superblock.hash_seed, superblock.hash_bits)
    home = names.slot(b"n0")
    candidates = (b"n%d" % each for each in count())
    return [*islice((name for name in candidates if names.slot(name) == home), number)]


def test_a_gap_in_a_chain_of_names_is_marked(crowded: World) -> None:
    names = colliding(crowded, 4)
    inodes = [crowded.make(name) for name in names]
    crowded.files.unlink(ROOT, names[1])
    assert None in [name for _, name in crowded.slots(ROOT)]
    assert [crowded.find(name) for name in names] == [inodes[0], None, inodes[2], inodes[3]]
    assert crowded.names() == {names[0], names[2], names[3]}
    again = crowded.make(names[1])
    assert crowded.find(names[1]) == again
    crowded.files.unlink(ROOT, names[3])
    crowded.files.unlink(ROOT, names[1])  # the end of the chain: nothing need be marked
    assert crowded.names() == {names[0], names[2]}


def test_a_directory_in_which_names_collided_can_be_removed(crowded: World) -> None:
    directory = crowded.mkdir(b"d")
    names = colliding(crowded, 4)
    for name in names:
        crowded.make(name, directory)
    for name in names:
        crowded.files.unlink(directory, name)
    assert crowded.slots(directory) != []
    assert crowded.names(directory) == set()
    crowded.files.rmdir(ROOT, b"d")
    crowded.files.forget(directory, 1)
    assert crowded.keys(dirent_key(directory, 0)[:9]) == []


def test_a_name_that_moves_within_its_chain(crowded: World) -> None:
    names = colliding(crowded, 4)
    inode = crowded.make(names[0])
    for name in (*names[1:], names[0]):
        before = names[0] if name == names[1] else names[names.index(name) - 1]
        crowded.files.rename(ROOT, before, ROOT, name)
        assert (crowded.names(), crowded.find(name)) == ({name}, inode)
        assert crowded.files.path_of(inode) == name
    crowded.make(names[1])
    crowded.files.rename(ROOT, names[0], ROOT, names[1], EXCHANGE)
    crowded.files.rename(ROOT, names[0], ROOT, names[1])
    assert crowded.names() == {names[1]}


def test_a_directory_is_listed_whole_while_names_go(world: World) -> None:
    names = [b"file%03d" % number for number in range(200)]
    for name in names:
        world.make(name)
    seen = set()
    for entry in world.files.entries(ROOT):
        seen.add(entry.name)
        if entry.name in names[:100]:
            world.files.unlink(ROOT, entry.name)
    assert seen == set(names)
    assert world.names() == set(names[100:])
