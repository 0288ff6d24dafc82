"""Readers: what they leave in the page cache, and that they are pinned to one file."""

from __future__ import annotations

import ctypes
import io
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.backing import BackingStore
from kvfs.errors import Invalid

Opener = Callable[..., BackingStore]

_mincore = ctypes.CDLL(None).mincore
_mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


def cached(path: Path) -> float:
    """How much of a file is in the page cache."""
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as pages:
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        states = ctypes.create_string_buffer(size // mmap.PAGESIZE)
        assert _mincore(address, size, states) == 0
        return sum(state & 1 for state in states.raw) / len(states.raw)


@pytest.mark.parametrize("direct", [False, True])
def test_what_stays_in_the_page_cache(opener: Opener, small_ext4: Path, direct: bool) -> None:
    size = 30 << 20
    opener(small_ext4).write("a", os.urandom(size))
    path = small_ext4 / "a"
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert cached(path) < 0.1
    buffer = bytearray(1 << 20)
    total = 0
    with opener(small_ext4, direct=direct).open_reader("a") as reader:
        assert isinstance(reader, io.RawIOBase)
        while count := reader.readinto(buffer):
            total += count
    assert total == size
    assert cached(path) < 0.1 if direct else cached(path) > 0.9


@pytest.mark.parametrize("direct", [False, True])
def test_seek_and_tell(opener: Opener, root: Path, direct: bool) -> None:
    data = os.urandom(100_000)
    store = opener(root, direct=direct)
    store.write("a", data)
    with store.open_reader("a", 10) as reader:
        assert reader.tell() == 10
        assert reader.read(5) == data[10:15]
        assert reader.seek(-10, io.SEEK_END) == 99_990
        assert reader.read(100) == data[-10:]
        assert reader.read(100) == b""
        assert reader.seek(50) == 50
        assert reader.seek(5, io.SEEK_CUR) == 55
        assert reader.read() == data[55:]
        with pytest.raises(Invalid):
            reader.seek(-1)
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)


def test_reader_is_pinned_to_the_file_it_opened(store: BackingStore) -> None:
    store.write("a", b"old" * 1000)
    with store.open_reader("a") as reader:
        assert reader.read(3) == b"old"
        store.write("a", b"new")
        assert reader.read() == b"old" * 999
        store.delete("a")
        reader.seek(0)
        assert reader.read(3) == b"old"


def test_reading_far_behind_the_end_takes_no_memory(store: BackingStore) -> None:
    store.write("a", b"data")
    assert store.read("a", 2, 1 << 60) == b"ta"
    assert store.read("a", 1 << 59, 1 << 60) == b""


def test_file_that_is_cut_short_while_it_is_read(store: BackingStore, root: Path) -> None:
    store.write("a", bytes(1 << 20))
    with store.open_reader("a") as reader:
        assert len(reader.read(1000)) == 1000
        os.truncate(root / "a", 2000)
        assert reader.read() == bytes(1000)
