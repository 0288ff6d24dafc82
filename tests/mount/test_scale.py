"""Many files, large directories, many tarballs; and a daemon whose memory does not follow them.

Reduced sizes, which a test run can afford; the full ones are in ``benchmarks/``.

Over the direct binding only: what is at stake here is the memory of its loop and of an ingest, and
a quarter of a million requests through libfuse and trio would take most of a minute.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

import attrs
import pytest

from kvfs.testing.mounts import Mounted, Site

FEW, MANY, WIDE, TARBALLS = 20_000, 50_000, 50_000, 5_000
FILES_PER_DIRECTORY = 50
MIB = 1 << 20


@attrs.frozen
class Folder:
    """Two volumes, mounted."""

    files: Mounted
    """``wide``, ``few`` and ``many``."""
    tarballs: Mounted
    """Five thousand of them."""


def make_tarball(archive: Path, names: list[str]) -> None:
    """Files of a few bytes, the number of each; directories are implied."""
    with tarfile.open(archive, "w", format=tarfile.USTAR_FORMAT) as out:
        member = tarfile.TarInfo()
        for number, name in enumerate(names):
            data = b"%d\n" % number
            member.name, member.size, member.mtime = name, len(data), 1_000_000_000 + number
            out.addfile(member, BytesIO(data))


def spread(count: int) -> list[str]:
    """Names of so many files in directories of fifty."""
    return [f"d{at // FILES_PER_DIRECTORY:04}/f{at:06}" for at in range(count)]


@pytest.fixture(scope="module")
def frontend() -> str:
    """The one that has to be fast."""
    return "fuse"


@pytest.fixture(scope="module")
def folder(shared_site: Site) -> Folder:
    """All of it, nothing fetched yet."""
    files = shared_site.path / "files"
    files.mkdir()
    make_tarball(files / "few.tar", spread(FEW))
    make_tarball(files / "many.tar", spread(MANY))
    make_tarball(files / "wide.tar", [f"entry {at:05}" for at in range(WIDE)])
    tarballs = shared_site.path / "tarballs"
    (tarballs / "below").mkdir(parents=True)
    make_tarball(tarballs / "t0000.tar", ["only"])
    for number in range(1, TARBALLS):
        place = tarballs / ("below" if number % 2 else "") / f"t{number:04}.tar"
        place.hardlink_to(tarballs / "t0000.tar")
    return Folder(
        shared_site.mount(files, at="files-mnt"), shared_site.mount(tarballs, at="tarballs-mnt")
    )


def count(root: Path, *tests: str) -> int:
    """How many files find(1) finds, with a stat of each."""
    found = subprocess.run(
        ["find", root, *tests, "-size", "-9", "-printf", "."],
        capture_output=True,
        check=True,
    )
    return len(found.stdout)


def read_all(root: Path) -> int:
    """Read every file of :func:`spread`; how many hold what they should."""
    right = 0
    for path, _, names in os.walk(root):
        for name in names:
            with open(os.path.join(path, name), "rb") as file:
                right += file.read() == b"%d\n" % int(name[1:])
    return right


def test_memory_does_not_follow_the_number_of_files(folder: Folder) -> None:
    """Each of the two workers takes what any ingest takes; from then on nothing is added."""
    mounted = folder.files
    assert count(mounted.path / "wide", "-type", "f") == WIDE
    assert count(mounted.path / "few", "-type", "f") == FEW
    before = mounted.memory("RssAnon")
    assert count(mounted.path / "many", "-type", "f") == MANY
    assert count(mounted.path / "many", "-type", "d") == MANY // FILES_PER_DIRECTORY + 1
    assert read_all(mounted.path / "many") == MANY
    assert mounted.memory("RssAnon") - before < 10 * MIB
    assert mounted.memory("VmHWM") < 250 * MIB


def test_a_large_directory(folder: Folder) -> None:
    wide = folder.files.path / "wide"
    names = os.listdir(wide)
    assert len(names) == WIDE
    assert sorted(names) == [f"entry {at:05}" for at in range(WIDE)]
    listed = subprocess.run(["ls", "-f", wide], capture_output=True, check=True).stdout
    assert len(listed.splitlines()) == WIDE + 2
    assert count(wide, "-type", "f") == WIDE
    for number in range(0, WIDE, 997):
        assert (wide / f"entry {number:05}").read_bytes() == b"%d\n" % number
    assert not (wide / "entry 50000").exists()
    assert folder.files.memory("VmHWM") < 250 * MIB


def test_many_tarballs(folder: Folder) -> None:
    mounted = folder.tarballs
    assert len(os.listdir(mounted.path)) == TARBALLS // 2 + 1
    assert len(os.listdir(mounted.path / "below")) == TARBALLS // 2
    # Looked at from outside by one who asks about each, and still not fetched.
    assert count(mounted.path, "-maxdepth", "2", "-type", "d", "-prune") == 1
    attributes = [entry.stat() for entry in os.scandir(mounted.path / "below")]
    assert len({found.st_ino for found in attributes}) == TARBALLS // 2
    assert mounted.states() == {"absent": TARBALLS}
    for number in (0, 1, 2, TARBALLS - 1):
        place = mounted.path / ("below" if number % 2 else "") / f"t{number:04}"
        assert (place / "only").read_bytes() == b"0\n"
    assert mounted.states() == {"absent": TARBALLS - 4, "sealed": 4}
    assert mounted.memory("VmHWM") < 250 * MIB
