"""The hard limits: what is just possible, and the errno one past it."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from kvfs.files import Changes
from kvfs.files.attributing import XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX
from kvfs.files.nodes import LINKS_MAX
from kvfs.files.records import NAME_BYTES_MAX
from kvfs.files.writing import SYMLINK_BYTES_MAX
from kvfs.testing.volumes import Stores

from .writing_support import ROOT, SMALL, USER, World, number_of, refused, world_over


@pytest.fixture
def world() -> Iterator[World]:
    with world_over(Stores(capability=SMALL)) as made:
        yield made


@pytest.fixture
def planted() -> Iterator[World]:
    """What is stored here is changed behind the back of the model: it is not checked at the end."""
    with world_over(Stores(capability=SMALL), check=False) as made:
        yield made


def test_the_limits_are_those_of_linux() -> None:
    assert (NAME_BYTES_MAX, LINKS_MAX, SYMLINK_BYTES_MAX) == (255, 65_000, 4095)
    assert (XATTR_BYTES_MAX, XATTR_NAME_BYTES_MAX) == (65_536, 255)


def test_names(world: World) -> None:
    longest, long = b"n" * 255, b"n" * 256
    file, directory = world.make(longest), world.mkdir(b"d")
    assert world.find(longest) == file
    world.files.link(file, directory, longest)
    world.files.rename(directory, longest, directory, b"m" * 255)
    assert world.names(directory) == {b"m" * 255}
    for make in (
        lambda: world.make(long),
        lambda: world.mkdir(long),
        lambda: world.files.symlink(ROOT, long, b"x", USER),
        lambda: world.files.link(file, ROOT, long),
        lambda: world.files.rename(ROOT, longest, ROOT, long),
        lambda: world.files.rename(ROOT, long, ROOT, b"x"),
        lambda: world.files.unlink(ROOT, long),
        lambda: world.files.rmdir(ROOT, long),
    ):
        with refused(errno.ENAMETOOLONG):
            make()


def test_names_of_any_bytes(world: World) -> None:
    names = {bytes((byte,)) for byte in range(1, 256) if byte not in b"/."} | {b"...", b"a\nb"}
    for name in names:
        world.make(name)
    assert world.names() == names


def test_links(planted: World) -> None:
    inode = planted.make(b"a")
    planted.plant(inode, nlink=LINKS_MAX - 1)
    planted.files.link(inode, ROOT, b"b")
    assert planted.stat(inode).nlink == LINKS_MAX
    with refused(errno.EMLINK):
        planted.files.link(inode, ROOT, b"c")
    planted.files.unlink(ROOT, b"b")
    planted.files.link(inode, ROOT, b"c")
    assert planted.names() == {b"a", b"c"}


def test_subdirectories_are_not_limited_but_no_more_counted(planted: World) -> None:
    """As ext4 does it: programs know that a directory with a link count of 1 does not count."""
    directory = planted.mkdir(b"d")
    planted.plant(directory, nlink=LINKS_MAX - 1)
    planted.mkdir(b"one", directory)
    assert planted.stat(directory).nlink == LINKS_MAX
    planted.mkdir(b"two", directory)
    assert planted.stat(directory).nlink == 1
    planted.mkdir(b"three", directory)
    planted.files.rmdir(directory, b"two")
    planted.files.rename(directory, b"three", ROOT, b"three")
    assert planted.stat(directory).nlink == 1
    planted.files.rmdir(directory, b"one")
    planted.files.rmdir(ROOT, b"d")
    assert (planted.stat(directory).nlink, planted.names()) == (0, {b"three"})


def test_the_size_of_a_file(world: World) -> None:
    most = world.files._context.contents.size_max
    assert most == SMALL.extent_bytes_best << 32
    inode = world.make(b"a")
    world.files.write(inode, most - 3, b"end")
    assert (world.stat(inode).size, world.stat(inode).blocks) == (most, 1)
    assert world.read(inode, most - 4, 10) == b"\0end"
    before = world.stat(inode)
    for action in (
        lambda: world.files.write(inode, most - 1, b"xy"),
        lambda: world.files.write(inode, most, b"x"),
        lambda: world.files.write(inode, (1 << 63) - 2, b"x"),
        lambda: world.files.setattr(inode, Changes(size=most + 1)),
        lambda: world.files.setattr(inode, Changes(size=(1 << 63) - 1)),
        lambda: world.files.fallocate(inode, 0, most, 1),
    ):
        with refused(errno.EFBIG):
            action()
    assert world.stat(inode) == before
    world.files.fallocate(inode, 3, 0, most)  # all of it is punched out
    assert (world.keys(b"E"), world.stat(inode).blocks) == ([], 0)
    world.files.setattr(inode, Changes(size=0))
    world.files.setattr(inode, Changes(size=most))
    world.files.unlink(ROOT, b"a")
    world.files.forget(inode, 1)


def test_the_target_of_a_symbolic_link(world: World) -> None:
    inode = number_of(world.files.symlink(ROOT, b"l", b"t" * 4095, USER))
    assert bytes(world.files.readlink(inode)) == b"t" * 4095
    with refused(errno.ENAMETOOLONG):
        world.files.symlink(ROOT, b"m", b"t" * 4096, USER)


def test_extended_attributes(world: World) -> None:
    inode = world.make(b"a")
    world.files.setxattr(inode, b"user.a", b"v" * XATTR_BYTES_MAX)
    assert world.files.getxattr(inode, b"user.a") == b"v" * XATTR_BYTES_MAX
    with refused(errno.E2BIG):
        world.files.setxattr(inode, b"user.a", b"v" * (XATTR_BYTES_MAX + 1))
    name = b"user." + b"n" * 250
    world.files.setxattr(inode, name, b"x")
    assert world.files.getxattr(inode, name) == b"x"
    with refused(errno.ERANGE):
        world.files.setxattr(inode, name + b"n", b"x")
