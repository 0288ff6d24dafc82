"""The contents of files of a writable tree: sparse, cut off, copied; against a bytearray."""

from __future__ import annotations

import errno
import os
import random
import secrets
from collections.abc import Iterator

import pytest

from kvfs.capability import KVCapability
from kvfs.files import Changes
from kvfs.files.records import InodeFlag
from kvfs.files.writing import COPY_BYTES, FallocateFlag
from kvfs.kv.memory import CAPABILITY
from kvfs.testing.volumes import Stores

from .writing_support import ROOT, SMALL, World, refused, world_over

KEEP, PUNCH, ZERO = FallocateFlag.KEEP_SIZE, FallocateFlag.PUNCH_HOLE, FallocateFlag.ZERO_RANGE
INLINE, EXTENT = SMALL.inline_bytes_best, SMALL.extent_bytes_best


@pytest.fixture
def world() -> Iterator[World]:
    with world_over(Stores(capability=SMALL)) as made:
        yield made


def resize(world: World, inode: int, size: int) -> None:
    """As truncate(2)."""
    world.files.setattr(inode, Changes(size=size))


def extents(world: World) -> list[int]:
    """How long each extent is that is stored."""
    return [len(world.store.get(key) or b"") for key in world.keys(b"E")]


def has_extents(world: World, inode: int) -> bool:
    return bool(world.record(inode).flags & InodeFlag.EXTENTS)


# -- writing ---------------------------------------------------------------------------------------


def test_small_contents_are_in_the_inode_and_move_out_when_they_grow(world: World) -> None:
    inode = world.make(b"a")
    assert world.files.write(inode, 0, b"x" * INLINE) == INLINE
    assert (has_extents(world, inode), extents(world)) == (False, [])
    assert (world.stat(inode).size, world.stat(inode).blocks) == (INLINE, 1)
    world.files.write(inode, INLINE, b"y")
    assert (has_extents(world, inode), extents(world)) == (True, [INLINE + 1])
    world.files.write(inode, INLINE + 1, b"z" * (2 * EXTENT))
    assert extents(world) == [EXTENT, EXTENT, INLINE + 1]
    assert world.read(inode) == b"x" * INLINE + b"y" + b"z" * (2 * EXTENT)
    assert world.stat(inode).blocks == 3


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_written_stays_when_the_buffer_is_used_again(world: World, kind: type) -> None:
    for size in (10, 3 * EXTENT):
        inode, buffer = world.make(b"%d" % size), bytearray(b"x" * size)
        world.files.write(inode, 0, kind(buffer))
        buffer[:] = b"y" * size
        assert world.read(inode) == b"x" * size


def test_times_of_writing(world: World) -> None:
    inode = world.make(b"a")
    before = world.stat(inode)
    now = world.clock.tick()
    world.files.write(inode, 0, b"")
    assert world.stat(inode) == before
    world.files.write(inode, 50, b"")  # behind the end: nothing, as POSIX has it
    assert world.stat(inode) == before
    world.files.write(inode, 0, b"x")
    found = world.stat(inode)
    assert (found.atime_ns, found.mtime_ns, found.ctime_ns) == (before.atime_ns, now, now)
    now = world.clock.tick()
    resize(world, inode, 1)  # sets the times, though the size is the same
    found = world.stat(inode)
    assert (found.mtime_ns, found.ctime_ns) == (now, now)


def test_time_does_not_go_back_with_the_clock(world: World) -> None:
    inode = world.make(b"a")
    before = world.stat(inode)
    world.clock.now_ns -= 10**9
    world.files.write(inode, 0, b"x")
    assert world.stat(inode).ctime_ns > before.ctime_ns


def test_only_files_have_contents(world: World) -> None:
    directory, fifo = world.mkdir(b"d"), world.make(b"f", mode=0o010644)
    for inode in (directory, fifo):
        with refused(errno.EINVAL):
            world.files.write(inode, 0, b"x")
        with refused(errno.EINVAL):
            world.files.fallocate(inode, 0, 0, 10)
        with refused(errno.EINVAL):
            world.files.seek(inode, 0, os.SEEK_DATA)
    with refused(errno.EISDIR):
        resize(world, directory, 0)
    with refused(errno.EINVAL):
        resize(world, fifo, 0)


# -- truncate --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, EXTENT, EXTENT + 1, 3 * EXTENT, 1000])
@pytest.mark.parametrize(
    "before", [0, INLINE, INLINE + 1, 2 * EXTENT, 2 * EXTENT + 5, 100 * EXTENT]
)
def test_what_was_cut_off_never_shows_again(world: World, before: int, size: int) -> None:
    inode, data = world.make(b"a"), secrets.token_bytes(before)
    world.files.write(inode, 0, data)
    resize(world, inode, size)
    expected = data[:size].ljust(size, b"\0")
    assert (world.stat(inode).size, world.read(inode)) == (size, expected)
    resize(world, inode, before + 50)
    assert world.read(inode) == expected[:before].ljust(before + 50, b"\0")


