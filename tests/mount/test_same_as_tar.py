"""A mount shows what GNU tar unpacks: every attribute of every file, of every kind of tarball.

One folder of real tarballs, mounted by ``kvfs mount``; beside it, each unpacked by GNU tar as root.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import attrs
import pytest

from kvfs.testing.mounts import Mounted, Site, wait_until
from kvfs.testing.trees import Node, assert_same_tree, tree_of

from .archives import Archive, make_folder, unpack

FILES = (
    "v7.tar", "oldgnu.tar", "gnu.tar", "ustar.tar", "pax.tar",
    "gzip.tar.gz", "zstd.tar.zst", "xz.tar.xz", "bzip2.tar.bz2",
    "below/sparse/gnu.tar", "below/sparse/0.0.tar", "below/sparse/0.1.tar", "below/sparse/1.0.tar",
    "library.tar.zst", "objects.tar.zst", "sdist-1.0.tar.gz", "git.tar",
)  # fmt: skip
NOT_READ = re.compile(r"File .* is a (fifo|\w+ special file) while file .* is a \1")


@attrs.frozen
class Folder:
    """A mounted folder of tarballs, and all of them unpacked."""

    mounted: Mounted
    unpacked: Path
    archives: dict[str, Archive]

    def roots(self, file: str) -> tuple[Archive, Path, Path]:
        """A tarball, where GNU tar unpacked it, and where it is mounted."""
        archive = self.archives[file]
        return archive, self.unpacked / archive.shown, self.mounted.path / archive.shown


@pytest.fixture(scope="module")
def folder(shared_site: Site) -> Folder:
    """All tarballs, unpacked and mounted."""
    scratch = shared_site.path
    archives = make_folder(scratch / "tarballs", scratch)
    for archive in archives:
        unpack(scratch / "tarballs" / archive.file, scratch / "unpacked" / archive.shown)
    mounted = shared_site.mount(scratch / "tarballs")
    for archive in archives:
        os.listdir(mounted.path / archive.shown)
    for name in (archive.shown for archive in archives if archive.lists_root):
        # The kernel may believe for a second what was known of the directory before it was fetched.
        same = partial(_same_links, mounted.path / name, scratch / "unpacked" / name)
        wait_until(same, f"the root of {name} is known")
    return Folder(mounted, scratch / "unpacked", {each.file: each for each in archives})


def _same_links(one: Path, other: Path) -> bool:
    return one.stat().st_nlink == other.stat().st_nlink


def test_all_are_compared(folder: Folder) -> None:
    assert sorted(FILES) == sorted(folder.archives)
    names = {archive.shown.partition("/")[0] for archive in folder.archives.values()}
    assert set(os.listdir(folder.mounted.path)) == names


@pytest.mark.parametrize("file", FILES)
def test_every_attribute(folder: Folder, file: str) -> None:
    archive, unpacked, served = folder.roots(file)
    ignoring = () if archive.lists_root else ("root",)
    count = assert_same_tree(tree_of(unpacked), tree_of(served), ignoring=ignoring)
    assert count >= archive.least
    if archive.whole:
        assert folder.mounted.info(f"/{archive.shown}")["problems_total"] == 0


@pytest.mark.parametrize("file", ["pax.tar", "gzip.tar.gz", "library.tar.zst", "objects.tar.zst"])
def test_diff_finds_nothing(folder: Folder, file: str) -> None:
    _, unpacked, served = folder.roots(file)
    done = subprocess.run(
        ["diff", "-r", "--no-dereference", unpacked, served],
        capture_output=True,
        text=True,
        check=False,
    )
    # Of two FIFOs or devices diff(1) only says that it does not read them.
    lines = [line for line in done.stdout.splitlines() if not NOT_READ.fullmatch(line)]
    assert (lines, done.stderr) == ([], "")


def test_the_trees_hold_everything(folder: Folder) -> None:
    """What the comparison is worth: there is one of each kind to be compared."""
    _, _, served = folder.roots("pax.tar")
    nodes = {node.path: node for node in tree_of(served)}
    kinds = Counter(stat.S_IFMT(node.mode) for node in nodes.values())
    assert {stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFLNK, stat.S_IFDIR} <= set(kinds)
    assert nodes[(b"setuid",)].mode & 0o7777 == 0o4755
    assert (nodes[(b"setuid",)].uid, nodes[(b"setuid",)].gid) == (4_294_967_294, 4_000_000_000)
    assert nodes[(b"disk",)].rdev == (259, 65_539)
    assert nodes[(b"inline",)].mtime_ns == 1_700_000_000_123_456_789
    assert nodes[(b"before the epoch",)].mtime_ns == -1_234_567_890_123_456_789
    assert nodes[(b"large",)].xattrs[b"user.a=b%"] == b"\0\n=\xff"
    assert nodes[(b"link",)].xattrs == {b"trusted.link": b"of a link"}
    assert nodes[(b"large",)].nlink == 3
    assert nodes[(b"large",)].same_as == (b"hard", b"1")
    assert nodes[(b"hard", b"symlink")].nlink == 2
    assert (b"names", b"\xff\xfe binary") in nodes
    assert nodes[()].mtime_ns == 981_765_432_123_456_789


def test_inode_numbers_tell_files_apart(folder: Folder) -> None:
    """Over the whole mount: a number has as many names as its link count says, no more."""
    names: Counter[int] = Counter()
    links: dict[int, int] = {}
    for path, found in _walk(folder.mounted.path):
        assert found.st_dev == os.lstat(folder.mounted.path).st_dev, path
        names[found.st_ino] += 1
        if stat.S_ISDIR(found.st_mode):
            assert names[found.st_ino] == 1, path
        else:
            assert links.setdefault(found.st_ino, found.st_nlink) == found.st_nlink, path
    assert len(names) > 5000
    assert {number: names[number] for number in links} == links


def _walk(directory: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    for path, below, files in os.walk(os.fsencode(directory)):
        for name in below + files:
            yield os.path.join(path, name), os.lstat(os.path.join(path, name))


def test_blocks_of_sparse_files(folder: Folder) -> None:
    """``du`` is told of the holes, whether or not the tarball was."""
    for file in ("pax.tar", "below/sparse/gnu.tar", "below/sparse/1.0.tar"):
        _, _, served = folder.roots(file)
        assert (served / "all hole").stat().st_size == 1_765_432
        assert (served / "all hole").stat().st_blocks == 0
        assert 0 < (served / "hole in the middle").stat().st_blocks * 512 < 1_000_000


def test_nothing_can_be_changed(folder: Folder) -> None:
    _, _, served = folder.roots("pax.tar")
    for change in (
        lambda: (served / "new").write_bytes(b""),
        (served / "new").mkdir,
        (served / "inline").unlink,
        lambda: (served / "inline").chmod(0o600),
        lambda: (served / "inline").rename(served / "other"),
        lambda: os.utime(served / "inline"),
        lambda: os.setxattr(served / "inline", "user.x", b""),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()


def test_the_comparison_would_find_a_difference(folder: Folder, tmp_path: Path) -> None:
    """The same tarball, but for one bit of one file."""
    _, unpacked, served = folder.roots("ustar.tar")
    subprocess.run(["cp", "-a", unpacked, tmp_path / "copy"], check=True)
    changed = tmp_path / "copy" / "large"
    before = changed.stat()
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(
        AssertionError, match=r"^the trees differ:\n(.*contents differ from byte 300,000 on\n?){3}$"
    ):
        assert_same_tree(_without_socket(tree_of(tmp_path / "copy")), tree_of(served))


def _without_socket(nodes: Iterator[Node]) -> Iterator[Node]:
    return (node for node in nodes if not stat.S_ISSOCK(node.mode))
