"""Directories of a hundred thousand entries: whole, resumed, and listed by many at once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from .conftest import Serve

pytestmark = pytest.mark.timeout(120)
ENTRIES = 100_000


class Dirent(ctypes.Structure):
    """``struct dirent`` of glibc on 64-bit Linux."""

    _fields_ = (
        ("d_ino", ctypes.c_uint64),
        ("d_off", ctypes.c_int64),
        ("d_reclen", ctypes.c_uint16),
        ("d_type", ctypes.c_uint8),
        ("d_name", ctypes.c_char * 256),
    )


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir.restype = ctypes.POINTER(Dirent)
LIBC.readdir.argtypes = LIBC.telldir.argtypes = LIBC.closedir.argtypes = (ctypes.c_void_p,)
LIBC.telldir.restype = ctypes.c_long
LIBC.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """A directory stream of the C library."""
    stream = LIBC.opendir(os.fsencode(path))
    assert stream, os.strerror(ctypes.get_errno())
    try:
        yield stream
    finally:
        LIBC.closedir(stream)


def rest(stream: int, limit: int | None = None) -> list[bytes]:
    """The names that follow, at most ``limit``."""
    names: list[bytes] = []
    while limit is None or len(names) < limit:
        entry = LIBC.readdir(stream)
        if not entry:
            break
        names.append(entry.contents.d_name)
    return names


@pytest.mark.parametrize(
    ("readdirplus", "entries"), [("always", ENTRIES), ("auto", 5000), ("never", 5000)]
)
def test_whole_and_once(serve: Serve, readdirplus: str, entries: int) -> None:
    served = serve(f"listing:{entries}", settings={"readdirplus": readdirplus})
    many = served.target / "many"
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(many)}
    assert all(sizes[f"entry-{number:07d}"] == len(str(number)) for number in range(entries))
    expected = {f"entry-{number:07d}" for number in range(entries)}
    for _ in range(2):
        names = os.listdir(many)
        assert len(names) == entries
        assert set(names) == expected
    served.signal(15)
    calls = served.end()
    assert ("readdirplus" in calls) is (readdirplus != "never")
    if readdirplus == "always":
        assert "readdir" not in calls
        # The listing carried the attributes.  Only under memory pressure the kernel asks again.
        assert calls["lookup"] < entries // 2


def test_a_listing_resumes_where_it_was(serve: Serve) -> None:
    with opened(serve(f"listing:{ENTRIES}").target / "many") as stream:
        everything = rest(stream)
        assert len(everything) == ENTRIES + 2
        LIBC.seekdir(stream, 0)
        marks: dict[int, int] = {}
        at = 0
        for position in (0, 1, 2, 777, 50_000, 99_999):
            rest(stream, position - at)
            at = position
            marks[position] = LIBC.telldir(stream)
        for position in (99_999, 777, 0, 50_000, 2, 1):
            LIBC.seekdir(stream, marks[position])
            assert rest(stream, 500) == everything[position : position + 500]
        LIBC.seekdir(stream, marks[777])
        assert rest(stream) == everything[777:]
        assert rest(stream) == []


def test_many_list_at_once(serve: Serve) -> None:
    many = serve(f"listing:{ENTRIES // 4}").target / "many"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: frozenset(os.listdir(many)), range(8)))
    assert {len(names) for names in found} == {ENTRIES // 4}
    assert len(set(found)) == 1
