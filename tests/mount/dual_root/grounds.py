"""Where histories take place: in empty directories, or in tarballs that nobody has written to."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import attrs

# Relative, as the package above has one name for pytest and another for the command of a soak.
from ..archives import XATTRS, fill, own, run, unpack  # noqa: TID252
from .histories import NAMES, USER


@attrs.frozen
class Place:
    """Where one history takes place, in both worlds."""

    number: int
    """They are of two kinds by turns."""
    top: str
    """What is observed."""
    work: str
    """What the actors are told of: this or something in it."""

    @property
    def below(self) -> str:
        """What paths in ``work`` begin with, seen from ``top``."""
        inside = self.work[len(self.top) + 1 :]
        return f"{inside}/" if inside else ""


class Ground(Protocol):
    """Has a place for each history, with the same in it in both worlds."""

    looks: int
    """So many steps at most only look before something is changed."""
    places: int
    """So many there are."""

    def begin(self, number: int, tested: Path, reference: Path) -> Place:
        """A place that no history was at."""
        ...

    def end(self, place: Place, tested: Path, reference: Path) -> None:
        """Remove what a history left there, as far as it can be removed."""
        ...


class Scratch:
    """Empty directories."""

    looks = 0
    places = sys.maxsize

    def begin(self, number: int, tested: Path, reference: Path) -> Place:
        """Make one."""
        place = Place(number, f"h{number}", f"h{number}/w")
        for world in (tested, reference):
            inside = world / place.work
            inside.mkdir(parents=True)
            for path in (inside, inside.parent):
                path.chmod(0o777)
        return place

    def end(self, place: Place, tested: Path, reference: Path) -> None:
        """Remove it."""
        for world in (tested, reference):
            shutil.rmtree(world / place.top)


class Sealed:
    """Tarballs, each as it was fetched, and what GNU tar makes of them.

    :param folder: is made; it is what the volume has to show.
    :param places: how many tarballs to make.
    """

    looks = 20

    def __init__(self, folder: Path, scratch: Path, *, places: int) -> None:
        self.places = places
        folder.mkdir()
        scratch.mkdir()
        _make_tree(scratch / "below" / "w")
        self._archives = scratch / "root.tar", scratch / "below.tar"
        for archive, tree in zip(
            self._archives, (scratch / "below/w", scratch / "below"), strict=True
        ):
            tree.chmod(0o777)
            # What GNU tar sets access times to is its own affair: see begin().
            words = ["--format=pax", "--pax-option=delete=atime,delete=ctime", "--sparse"]
            run("tar", *words, *XATTRS, "--numeric-owner", "-cf", archive, "-C", tree, ".")
        for number in range(places):
            (folder / f"h{number}.tar").hardlink_to(self._archives[number % 2])

    def begin(self, number: int, tested: Path, reference: Path) -> Place:
        """Take the next one; histories take turns at a tarball's root and below it."""
        unpack(self._archives[number % 2], reference / f"h{number}")
        _read_when_written(reference / f"h{number}")
        return Place(number, f"h{number}", f"h{number}" + "/w" * (number % 2))

    def end(self, place: Place, tested: Path, reference: Path) -> None:
        """Empty it; the tarball stays."""
        for each in os.scandir(tested / place.top):
            if each.is_dir(follow_symlinks=False):
                shutil.rmtree(each)
            else:
                os.unlink(each)
        shutil.rmtree(reference / place.top)


def _make_tree(tree: Path) -> None:
    """Files of every kind and layout, by the names that histories use."""
    block = os.urandom(1 << 20)
    first, second, third, fourth, spaced, odd, long = (tree / name for name in NAMES)
    fill(first, block[:4095], mode=0o666)
    fill(second, block[:300_001], mode=0o666)
    fill(fourth, block[:131_072], mode=0o4755)
    fill(third / "c" / "a", block[:65_537], mode=0o666)
    fill(third / "c" / "d", block[:131_073], mode=0o600)
    fill(third / "c" / "b", b"", mode=0o644)
    (third / "a").hardlink_to(second)
    (third / "b").symlink_to("a")
    fill(spaced / "d", block[:512], mode=0o666)
    os.mkfifo(spaced / "a", 0o640)
    os.mknod(spaced / "b", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (spaced / "c").symlink_to("nowhere")
    with (spaced / NAMES[4]).open("wb") as file:
        file.write(block[:4096])
        file.seek(400_000)
        file.write(block[:5000])
        file.truncate(700_000)
    odd.symlink_to("c")
    long.hardlink_to(first)
    for path in (second, third, fourth, third / "c" / "a"):
        own(path, USER, USER)
    for path in (first, second, third):
        os.setxattr(path, "user.a", b"of the tarball")
        os.setxattr(path, "user.b", b"")
    os.setxattr(third, "trusted.a", b"of a directory")
    for path, mode in ((third, 0o777), (third / "c", 0o2775), (spaced, 0o1777)):
        path.chmod(mode)
    for number, path in enumerate((spaced, third / "c", third, tree)):
        os.utime(path, ns=(0, 1_000_000_000_123_456_789 + number))


def _read_when_written(tree: Path) -> None:
    """Set each access time to the time of modification, as KVFS does where a tarball has none."""
    for directory, _, names in os.walk(tree, topdown=False):
        for path in (*(os.path.join(directory, name) for name in names), directory):
            mtime_ns = os.lstat(path).st_mtime_ns
            os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)


GROUNDS: Sequence[str] = ("scratch", "tarball")
"""What can be asked for."""
