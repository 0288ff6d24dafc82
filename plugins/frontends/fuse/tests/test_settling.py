"""Before the first change of a tarball, what is being pushed of it has to arrive."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence
from threading import Event
from types import SimpleNamespace
from typing import cast

import pytest

from kvfs.files import Buffer, Order, Place
from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse.protocol.wire import NOTIFY_STORE_OUT, OUT_HEADER
from kvfs_frontend_fuse.pushing.pusher import Pusher
from kvfs_frontend_fuse.serving.device import Device

FILES = 30
FILE_BYTES = 100


class Gated:
    """A directory of files, whose contents come when the test says so."""

    def __init__(self) -> None:
        self.asked, self.gate = Event(), Event()
        self.is_written = False

    def place(self, inode: int) -> Place | None:
        return Place(inode, 1, inode)

    def after(self, order: Order, place: Place, limit: int) -> Sequence[Place]:
        numbers = range(place.inode + 1, min(place.inode + 1 + limit, FILES))
        return [Place(number, 1, number) for number in numbers]

    def is_first(self, order: Order, place: Place) -> bool:
        return False

    def contents(self, inode: int, size_max: int) -> Buffer | None:
        if self.is_written:
            return None
        self.asked.set()
        self.gate.wait(60)
        return b"x" * FILE_BYTES

    def release(self) -> None:
        """There is no view."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """In the place of /dev/fuse."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_settling_waits_for_the_push_that_is_under_way(pipe: tuple[int, int]) -> None:
    following, ended = Gated(), Event()
    device = cast(Device, SimpleNamespace(descriptor=pipe[1], crowded=False))
    pusher = Pusher(device, following, FuseSettings(), on_end=ended.set)
    for inode in (2, 3, 4):
        pusher.saw(inode, reader=7)
    assert following.asked.wait(60)
    # As the volume does it: nothing is asked for from now on, and then what was is waited for.
    following.is_written = True
    following.gate.set()
    pusher.settle()
    size = OUT_HEADER.size + NOTIFY_STORE_OUT.size + FILE_BYTES
    assert select.select([pipe[0]], [], [], 0)[0], "the push had not arrived"
    assert len(os.read(pipe[0], 10 * size)) == size
    pusher.stop()
    assert ended.wait(60)
    pusher.close()
    assert not select.select([pipe[0]], [], [], 0)[0], "something was pushed later"
