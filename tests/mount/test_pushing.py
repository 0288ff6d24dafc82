"""Contents that are pushed into the page cache: the same bytes, whoever reads them and how.

These tests are about the direct binding, which alone can push.
"""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvfs.testing.contents import assert_same_bytes
from kvfs.testing.mounts import Mounted, Site, site_in

DIRECTORIES, FILES = 10, 150
SMALL = (0, 1, 511, 4095, 4096, 4097, 12_000, 40_000, 65_536, 70_001)
SIZES = (*SMALL, 300_000)
Contents = dict[str, bytes]


def _tree(sizes: tuple[int, ...]) -> Contents:
    source = random.Random(11)
    block = source.randbytes(1 << 20)
    found = {}
    for directory in range(DIRECTORIES):
        for number in range(FILES):
            size = source.choice(sizes)
            start = source.randrange(len(block) - size)
            found[f"d{directory}/{source.randrange(1 << 20):05x}-{number}"] = block[
                start : start + size
            ]
    return found


@pytest.fixture(scope="module")
def contents() -> Contents:
    return _tree(SIZES)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, contents: Contents) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("site"), frontend="fuse") as made:
        (made.path / "tarballs").mkdir()
        _archive(made.path / "tarballs" / "t.tar", contents)
        _archive(made.path / "tarballs" / "small.tar", _tree(SMALL))
        yield made


def _archive(path: Path, contents: Contents) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture
def mounted(site: Site) -> Iterator[Mounted]:
    """Freshly mounted, so that the kernel has nothing of it; all is in the engine."""
    served = site.mount(site.path / "tarballs")
    assert len(os.listdir(served.path / "t")) == DIRECTORIES
    yield served
    served.umount()


def requests(mounted: Mounted) -> dict[str, int]:
    """The requests that the mount has had."""
    found: dict[str, int] = json.loads(os.getxattr(mounted.path, "user.kvfs.requests"))
    return found


def _as_listed(root: Path) -> list[str]:
    return [
        f"d{number}/{name}"
        for number in range(DIRECTORIES)
        for name in os.listdir(root / f"d{number}")
    ]


def _by_number(root: Path) -> list[str]:
    found = []
    for number in range(DIRECTORIES):
        with os.scandir(root / f"d{number}") as entries:
            found += [(entry.inode(), f"d{number}/{entry.name}") for entry in entries]
    return [name for _, name in sorted(found)]


def _by_name(root: Path) -> list[str]:
    return sorted(_as_listed(root))


def _shuffled(root: Path) -> list[str]:
    names = _as_listed(root)
    random.Random(5).shuffle(names)
    return names


def _compare(root: Path, names: list[str], contents: Contents) -> None:
    for name in names:
        assert_same_bytes((root / name).read_bytes(), contents[name])


@pytest.mark.parametrize("order", [_as_listed, _by_number, _by_name, _shuffled])
def test_every_order_gives_the_same_bytes(
    mounted: Mounted, contents: Contents, order: Callable[[Path], list[str]]
) -> None:
    root = mounted.path / "t"
    names = order(root)
    assert set(names) == set(contents)
    _compare(root, names, contents)
    _compare(root, names, contents)


@pytest.mark.parametrize("order", [_as_listed, _by_number, _by_name])
def test_a_patient_reader_in_order_causes_few_requests(
    mounted: Mounted, order: Callable[[Path], list[str]]
) -> None:
    root = mounted.path / "small"
    names = order(root)
    before = requests(mounted)
    for name in names:
        descriptor = os.open(root / name, os.O_RDONLY)
        os.read(descriptor, 1 << 20)
        os.close(descriptor)
        time.sleep(0.0005)  # so that pushing is never late, on whatever machine
    after = requests(mounted)
    assert after["READ"] - before.get("READ", 0) <= len(names) * 0.2
    assert after["pushed_files"] - before.get("pushed_files", 0) > len(names) / 2


def test_random_reads_push_next_to_nothing(mounted: Mounted) -> None:
    root = mounted.path / "t"
    before = requests(mounted)
    for name in _shuffled(root):
        (root / name).read_bytes()
    after = requests(mounted)
    assert after.get("pushed_files", 0) - before.get("pushed_files", 0) < DIRECTORIES * FILES * 0.1


def test_many_readers_of_the_same_files_at_once(mounted: Mounted, contents: Contents) -> None:
    """Readers and the pushing thread want the same pages all the time."""
    root = mounted.path / "t"
    names = _as_listed(root)

    def read(start: int) -> None:
        _compare(root, names[start:] + names[:start], contents)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, [0, 0, 0, 1, 2, 5, 400, 800]))


def test_pages_that_are_dropped_all_the_time(mounted: Mounted, contents: Contents) -> None:
    root = mounted.path / "t"
    names = _as_listed(root)
    for start in range(0, len(names), 100):
        Path("/proc/sys/vm/drop_caches").write_text("1\n")
        _compare(root, names[max(start - 50, 0) : start + 100], contents)


def test_pushing_can_be_turned_off(site: Site, contents: Contents) -> None:
    served = site.mount(site.path / "tarballs", "-o", "push=false")
    _compare(served.path / "t", _as_listed(served.path / "t"), contents)
    assert "pushed_files" not in requests(served)
    served.umount()
