"""One volume mounted through both bindings at once: what programs see is the same.

The bindings share no line that speaks to the kernel, so a difference is an error of one of them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import attrs
import pytest

from kvfs.testing.mounts import Site, site_in, wait_until
from kvfs.testing.trees import assert_same_tree, tree_of

from .archives import make_tree, run
from .conftest import FRONTENDS
from .test_reading import raw_entries

STATVFS = ("f_bsize", "f_frsize", "f_blocks", "f_namemax", "f_flag", "f_files", "f_ffree")
SAME = tuple(
    f"st_{name}"
    for name in (
        *("mode", "ino", "nlink", "uid", "gid", "size", "blksize", "blocks", "rdev"),
        *("atime_ns", "mtime_ns", "ctime_ns"),
    )
)
ABSENT = (
    "absent",
    "many/300",
    "inline/below a file",
    "n" * 255,
    "n" * 256,
    "a/.../b",
    "names/\xff",
)


@attrs.frozen
class Both:
    """Two mounts of one folder."""

    direct: Path
    adapter: Path

    def places(self, path: str) -> tuple[Path, Path]:
        """A path in either mount."""
        return self.direct / path, self.adapter / path


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """One of everything in a tarball, plain and compressed, below and beside each other."""
    with site_in(tmp_path_factory.mktemp("site")) as site:
        yield _mounted(site)


def _mounted(site: Site) -> Both:
    make_tree(site.path / "tree")
    (site.path / "tree" / "socket").unlink()
    folder = site.path / "folder"
    (folder / "below").mkdir(parents=True)
    options = ("--format=pax", "--sparse", "--xattrs", "--xattrs-include=*")
    run("tar", *options, "-cf", folder / "a.tar", "-C", site.path / "tree", ".")
    run("tar", *options, "--zstd", "-cf", folder / "below/b.tar.zst", "-C", site.path / "tree", ".")
    (folder / "broken.tar").write_bytes(b"no tarball" * 1000)
    config = site.config({"driver": "posix", "path": str(folder)})
    mounts = [site.mount(config, "--frontend", name, at=name) for name in FRONTENDS]
    for mounted in mounts:  # so that all that is compared has settled
        for name in ("a", "below/b"):
            os.listdir(mounted.path / name)
            # The kernel may believe for a second what was known of it before it was fetched.
            same = partial(_same_time, mounted.path / name, site.path / "tree")
            wait_until(same, f"the root of {name} is known")
    return Both(*(mounted.path for mounted in mounts))


def _same_time(one: Path, other: Path) -> bool:
    return one.stat().st_mtime_ns == other.stat().st_mtime_ns


def _paths(root: Path) -> list[str]:
    found = ["."]
    for directory, below, files in os.walk(root):
        found += [os.path.relpath(os.path.join(directory, name), root) for name in below + files]
    return [path for path in found if len(path) < 2000 and not path.startswith("broken/")]


def test_they_are_two_bindings(both: Both) -> None:
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    lines = [line.split() for line in table if f" {both.direct.parent}/" in line]
    assert {Path(line[4]) for line in lines} == {both.direct, both.adapter}
    # Options, type, source and what the kernel made of the options; not the numbers.
    assert lines[0][5:] == lines[1][5:]
    assert both.direct.stat().st_dev != both.adapter.stat().st_dev


@pytest.mark.parametrize("tarball", ["a", "below/b"])
def test_the_trees_are_the_same(both: Both, tarball: str) -> None:
    direct, adapter = both.places(tarball)
    assert assert_same_tree(tree_of(direct), tree_of(adapter)) > 330


def test_every_attribute_is_the_same(both: Both) -> None:
    """Also those that a tree of another file system may have as it likes."""
    paths = _paths(both.direct)
    assert sorted(paths) == sorted(_paths(both.adapter))
    assert len(paths) > 660
    for path in paths:
        one, other = (os.lstat(place) for place in both.places(path))
        for name in SAME:
            assert getattr(one, name) == getattr(other, name), (path, name)


@pytest.mark.parametrize("buffer_bytes", [1 << 20, 4096, 300])
@pytest.mark.parametrize("directory", [".", "below", "a", "a/many", "a/names", "a/nothing in it"])
def test_listings_are_the_same(both: Both, directory: str, buffer_bytes: int) -> None:
    """Names, numbers, offsets, types, and their order."""
    direct, adapter = (
        raw_entries(place, buffer_bytes=buffer_bytes) for place in both.places(directory)
    )
    if directory == ".":  # whose parent is no file of the volume
        assert direct[1][0] == b".."
        assert (direct.pop(1)[2:], adapter[1][0]) == (adapter.pop(1)[2:], b"..")
    assert direct == adapter


def test_a_listing_of_one_resumes_in_the_other(both: Both) -> None:
    """An offset means the same in both, as NFS and telldir(3) would have it."""
    found = raw_entries(both.direct / "a/many", buffer_bytes=1 << 20)
    names = [os.fsdecode(name) for name, *_ in found]
    for index in (0, 1, 2, 17, len(found) - 2, len(found) - 1):
        rests = []
        for place in both.places("a/many"):
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.lseek(descriptor, found[index][2], os.SEEK_SET)
                rests.append(os.listdir(descriptor))
            finally:
                os.close(descriptor)
        expected = [name for name in names[index + 1 :] if name not in (".", "..")]
        assert rests == [expected, expected], index


def _errno(place: Path) -> int | None:
    try:
        os.lstat(place)
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_names_that_are_not_there(both: Both, again: bool) -> None:
    for name in ABSENT:
        for tarball in ("a", "below/b", "."):
            one, other = (_errno(place / name) for place in both.places(tarball))
            assert one is not None, name
            assert one == other, (name, tarball)


def test_failures_are_the_same(both: Both) -> None:
    for place in both.places("broken"):
        for look in (lambda p=place: os.listdir(p), lambda p=place: os.lstat(p / "file")):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                look()


def test_extended_attributes(both: Both) -> None:
    for path in ("a/large", "a/a", "a/inline", "below/b/a/b/c/deep", ".", "a/link"):
        answers = []
        for place in both.places(path):
            names = os.listxattr(place, follow_symlinks=False)
            values = [os.getxattr(place, name, follow_symlinks=False) for name in names]
            with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
                os.getxattr(place, "user.absent", follow_symlinks=False)
            answers.append((names, values))
        assert answers[0] == answers[1], path
    assert len(os.listxattr(both.adapter / "a/large")) == 3


def test_totals(both: Both) -> None:
    """Whoever else writes to the disk changes what is free on it between two questions."""
    one, other = both.places(".")
    for _ in range(100):
        before, between, after = (
            [getattr(os.statvfs(place), name) for name in STATVFS] for place in (one, other, one)
        )
        if before == after:
            break
    assert before == between == after