def test_an_empty_file_has_no_extents(world: World) -> None:
    inode = world.make(b"a")
    for size in (200, 80 * EXTENT):  # few extents go by name, many as a range
        world.files.write(inode, 0, b"x" * size)
        resize(world, inode, 0)
        assert (extents(world), has_extents(world, inode)) == ([], False)
        assert world.stat(inode).blocks == 0


def test_a_file_that_grows_takes_no_room(world: World) -> None:
    inode = world.make(b"a")
    resize(world, inode, 1 << 38)
    assert (extents(world), world.stat(inode).blocks) == ([], 0)
    world.files.write(inode, 1 << 37, b"x")
    assert (extents(world), world.stat(inode).blocks) == ([1], 1)
    assert world.read(inode, (1 << 37) - 2, 5) == b"\0\0x\0\0"
    assert world.read(inode, (1 << 38) - 1, 5) == b"\0"
    assert world.files.seek(inode, 0, os.SEEK_DATA) == 1 << 37
    world.files.unlink(ROOT, b"a")
    world.files.forget(inode, 1)
    assert world.keys(b"E") == []


# -- holes -----------------------------------------------------------------------------------------


def test_data_and_holes_are_told_apart(world: World) -> None:
    inode = world.make(b"a")
    world.files.write(inode, 2 * EXTENT, b"x" * EXTENT)
    world.files.write(inode, 5 * EXTENT, b"y" * 10)
    resize(world, inode, 8 * EXTENT)
    seek = world.files.seek
    for offset, data, hole in (
        (0, 2 * EXTENT, 0),
        (2 * EXTENT - 1, 2 * EXTENT, 2 * EXTENT - 1),
        (2 * EXTENT, 2 * EXTENT, 3 * EXTENT),
        (3 * EXTENT - 1, 3 * EXTENT - 1, 3 * EXTENT),
        (3 * EXTENT, 5 * EXTENT, 3 * EXTENT),
        (5 * EXTENT + 9, 5 * EXTENT + 9, 5 * EXTENT + 10),
    ):
        assert (seek(inode, offset, os.SEEK_DATA), seek(inode, offset, os.SEEK_HOLE)) == (
            data,
            hole,
        )
    assert seek(inode, 5 * EXTENT + 10, os.SEEK_HOLE) == 5 * EXTENT + 10
    for offset, whence in (
        (5 * EXTENT + 10, os.SEEK_DATA),
        (8 * EXTENT, os.SEEK_DATA),
        (8 * EXTENT, os.SEEK_HOLE),
        (-1, os.SEEK_HOLE),
    ):
        with refused(errno.ENXIO):
            seek(inode, offset, whence)


def test_a_small_file_is_data_up_to_its_end(world: World) -> None:
    inode = world.make(b"a")
    with refused(errno.ENXIO):
        world.files.seek(inode, 0, os.SEEK_HOLE)
    world.files.write(inode, 0, b"0123456789")
    assert world.files.seek(inode, 4, os.SEEK_DATA) == 4
    assert world.files.seek(inode, 4, os.SEEK_HOLE) == 10


def test_punching_gives_room_back_and_makes_none(world: World) -> None:
    inode = world.make(b"a")
    world.files.write(inode, 0, b"x" * (6 * EXTENT))
    world.files.fallocate(inode, PUNCH | KEEP, EXTENT + 10, 3 * EXTENT)
    assert extents(world) == [EXTENT, 10, EXTENT, EXTENT]
    assert world.read(inode) == (
        b"x" * (EXTENT + 10) + bytes(3 * EXTENT) + b"x" * (2 * EXTENT - 10)
    )
    before = world.stat(inode).blocks
    world.files.fallocate(inode, PUNCH | KEEP, EXTENT + 20, 2 * EXTENT)  # a hole already
    assert (extents(world), world.stat(inode).blocks) == ([EXTENT, 10, EXTENT, EXTENT], before)
    world.files.fallocate(inode, PUNCH | KEEP, 5 * EXTENT, 100 * EXTENT)  # to the end, and beyond
    assert (extents(world), world.stat(inode).size) == ([EXTENT, 10, EXTENT], 6 * EXTENT)
    world.files.fallocate(inode, PUNCH | KEEP, 0, 6 * EXTENT)
    assert (extents(world), world.stat(inode).blocks) == ([], 0)
    assert world.read(inode) == bytes(6 * EXTENT)


def test_many_extents_are_punched_as_a_range(world: World) -> None:
    inode = world.make(b"a")
    world.files.write(inode, 0, b"x" * (100 * EXTENT))
    world.files.fallocate(inode, PUNCH | KEEP, 5, 98 * EXTENT)
    assert extents(world) == [5, EXTENT, EXTENT]
    assert world.read(inode) == b"xxxxx" + bytes(98 * EXTENT) + b"x" * (2 * EXTENT - 5)


