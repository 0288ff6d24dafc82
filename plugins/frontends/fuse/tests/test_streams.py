"""Readers in every order, simulated: which of their reads still come to us, and what is pushed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence

import attrs
import pytest

from kvfs.files import Buffer, Order, Place
from kvfs_frontend_fuse.pushing.streams import MISSES_MAX, REST_MIN, Streams

FILES = 200


@attrs.define
class Layout:
    """Directories of files whose slots, inode numbers and names follow different orders."""

    directories: int = 5
    files: int = FILES
    by_slot: dict[int, list[Place]] = attrs.field(factory=dict)
    by_name: dict[int, list[Place]] = attrs.field(factory=dict)
    places: dict[int, Place] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        source = random.Random(3)
        for number in range(self.directories):
            parent = 10_000 * (number + 1)
            slots = source.sample(range(100, 10_000), self.files)
            listed = [Place(parent + 1 + i, parent, slot) for i, slot in enumerate(slots)]
            self.places.update((place.inode, place) for place in listed)
            self.by_slot[parent] = sorted(listed, key=lambda place: place.slot)
            self.by_name[parent] = source.sample(listed, self.files)

    def _order(self, order: Order, place: Place) -> list[Place]:
        if order is Order.NUMBER:
            return list(self.places.values())
        return (self.by_slot if order is Order.SLOT else self.by_name)[place.parent]

    def place(self, inode: int) -> Place | None:
        return self.places.get(inode)

    def after(self, order: Order, place: Place, limit: int) -> Sequence[Place]:
        places = self._order(order, place)
        at = places.index(place)
        return places[at + 1 : at + 1 + limit]

    def is_first(self, order: Order, place: Place) -> bool:
        if order is Order.NUMBER:
            return place.inode == place.parent + 1
        return self._order(order, place)[0] == place

    def contents(self, inode: int, size_max: int) -> Buffer | None:
        raise AssertionError("planning needs no contents")

    def release(self) -> None:
        raise AssertionError("planning keeps no view")

    def walk(self, order: Order) -> list[int]:
        """The inodes, directory by directory, in an order."""
        return [
            place.inode
            for parent in self.by_slot
            for place in self._order(order, self.by_slot[parent][0])
            if place.parent == parent
        ]


@attrs.define
class Kernel:
    """The page cache: a file in it is read without our seeing it."""

    streams: Streams
    cached: set[int] = attrs.field(factory=set)
    known: Callable[[int], bool] = lambda _: True
    size: int = 1000
    pushes_a_read: int | None = None
    """How many files are pushed while the reader reads one; ``None``: all that are to be."""
    reader: int = 1
    requests: int = 0
    pushed: int = 0
    rest: int = 0

    def read(self, inodes: Iterable[int]) -> None:
        """A reader opens files one after the other."""
        for inode in inodes:
            if inode not in self.cached:
                self.requests += 1
                self.cached.add(inode)
                if self.rest:
                    self.rest -= 1
                else:
                    self.rest = self.streams.saw(inode, self.reader)
            self.push(self.pushes_a_read)

    def push(self, limit: int | None) -> None:
        """Let the pushing thread do so much."""
        while limit != 0 and (place := self.streams.next()) is not None:
            limit = None if limit is None else limit - 1
            if not self.known(place.inode):
                self.streams.unknown()
                continue
            self.cached.add(place.inode)
            self.pushed += 1
            self.streams.done(self.size)


def kernel(
    layout: Layout, *, files_max: int = 64, bytes_max: int = 4 << 20, cores: int = 64
) -> Kernel:
    streams = Streams(layout, files_max=files_max, bytes_max=bytes_max, cores=cores)
    return Kernel(streams)


@pytest.mark.parametrize("order", list(Order))
def test_a_reader_in_order_asks_for_few_files(order: Order) -> None:
    layout = Layout()
    simulated = kernel(layout)
    simulated.read(layout.walk(order))
    assert simulated.requests <= len(layout.places) * 0.15
    assert simulated.requests + simulated.pushed == len(layout.places)
    assert (simulated.streams.late, simulated.streams.lost) == (0, 0)


def test_one_large_directory_costs_one_request_a_batch() -> None:
    layout = Layout(directories=1, files=6400)
    simulated = kernel(layout)
    simulated.read(layout.walk(Order.SLOT))
    assert simulated.requests <= 6400 / 64 + 20


def test_readers_of_different_directories_are_followed_each() -> None:
    layout = Layout(directories=8)
    simulated = kernel(layout)
    readers = [[place.inode for place in places] for places in layout.by_slot.values()]
    simulated.read(inode for step in zip(*readers, strict=True) for inode in step)
    assert simulated.requests <= len(layout.places) * 0.15


def test_with_more_readers_than_cores_nothing_is_pushed() -> None:
    layout = Layout(directories=8)
    simulated = kernel(layout, cores=2)
    readers = [[place.inode for place in places] for places in layout.by_slot.values()]
    simulated.read(inode for step in zip(*readers, strict=True) for inode in step)
    assert simulated.pushed < len(layout.places) * 0.25


def test_a_reader_that_leaves_some_out_is_followed() -> None:
    layout = Layout(directories=1, files=1000)
    simulated = kernel(layout)
    simulated.read(layout.walk(Order.SLOT)[::2])
    assert simulated.requests <= 500 * 0.4


def test_random_readers_are_left_alone() -> None:
    layout = Layout(directories=50)
    inodes = list(layout.places)
    random.Random(1).shuffle(inodes)
    simulated = kernel(layout)
    simulated.read(inodes)
    assert simulated.pushed < len(inodes) * 0.02
    # And nearly all of their reads go by without a look.
    looked = 0
    streams = kernel(layout).streams
    rest = 0
    for inode in inodes:
        if rest:
            rest -= 1
        else:
            looked += 1
            rest = streams.saw(inode, 1)
    assert looked < len(inodes) * 0.05


def test_random_readers_of_one_directory_are_left_alone() -> None:
    """Whatever is guessed, a small directory has it read soon."""
    layout = Layout(directories=1, files=1500)
    inodes = layout.walk(Order.SLOT)
    random.Random(4).shuffle(inodes)
    simulated = kernel(layout)
    simulated.read(inodes)
    assert simulated.pushed < len(inodes) * 0.1


def test_a_reader_in_order_beside_a_random_one_is_followed() -> None:
    layout = Layout(directories=20)
    simulated = kernel(layout)
    inodes = list(layout.places)
    random.Random(6).shuffle(inodes)
    before = 0
    for one, other in zip(layout.walk(Order.SLOT), inodes, strict=True):
        simulated.reader = 1
        asked = simulated.requests
        simulated.read([one])
        before += simulated.requests - asked
        simulated.reader = 2
        simulated.read([other])
    assert before < len(inodes) * 0.5


def test_who_reads_in_order_after_random_reads_is_found_again() -> None:
    layout = Layout(directories=20)
    inodes = list(layout.places)
    simulated = kernel(layout)
    simulated.read(random.Random(2).sample(inodes, MISSES_MAX + REST_MIN // 2))
    simulated.cached.clear()
    simulated.requests = 0
    simulated.read(layout.walk(Order.SLOT))
    assert simulated.requests <= len(inodes) * 0.15


def test_a_reader_that_is_faster_is_met_further_on() -> None:
    layout = Layout(directories=1, files=2000)
    simulated = kernel(layout)
    simulated.pushes_a_read = 0
    inodes = layout.walk(Order.SLOT)
    for start in range(0, 2000, 2):
        simulated.read(inodes[start : start + 2])
        simulated.push(1)  # one file in the time of two
    assert simulated.streams.late > 0
    # What was pushed lay ahead of the reader, or it was no use.
    assert simulated.pushed > 400
    assert simulated.requests + simulated.pushed <= 2000 + 64


def test_a_push_that_met_the_reader_leaves_it_the_next_files() -> None:
    layout = Layout(directories=1)
    simulated = kernel(layout)
    inodes = layout.walk(Order.SLOT)
    simulated.pushes_a_read = 0
    simulated.read(inodes[:2])
    first = simulated.streams.next()
    assert first is not None
    simulated.streams.done(1)
    simulated.streams.met()
    following = simulated.streams.next()
    assert following is None or inodes.index(following.inode) > inodes.index(first.inode) + 1


def test_where_the_kernel_has_no_room_little_is_pushed() -> None:
    layout = Layout(directories=1, files=4000)
    simulated = kernel(layout)
    for inode in layout.walk(Order.SLOT):
        simulated.read([inode])
        simulated.cached.clear()  # no room for anything
    assert simulated.streams.lost > 0
    assert simulated.requests == 4000
    assert simulated.pushed < 600


def test_nothing_is_pushed_to_who_has_not_listed() -> None:
    layout = Layout(directories=20)
    simulated = kernel(layout)
    simulated.known = lambda _: False
    simulated.read(layout.walk(Order.SLOT))
    assert simulated.pushed == 0
    assert simulated.requests == len(layout.places)


def test_pushing_stops_where_the_kernel_has_not_listed_and_goes_on_there() -> None:
    layout = Layout(directories=4)
    simulated = kernel(layout)
    inodes = layout.walk(Order.NUMBER)
    listed: set[int] = set()
    simulated.known = lambda inode: inode in listed
    for start in range(0, len(inodes), FILES):  # a directory is listed when it is entered
        listed.update(inodes[start : start + FILES])
        simulated.read(inodes[start : start + FILES])
    assert simulated.requests <= len(inodes) * 0.15


def test_a_batch_has_no_more_bytes_than_it_may() -> None:
    layout = Layout(directories=1, files=1000)
    simulated = kernel(layout, bytes_max=10_000)
    largest = 0
    for inode in layout.walk(Order.SLOT):
        before = simulated.pushed
        simulated.read([inode])
        largest = max(largest, simulated.pushed - before)
    assert largest == 10
    assert simulated.requests <= 1000 * 0.2


def test_what_is_known_of_readers_is_bounded() -> None:
    layout = Layout(directories=200, files=50)
    simulated = kernel(layout)
    for parent in list(layout.by_slot):
        simulated.read([place.inode for place in layout.by_slot[parent][:5]])
    streams = simulated.streams
    assert len(streams._planned) < 32 * 64 * 4
    assert len(streams._guesses) <= 64
