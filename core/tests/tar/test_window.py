"""The window over a stream: places, refills, buffers that are held."""

from __future__ import annotations

import gc
import io
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvfs.errors import Invalid, Unavailable
from kvfs.tar import TarReader, Truncated
from kvfs.tar.window import Window

from .support import END, Dribble, entry

DATA = bytes(number * 7 % 251 for number in range(10_000))


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 500)), max_size=20),
    seekable=st.booleans(),
    hold=st.booleans(),
)
def test_any_walk_forwards_finds_the_right_bytes(
    steps: list[tuple[int, int]], seekable: bool, hold: bool
) -> None:
    window = Window(io.BytesIO(DATA) if seekable else Dribble(DATA, 130), capacity=500)
    held = []
    offset = 0
    for ahead, size in steps:
        offset += ahead
        at = window.locate(offset, size)
        wanted = DATA[offset : offset + size]
        if at < 0:
            assert len(wanted) < size or offset > len(DATA)
            assert window.seen_end == len(DATA)
            break
        assert window.view[at : at + size] == wanted
        if hold:
            held.append((window.view[at : at + size], wanted))
    for view, wanted in held:
        assert view == wanted


def test_buffers_are_used_again_unless_they_are_held() -> None:
    window = Window(Dribble(DATA, 10_000), capacity=500)
    seen = set()
    for offset in range(0, 9000, 400):
        at = window.locate(offset, 400)
        view = window.view[at : at + 400]
        seen.add(id(view.obj))
    # One view alive at each refill: two buffers take turns.
    assert len(seen) == 2


def test_there_is_no_way_back() -> None:
    window = Window(Dribble(DATA), capacity=500)
    window.locate(5000, 10)
    with pytest.raises(Invalid, match="gone"):
        window.locate(4000, 10)
    with pytest.raises(Invalid, match="do not fit"):
        window.locate(5000, 501)


def test_reads_of_any_size() -> None:
    window = Window(Dribble(DATA), capacity=500)
    assert window.read(100, 5000) == DATA[100:5100]
    assert window.read(5100, 0) == b""
    with pytest.raises(Truncated):
        window.read(5100, 4901)


def test_a_stream_that_has_nothing_to_say_is_unavailable() -> None:
    class Silent(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, target: object) -> None:
            return None

    with pytest.raises(Unavailable, match="non-blocking"):
        Window(Silent(), capacity=500).locate(0, 1)


def test_a_reader_left_half_way_is_freed_at_once() -> None:
    gc.disable()
    try:
        reader = TarReader(io.BytesIO(entry(b"a") + entry(b"b") + END))
        members = iter(reader)
        next(members)
        gone = weakref.ref(reader)
        del reader, members
        assert gone() is None
    finally:
        gc.enable()


def test_a_reader_is_iterated_once() -> None:
    reader = TarReader(io.BytesIO(END))
    assert list(reader) == []
    with pytest.raises(Invalid):
        iter(reader)