def test_zeros_and_room(world: World) -> None:
    inode = world.make(b"a")
    world.files.write(inode, 0, b"x" * 300)
    now = world.clock.tick()
    world.files.fallocate(inode, ZERO, 290, 20)
    assert world.read(inode) == b"x" * 290 + bytes(20)
    assert (world.stat(inode).mtime_ns, world.stat(inode).ctime_ns) == (now, now)
    world.files.fallocate(inode, ZERO | KEEP, 289, 1000)
    assert world.read(inode) == b"x" * 289 + bytes(21)
    world.files.fallocate(inode, KEEP, 0, 5000)
    assert world.stat(inode).size == 310
    world.files.fallocate(inode, 0, 400, 100)
    assert (world.stat(inode).size, world.read(inode, 280)) == (500, b"x" * 9 + bytes(211))
    small = world.make(b"b")
    world.files.write(small, 0, b"0123456789")
    world.files.fallocate(small, PUNCH | KEEP, 3, 4)
    assert world.read(small) == b"012\0\0\0\x00789"


@pytest.mark.parametrize("mode", [0x08, 0x20, 0x40, 0x04, 0x80, KEEP | 0x08])
def test_modes_that_are_not_known_are_refused(world: World, mode: int) -> None:
    inode = world.make(b"a")
    world.files.write(inode, 0, b"text")
    before = world.stat(inode)
    with refused(errno.EOPNOTSUPP):
        world.files.fallocate(inode, mode, 0, 4)
    assert (world.stat(inode), world.read(inode)) == (before, b"text")


def test_fallocate_of_nothing(world: World) -> None:
    inode = world.make(b"a")
    for offset, length in ((0, 0), (0, -1), (-1, 5)):
        with refused(errno.EINVAL):
            world.files.fallocate(inode, 0, offset, length)


# -- copies ----------------------------------------------------------------------------------------


def test_copies(world: World) -> None:
    source, target = world.make(b"a"), world.make(b"b")
    data = random.Random(1).randbytes(1000)
    world.files.write(source, 0, data)
    assert world.files.copy_range(source, 100, target, 50, 300) == 300
    assert world.read(target) == bytes(50) + data[100:400]
    assert world.files.copy_range(source, 900, target, 0, 300) == 100
    assert world.read(target) == data[900:] + data[150:400]
    assert world.files.copy_range(source, 1000, target, 0, 300) == 0
    assert world.files.copy_range(source, 2000, target, 0, 300) == 0
    assert world.files.copy_range(source, 0, source, 1000, 5000) == 1000
    assert world.read(source) == data + data


def test_a_copy_in_several_steps() -> None:
    with world_over(Stores()) as world:
        source, target = world.make(b"a"), world.make(b"b")
        data = random.Random(1).randbytes(COPY_BYTES * 5 // 2)
        world.files.write(source, 0, data)
        assert world.files.copy_range(source, 1, target, 3, 1 << 40) == len(data) - 1
        assert world.read(target) == bytes(3) + data[1:]


# -- anything, in any order ------------------------------------------------------------------------


def exercise(world: World, seed: int, steps: int, most: int) -> None:
    """Random operations on one file, as fsx does; everything is compared after each."""
    rng = random.Random(seed)
    inode, other = world.make(b"f"), world.make(b"other")
    expected = bytearray()
    for step in range(steps):
        offset, length = rng.randrange(most), rng.choice((1, rng.randrange(1, most)))
        size = len(expected)
        what = rng.choice(("write", "append", "cut", "grow", "punch", "zero", "room", "copy"))
        match what:
            case "write" | "append":
                offset = size if what == "append" else offset
                offset = min(offset, 4 * most)
                data = rng.randbytes(length)
                world.files.write(inode, offset, data)
                expected += bytes(max(offset + length - size, 0))
                expected[offset : offset + length] = data
            case "cut" | "grow":
                new = rng.randrange(size + 1) if what == "cut" else size + offset // 4
                resize(world, inode, new)
                expected[new:] = bytes(max(new - size, 0))
            case "punch" | "zero":
                stop = min(offset + length, size)
                world.files.fallocate(
                    inode, ZERO | KEEP if what == "zero" else PUNCH | KEEP, offset, length
                )
                expected[offset:stop] = bytes(max(stop - offset, 0))
            case "room":
                world.files.fallocate(inode, 0, offset, length)
                expected += bytes(max(offset + length - size, 0))
            case _:
                resize(world, other, 0)
                copied = world.files.copy_range(inode, offset, other, length, length)
                assert world.read(other) == (
                    bytes(length) + expected[offset : offset + length] if copied else b""
                ), (seed, step)
        where = f"seed {seed}, step {step}: {what} {offset} {length}"
        assert world.stat(inode).size == len(expected), where
        assert world.read(inode) == expected, where
        low = rng.randrange(most)
        assert world.read(inode, low, length) == expected[low : low + length], where
        if len(expected) > 4 * most:
            resize(world, inode, 0)
            expected.clear()


@pytest.mark.parametrize(
    ("capability", "most", "steps"),
    [(SMALL, 600, 1500), (CAPABILITY, 3 * CAPABILITY.extent_bytes_best, 100)],
    ids=["small", "usual"],
)
def test_a_file_is_a_bytearray(capability: KVCapability, most: int, steps: int) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    with world_over(Stores(capability=capability)) as world:
        exercise(world, seed, steps, most)
