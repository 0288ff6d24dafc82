"""Odd archives mean what they mean to GNU tar: it unpacks them, and the trees are compared."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import pytest

from kvfs.testing.volumes import Stores

from .support import (
    IMPLIED,
    assert_as_unpacked,
    directory,
    fifo,
    file,
    hardlink,
    served,
    symlink,
    tarball,
    unpack,
)

KINDS = {
    "file": lambda name: file(name, b"file " + name, mode=0o640, mtime=1),
    "large": lambda name: file(name, b"large" * 40_000, mtime=2),
    "directory": lambda name: directory(name + b"/", mode=0o711, mtime=3),
    "symlink": lambda name: symlink(name, b"target", mtime=4),
    "link to a directory": lambda name: symlink(name, b"d", mtime=5),
    "dangling link": lambda name: symlink(name, b"nowhere", mtime=6),
    "hard link": lambda name: hardlink(name, b"target"),
    "hard link to a link": lambda name: hardlink(name, b"l"),
    "fifo": lambda name: fifo(name, mtime=7),
}
BASE = (
    file(b"target", b"of links", mtime=10),
    directory(b"d/", mtime=11),
    symlink(b"l", b"target", mtime=12),
)


def compare(
    stores: Stores, tmp_path: Path, data: bytes, *, ignoring: tuple[str, ...] = ()
) -> tuple[int, str, int]:
    """Files that were the same, what GNU tar complained of, and how many things KVFS lost."""
    (tmp_path / "a.tar").write_bytes(data)
    complaints = unpack(tmp_path / "a.tar", tmp_path / "unpacked", check=False)
    stores.backing.write("a.tar", data)
    with stores.volume() as volume:
        count = assert_as_unpacked(
            volume, b"a", tmp_path / "unpacked", ignoring=("root", "directory.nlink", *ignoring)
        )
        [(_, record)] = volume.tarballs.catalogue
        return count, complaints, record.lost


@pytest.mark.parametrize(("first", "second"), [*product(KINDS, repeat=2)])
def test_the_last_of_a_name_wins(stores: Stores, tmp_path: Path, first: str, second: str) -> None:
    data = tarball(*BASE, KINDS[first](b"x"), file(b"other"), KINDS[second](b"x"))
    count, complaints, lost = compare(stores, tmp_path, data)
    assert (count, complaints, lost) == (6, "", 0)


@pytest.mark.parametrize("second", KINDS)
def test_a_directory_that_is_not_empty_stays(stores: Stores, tmp_path: Path, second: str) -> None:
    data = tarball(*BASE, directory(b"x/", mtime=20), file(b"x/in"), KINDS[second](b"x"))
    count, complaints, lost = compare(stores, tmp_path, data)
    assert count == 6
    assert (lost == 0) == (complaints == "") == (second == "directory")


@pytest.mark.parametrize("first", KINDS)
def test_a_name_below_what_is_no_directory(stores: Stores, tmp_path: Path, first: str) -> None:
    data = tarball(*BASE, KINDS[first](b"x"), file(b"x/in"), file(b"after"))
    count, complaints, lost = compare(stores, tmp_path, data, ignoring=("directory.mtime_ns",))
    is_directory = first in ("directory", "link to a directory")
    assert count == 6 + is_directory
    assert (lost == 0) == (complaints == "") == is_directory


@pytest.mark.parametrize("replaced", ["file", "symlink", "fifo"])
@pytest.mark.parametrize("victim", [b"first", b"second", b"third"])
def test_a_name_of_several_is_replaced(
    stores: Stores, tmp_path: Path, victim: bytes, replaced: str
) -> None:
    data = tarball(
        file(b"first", b"shared" * 20_000, mtime=1),
        hardlink(b"second", b"first"),
        hardlink(b"third", b"second"),
        KINDS[replaced](victim),
        hardlink(b"fourth", b"third"),
        file(b"target"),
    )
    count, complaints, lost = compare(stores, tmp_path, data)
    assert (count, complaints, lost) == (6, "", 0)


@pytest.mark.parametrize("order", [*permutations([b"1", b"2", b"3"])])
def test_all_names_of_a_file_are_replaced(
    stores: Stores, tmp_path: Path, order: tuple[bytes, ...]
) -> None:
    data = tarball(
        file(b"1", b"old" * 50_000),
        hardlink(b"2", b"1"),
        hardlink(b"3", b"1"),
        *(file(name, b"new " + name) for name in order),
        hardlink(b"4", order[0]),
    )
    count, complaints, lost = compare(stores, tmp_path, data)
    assert (count, complaints, lost) == (5, "", 0)


CASES = {
    "hard link before its target": (hardlink(b"h", b"later"), file(b"later")),
    "hard link to itself": (file(b"f"), hardlink(b"f", b"f")),
    "hard link again": (file(b"f"), hardlink(b"h", b"f"), hardlink(b"h", b"f")),
    "hard link to a directory": (directory(b"d/"), hardlink(b"h", b"d")),
    "hard link through a link": (
        directory(b"d/"),
        file(b"d/f"),
        symlink(b"l", b"d"),
        hardlink(b"h", b"l/f"),
    ),
    "hard link with dots in its target": (file(b"d/f"), hardlink(b"h", b"./d/.//f")),
    "directory listed after its contents": (file(b"d/e/f"), directory(b"d/e/", mode=0o700)),
    "directory listed twice": (
        directory(b"d/", mode=0o700, mtime=1),
        file(b"d/f"),
        directory(b"d/", mode=0o711, mtime=2),
    ),
    "a root of its own": (directory(b"./", mode=0o700), file(b"./f")),
    "dots and slashes": (
        file(b"./a"),
        file(b"b//c"),
        file(b"./d/./e"),
        directory(b"g///"),
        file(b"././/h"),
    ),
    "one directory in three spellings": (file(b"d/1"), file(b"./d/2"), file(b"d//3")),
    "absolute names": (file(b"/a"), directory(b"/d/"), file(b"//e/f"), hardlink(b"h", b"/a")),
    "file named as a directory": (file(b"f/", b""),),
    "members below a link": (directory(b"d/"), symlink(b"l", b"d"), file(b"l/f"), file(b"l/e/f")),
    "members below a link to a link": (
        directory(b"d/"),
        symlink(b"k", b"d"),
        symlink(b"l", b"k"),
        file(b"l/f"),
    ),
    "a link becomes a directory": (
        directory(b"d/"),
        symlink(b"l", b"d"),
        file(b"l/before"),
        directory(b"l/"),
        file(b"l/after"),
    ),
    "an empty directory becomes a link": (
        directory(b"d/"),
        directory(b"x/"),
        symlink(b"x", b"d"),
        file(b"x/f"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_odd_archives(stores: Stores, tmp_path: Path, case: str) -> None:
    # Directories that are only implied have the time, owner and mode of the unpacking, and GNU tar
    # sets the times of directories too early for members that come back to them.
    ignoring = tuple(f"directory.{field}" for field in IMPLIED)
    _, complaints, lost = compare(stores, tmp_path, tarball(*CASES[case]), ignoring=ignoring)
    # It announces that it strips slashes, which loses nothing.
    assert (lost == 0) == (complaints.replace("Removing leading `/'", "").count("Cannot") == 0)


def test_names_that_gnu_tar_cannot_make(stores: Stores) -> None:
    """Deliberately otherwise: ``a/.`` is the directory ``a`` itself, in whatever form."""
    data = tarball(directory(b"a/.", mode=0o700), directory(b"b/./", mode=0o711), file(b"a/f"))
    stores.backing.write("a.tar", data)
    with stores.volume() as volume:
        assert served(volume, b"a") == {b"a": None, b"a/f": b"contents", b"b": None}
        assert volume.files(wait=True).open_path(b"a/a").mode & 0o7777 == 0o700
        assert volume.files(wait=True).open_path(b"a/b").mode & 0o7777 == 0o711
