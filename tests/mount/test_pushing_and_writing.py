"""Contents that are pushed into the page cache while the files are written to.

What is pushed was fetched; once a tarball is written to, that may be old, and the kernel would keep
it for ever.  So the first write into each of many tarballs comes while its files are being pushed.
"""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.mounts import Mounted, Site, site_in

TARBALLS = 8
FILES = 100
SIZES = (1000, 4096, 12_000, 40_000, 100_000)
LEAD = 3
"""So many files ahead of the reader the writer begins, where things are just being pushed."""


def contents(tarball: int, number: int) -> bytes:
    """What is in a file to begin with."""
    source = random.Random(f"{tarball}/{number}")
    return source.randbytes(source.choice(SIZES))


def name(number: int) -> str:
    """Of a file, which says nothing of the order in which they are listed."""
    return f"{random.Random(number).randrange(1 << 30):08x}-{number}"


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """Everything is fetched, and the kernel has no contents yet."""
    with site_in(tmp_path_factory.mktemp("site"), frontend="fuse") as site:
        served = site.mount(_volume(site))
        for tarball in range(TARBALLS):
            assert len(os.listdir(served.path / f"t{tarball}")) == FILES
        yield served
        served.umount()


def _volume(site: Site) -> Path:
    folder = site.path / "folder"
    folder.mkdir()
    for tarball in range(TARBALLS):
        with tarfile.open(folder / f"t{tarball}.tar", "w") as tar:
            for number in range(FILES):
                data = contents(tarball, number)
                member = tarfile.TarInfo(name(number))
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return site.config({"driver": "posix", "path": str(folder)}, volume={"writable": True})


class Reader(Thread):
    """Reads files one after another, and tells when it has come to one of them."""

    def __init__(self, paths: list[Path], start: int) -> None:
        super().__init__(daemon=True)
        self._paths = paths
        self._start = start
        self.reached = Event()
        self.start()

    def run(self) -> None:
        for number, path in enumerate(self._paths):
            if number == self._start:
                self.reached.set()
            path.read_bytes()


def _overwrite(path: Path, data: bytes) -> None:
    """As long as before, in place."""
    descriptor = os.open(path, os.O_WRONLY)
    assert os.pwrite(descriptor, data, 0) == len(data)
    os.close(descriptor)


def _drop_pages(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _pushed(mounted: Mounted) -> int:
    requests: dict[str, int] = json.loads(os.getxattr(mounted.path, "user.kvfs.requests"))
    return requests.get("pushed_files", 0)


def test_nothing_old_is_pushed_over_what_was_written(mounted: Mounted) -> None:
    source = random.Random(3)
    for tarball in range(TARBALLS):
        root = mounted.path / f"t{tarball}"
        with os.scandir(root) as entries:
            listed = [entry.name for entry in entries if entry.stat().st_size]
        expected = {each: contents(tarball, int(each.partition("-")[2])) for each in listed}
        start = source.randrange(20, 50)
        reader = Reader([root / each for each in listed], start)
        assert reader.reached.wait(60)
        for each in listed[start + LEAD :]:
            expected[each] = source.randbytes(len(expected[each]))
            _overwrite(root / each, expected[each])
        reader.join(60)
        assert not reader.is_alive()
        for _ in range(2):
            for each in listed:
                assert_same_bytes((root / each).read_bytes(), expected[each])
                _drop_pages(root / each)
    assert _pushed(mounted) > 0
