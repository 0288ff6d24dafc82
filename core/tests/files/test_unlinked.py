"""What has no name any more: it stays while the kernel has it, and then all of it is gone."""

from __future__ import annotations

import errno
import random

import pytest

from kvfs.errors import NotFound
from kvfs.files import References
from kvfs.files.records import unlinked_key
from kvfs.testing.volumes import Stores
from kvfs.testing.written import inconsistencies

from .writing_support import ROOT, SMALL, USER, World, number_of, refused, world_over

# -- how often the kernel has what -----------------------------------------------------------------


def test_references_count_as_a_dictionary_does() -> None:
    rng = random.Random(7)
    references, counts = References(), dict.fromkeys([*range(20), 4095, 4096, 1 << 40], 0)
    for _ in range(5000):
        inode = rng.choice([*counts])
        if rng.random() < 0.5:
            references.add(inode)
            counts[inode] += 1
        else:
            dropped = rng.randrange(4)
            counts[inode] = max(counts[inode] - dropped, 0)
            assert references.drop(inode, dropped) == (counts[inode] == 0)
        assert all((number in references) == (times > 0) for number, times in counts.items())
    for inode, times in counts.items():
        references.drop(inode, times)
    assert (references._pages, references._held) == ({}, {})


def test_more_references_than_are_counted_are_held_for_ever() -> None:
    references = References()
    for _ in range(70_000):
        references.add(5)
    assert not references.drop(5, 70_000)
    assert 5 in references


# -- what lives until it is forgotten --------------------------------------------------------------


def fill(world: World, inode: int) -> None:
    """Extents, and an attribute."""
    world.files.write(inode, 0, b"x" * 1000)
    world.files.setxattr(inode, b"user.a", b"value")


def is_gone(world: World, inode: int) -> bool:
    """Is there no record of an inode at all?"""
    number = inode.to_bytes(8, "big")
    return not any(number in key for key in world.keys(b""))


def test_contents_live_until_the_kernel_lets_go() -> None:
    with world_over(Stores(capability=SMALL)) as world:
        inode = world.make(b"a")
        fill(world, inode)
        world.clock.tick()
        world.files.unlink(ROOT, b"a")
        found = world.stat(inode)
        assert (found.nlink, found.ctime_ns) == (0, world.clock.now_ns)
        assert world.keys(b"U") == [unlinked_key(inode)]
        world.files.write(inode, 500, b"still")
        assert world.read(inode, 499, 7) == b"xstillx"
        assert world.files.getxattr(inode, b"user.a") == b"value"
        world.files.forget(inode, 1)
        assert is_gone(world, inode)
        with pytest.raises(NotFound):
            world.stat(inode)
        with refused(errno.ESTALE):
            world.files.write(inode, 0, b"x")


def test_each_entry_that_was_given_out_counts() -> None:
    with world_over(Stores(capability=SMALL)) as world:
        inode = world.make(b"a")
        world.files.lookup(ROOT, b"a")
        world.files.link(inode, ROOT, b"b")
        world.files.readdir(ROOT, 0, 4096, True)  # both names
        world.files.readdir(ROOT, 0, 4096, False)  # gives no entries
        world.files.unlink(ROOT, b"a")
        world.files.unlink(ROOT, b"b")
        world.files.forget(inode, 4)
        assert world.stat(inode).nlink == 0
        world.files.forget(inode, 1)
        assert is_gone(world, inode)


def test_an_entry_that_does_not_fit_into_a_listing_is_not_given() -> None:
    with world_over(Stores(capability=SMALL)) as world:
        for number in range(20):
            world.files.forget(world.make(b"%02d" % number), 1)
        assert len(world.files.readdir(ROOT, 2, 1000, True)) == 2 * 6  # 160 bytes each
        assert sum(world.files._context.references._held.values()) == 6


def test_what_the_kernel_does_not_have_goes_at_once() -> None:
    with world_over(Stores(capability=SMALL)) as world:
        file, victim, directory = world.make(b"a"), world.make(b"b"), world.mkdir(b"d")
        for inode in (file, victim, directory):
            if inode != directory:
                fill(world, inode)
            world.files.forget(inode, 1)
            assert world.stat(inode).nlink > 0
        world.files.rename(ROOT, b"a", ROOT, b"b")
        assert is_gone(world, victim)
        world.files.unlink(ROOT, b"b")
        world.files.rmdir(ROOT, b"d")
        assert is_gone(world, file)
        assert is_gone(world, directory)
        assert world.keys(b"U") == []


def test_a_directory_that_was_removed_stays_too() -> None:
    with world_over(Stores(capability=SMALL)) as world:
        inode = world.mkdir(b"d")
        world.files.setxattr(inode, b"user.a", b"value")
        world.files.rmdir(ROOT, b"d")
        assert world.stat(inode).nlink == 0
        assert world.names(inode) == set()
        assert world.files.find(inode, b"x") is None
        world.files.forget(inode, 1)
        assert is_gone(world, inode)


def test_a_file_without_a_name_can_be_given_one() -> None:
    with world_over(Stores(capability=SMALL)) as world:
        inode = number_of(world.files.tmpfile(ROOT, 0o100600, USER))
        assert (world.stat(inode).nlink, world.names()) == (0, set())
        fill(world, inode)
        assert number_of(world.files.link(inode, ROOT, b"a")) == inode
        assert (world.stat(inode).nlink, world.keys(b"U")) == (1, [])
        assert world.files.path_of(inode) == b"a"
        world.files.forget(inode, 2)
        assert (world.find(b"a"), len(world.read(inode))) == (inode, 1000)
        nameless = number_of(world.files.tmpfile(ROOT, 0o100600, USER))
        world.files.forget(nameless, 1)
        assert is_gone(world, nameless)


# -- what is left over -----------------------------------------------------------------------------


def test_a_volume_that_is_closed_leaves_nothing() -> None:
    stores = Stores(capability=SMALL)
    with world_over(stores) as world:
        inode = world.make(b"a")
        fill(world, inode)
        world.files.unlink(ROOT, b"a")
        world.files.tmpfile(ROOT, 0o100600, USER)
    with world_over(stores) as world:
        assert inconsistencies(world.store) == []
        assert is_gone(world, inode)


def test_a_later_process_removes_what_a_killed_one_had_in_use() -> None:
    stores = Stores(capability=SMALL)
    with world_over(stores) as world:
        inodes = [world.make(b"%d" % number) for number in range(1200)]
        for number, inode in enumerate(inodes):
            world.files.write(inode, 0, b"x" * 200)
            world.files.unlink(ROOT, b"%d" % number)
        assert len(world.keys(b"U")) == 1200
        assert world.files.reclaim_all() == 1200
        assert world.keys(b"U") == world.keys(b"E") == []
        assert world.files.reclaim_all() == 0
