"""Memory is flat in the number of files, of tarballs, and of bytes: over a real engine."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvfs.tarballs import namespace, tree
from kvfs.testing.invariants import violations

from .support import Made, volume_of


def header_of(name: bytes) -> bytes:
    """A ustar header of an empty file."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:148] = b"0000644\0000000000\0000000000\00000000000000\00000000000000\0"
    block[156:157] = b"0"
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def tiny_files(count: int, directories: int) -> Iterator[bytes]:
    """An archive of empty files."""
    for number in range(count):
        yield header_of(b"d%d/file%d" % (number % directories, number))
    yield bytes(1024)


def peak_of(action: Callable[[], object]) -> int:
    """The most bytes of Python's memory that there were at once."""
    gc.collect()
    tracemalloc.start()
    action()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_an_ingest_of_more_files_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (30_000, 120_000):
        made = Made(lambda: iter(["t.tar"]), lambda name, n=count: tiny_files(n, 500))  # type: ignore[misc]
        with volume_of(tmp_path / str(count), made) as volume:
            volume.refresh()
            [(number, _)] = volume.tarballs.catalogue
            peaks.append(peak_of(lambda: volume.tarballs.fetch(number)))  # noqa: B023
            [(_, record)] = volume.tarballs.catalogue
            assert record.members == count
    print(f"peaks: {peaks}")
    assert peaks[1] < 1.2 * peaks[0], peaks
    assert peaks[1] < 100 << 20, peaks


def test_more_directories_than_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of directories is begun anew, several times, and every link count is right."""
    monkeypatch.setattr(tree, "DIRECTORIES_CACHED", 300)
    made = Made(lambda: iter(["t.tar"]), lambda name: tiny_files(5_000, 2_500))
    with volume_of(tmp_path, made) as volume:
        volume.refresh()
        [(number, _)] = volume.tarballs.catalogue
        volume.tarballs.fetch(number)
        files = volume.files(wait=True)
        assert files.open_path(b"t").nlink == 2_502
        assert [*violations(volume)] == []


def test_a_listing_of_more_tarballs_takes_no_more_memory(tmp_path: Path) -> None:
    """And how long 100,000 objects take is printed: see ``pytest -s``.

    Objects are taken in chunks, of which two are there at a time: both sizes are above that.
    """
    assert 2 * namespace._STEP <= 20_000
    peaks = []
    for count in (20_000, 60_000, 100_000):
        made = Made(
            lambda n=count: (f"d{i // 1000:03}/{i:06}.tar" for i in range(n)),  # type: ignore[misc]
            lambda name: iter(()),
        )
        with volume_of(tmp_path / str(count), made) as volume:
            start = time.perf_counter()
            assert volume.refresh().added == count
            between = time.perf_counter()
            if count < 100_000:
                peaks.append(peak_of(volume.refresh))
            else:
                assert volume.refresh().added == 0
                end = time.perf_counter()
                print(f"\n{count:,} objects: {between - start:.2f} s, again {end - between:.2f} s")
            files = volume.files(wait=True)
            total = sum(
                1
                for directory in files.entries(1)
                for _ in files.entries(directory.attributes.inode)
            )
            assert total == count
    print(f"peaks: {peaks}")
    assert peaks[1] < 1.2 * peaks[0], peaks
