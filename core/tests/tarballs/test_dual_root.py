"""Tarballs made by GNU tar: the tree of the volume against the tree that GNU tar unpacks."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sysconfig
from pathlib import Path

import pytest

from kvfs.testing.trees import assert_same_tree, tree_of, tree_of_volume
from kvfs.testing.volumes import Stores

from .support import assert_as_unpacked, fetch_all, gnu_tar, is_root, root_of, unpack

FORMATS = ["v7", "oldgnu", "gnu", "ustar", "pax"]
COMPRESSIONS = {"gzip": "gz", "zstd": "zst", "xz": "xz", "bzip2": "bz2"}
SECOND = 10**9


def fill(path: Path, data: bytes, mtime_ns: int, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


def own(path: Path, uid: int, gid: int) -> None:
    mode = os.lstat(path).st_mode
    os.chown(path, uid, gid, follow_symlinks=False)
    if not stat.S_ISLNK(mode):
        path.chmod(stat.S_IMODE(mode))  # chown takes the set-id bits away


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that a directory can hold, as far as this user may make it."""
    root = tmp_path_factory.mktemp("tree")
    fill(root / "empty", b"", 5 * SECOND)
    fill(root / "inline", b"x" * 4000, 1_700_000_000 * SECOND + 123_456_789)
    fill(root / "large", os.urandom(300_001), 1_000_000_000_000_000_001, 0o600)
    fill(root / "before the epoch", b"", -1_234_567_890_123_456_789)
    fill(root / "setuid", b"#!", SECOND, 0o4755)
    fill(root / "setgid", b"#!", SECOND, 0o2711)
    fill(root / "none", b"secret", SECOND, 0o000)
    fill(root / "a/b/c/deep", b"deep", SECOND - 1)
    for number in range(50):
        fill(root / f"many/{number}", b"%d" % number, number * SECOND)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    (root / "names").mkdir()
    for name in (b"\xff\xfe binary", b"new\nline", b"n" * 255, "grün".encode(), b"-rf", b" "):
        Path(os.fsdecode(os.fsencode(root / "names") + b"/" + name)).write_bytes(name)
    (root / "link").symlink_to("a/b")
    (root / "dangling").symlink_to("/no/such/" + "place" * 30)
    os.utime(root / "link", ns=(3, 3), follow_symlinks=False)
    (root / "hard").mkdir()
    (root / "hard/2").hardlink_to(root / "inline")
    (root / "hard/1").hardlink_to(root / "large")
    os.link(root / "link", root / "hard/symlink", follow_symlinks=False)
    os.mkfifo(root / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(root / "socket"))  # tar leaves sockets out
    if is_root():
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 65_539))
        own(root / "setuid", 4_294_967_294, 4_000_000_000)
        own(root / "a", 1000, 2_097_151)
        own(root / "link", 7, 8)
        own(root / "fifo", 65_534, 65_534)
    for directory in ("a/b/c", "a/b", "many", "."):
        os.utime(root / directory, ns=(9, 987_654_321_123_456_789))
    return root


def counts_directories(path: Path) -> bool:
    """Does the file system that GNU tar unpacks to count the names of directories, as ext4 does?"""
    (path / "counted/below").mkdir(parents=True)
    return (path / "counted").stat().st_nlink == 3


def left_out(tmp_path: Path) -> list[str]:
    return [] if counts_directories(tmp_path) else ["directory.nlink"]


def compare(
    stores: Stores, tmp_path: Path, archive: Path, *options: str, whole: bool = True
) -> int:
    """The archive unpacked and ingested; the number of files that were the same."""
    unpack(archive, tmp_path / "unpacked", *options, check=whole)
    stores.backing.write(archive.name, archive.read_bytes())
    with stores.volume() as volume:
        shown = next(volume.files(wait=True).entries(1)).name
        return assert_as_unpacked(volume, shown, tmp_path / "unpacked", ignoring=left_out(tmp_path))


@pytest.mark.parametrize("format_", FORMATS)
def test_every_format(stores: Stores, tree: Path, tmp_path: Path, format_: str) -> None:
    # The old formats cannot hold all of it: tar says so, leaves it out, and goes on.
    whole = format_ in ("gnu", "oldgnu", "pax")
    options = [f"--format={format_}", "--sort=name", "--warning=no-file-ignored"]
    gnu_tar(*options, "-cf", tmp_path / "a.tar", "-C", tree, ".", cwd=tmp_path, check=whole)
    count = compare(stores, tmp_path, tmp_path / "a.tar", whole=False)
    assert count > 70


@pytest.mark.parametrize("program", COMPRESSIONS)
def test_every_compression(stores: Stores, tree: Path, tmp_path: Path, program: str) -> None:
    archive = tmp_path / f"a.tar.{COMPRESSIONS[program]}"
    gnu_tar(
        "--format=pax", "-I", program, "-cf", archive, "-C", tree, "--exclude=socket", ".",
        cwd=tmp_path,
    )  # fmt: skip
    assert compare(stores, tmp_path, archive) > 70


def test_sparse_files(stores: Stores, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    extent = stores.capability.extent_bytes_best
    layouts = {
        "in one extent": [(4096, 4096), (20_480, 4096)],
        "across": [(0, 4096), (extent - 4096, 8192), (5 * extent, 4096)],
        "hole at the end": [(0, 4096)],
        "all hole": [],
        "short extents": [(n * extent + 8192, 4096) for n in range(6)],
    }
    for name, segments in layouts.items():
        with open(root / name, "wb") as out:
            for offset, length in segments:
                out.seek(offset)
                out.write(os.urandom(length))
            out.truncate(7 * extent + 12_345)
    for number, options in enumerate(
        (
            ["--format=gnu"],
            *(["--format=pax", f"--sparse-version={v}"] for v in ("0.0", "0.1", "1.0")),
        )
    ):
        archive = tmp_path / f"sparse{number}.tar"
        gnu_tar(*options, "--sparse", "-cf", archive, "-C", root, ".", cwd=tmp_path)
        stores.backing.write(archive.name, archive.read_bytes())
        unpack(archive, tmp_path / f"out{number}")
    ignoring = left_out(tmp_path)
    with stores.volume() as volume:
        for number in range(4):
            shown = b"sparse%d" % number
            same = assert_as_unpacked(volume, shown, tmp_path / f"out{number}", ignoring=ignoring)
            assert same == len(layouts) + 1
            files, _ = root_of(volume, shown)
            assert files.open_path(shown + b"/all hole").blocks == 0


def test_extended_attributes(stores: Stores, tmp_path: Path) -> None:
    root = tmp_path / "tree"
    fill(root / "dir/file", b"x", 0)
    fill(root / "big", b"x" * 200_000, 0)
    (root / "hard").hardlink_to(root / "big")
    wanted = {"user.plain": b"value", "user.a=b%c": b"\0\n=\xff", "user.empty": b""}
    for name, value in wanted.items():
        for path in (root, root / "dir", root / "dir/file", root / "big"):
            os.setxattr(path, name, value)
    if is_root():
        (root / "link").symlink_to("dir")
        os.setxattr(root / "link", "trusted.link", b"of a link", follow_symlinks=False)
        os.setxattr(root / "dir", "trusted.dir", b"1" * 1000)
    options = ["--xattrs", "--xattrs-include=*"]
    gnu_tar(*options, "--format=pax", "-cf", "a.tar", "-C", root, ".", cwd=tmp_path)
    assert compare(stores, tmp_path, tmp_path / "a.tar", *options) == 5 + is_root()


def test_paths_longer_than_the_kernel_takes_at_once(stores: Stores, tmp_path: Path) -> None:
    """GNU tar makes such an archive but cannot unpack it, so the oracle is what it was made of."""
    name, depth = "n" * 200, 25
    (tmp_path / "tree").mkdir()
    here = os.open(tmp_path / "tree", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        deeper = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    for format_ in ("gnu", "pax"):
        archive = tmp_path / f"{format_}.tar"
        gnu_tar(f"--format={format_}", "-cf", archive, "-C", tmp_path / "tree", ".", cwd=tmp_path)
        stores.backing.write(archive.name, archive.read_bytes())
    ignoring = left_out(tmp_path)
    with stores.volume() as volume:
        for format_, coarse in (("pax", []), ("gnu", ["mtime_ns"])):
            files, inode = root_of(volume, format_.encode())
            count = assert_same_tree(
                tree_of(tmp_path / "tree"),
                tree_of_volume(files, inode),
                ignoring=ignoring + coarse,
            )
            assert count == depth + 2
            deepest = b"/".join([name.encode()] * depth) + b"/file"
            assert len(deepest) > 4096
            found = files.open_path(format_.encode() + b"/" + deepest)
            assert files.path_of(found.inode) == format_.encode() + b"/" + deepest


def test_the_standard_library(stores: Stores, tmp_path: Path) -> None:
    """A real tree: the Python that runs this, thousands of files."""
    library = Path(sysconfig.get_paths()["stdlib"])
    excluded = ["--exclude=site-packages", "--exclude=test", "--exclude=dist-packages"]
    gnu_tar(
        "--format=pax", *excluded, "-cf", "library.tar", "-C", library.parent, library.name,
        cwd=tmp_path,
    )  # fmt: skip
    assert compare_implied_root(stores, tmp_path, tmp_path / "library.tar") > 200


def test_a_system_directory(stores: Stores, tmp_path: Path) -> None:
    """A real tree with symbolic links of every kind: the machine's documentation."""
    gnu_tar("--format=gnu", "-cf", "doc.tar", "-C", "/usr/share", "doc", cwd=tmp_path)
    assert compare_implied_root(stores, tmp_path, tmp_path / "doc.tar") > 5


def compare_implied_root(stores: Stores, tmp_path: Path, archive: Path) -> int:
    """As :func:`compare`, for an archive that does not list its root."""
    unpack(archive, tmp_path / "unpacked")
    stores.backing.write(archive.name, archive.read_bytes())
    with stores.volume() as volume:
        fetch_all(volume)
        ignoring = ["root", *left_out(tmp_path)]
        name = archive.name.removesuffix(".tar").encode()
        return assert_as_unpacked(volume, name, tmp_path / "unpacked", ignoring=ignoring)


def test_what_is_written_back_is_what_came(stores: Stores, tree: Path, tmp_path: Path) -> None:
    """Exported, a tarball unpacks to the same tree as the original."""
    gnu_tar("--format=pax", "--exclude=socket", "-cf", "a.tar", "-C", tree, ".", cwd=tmp_path)
    unpack(tmp_path / "a.tar", tmp_path / "first")
    stores.backing.write("a.tar", (tmp_path / "a.tar").read_bytes())
    with stores.volume() as volume, open(tmp_path / "b.tar", "wb") as out:
        volume.export(b"a", out.write)
    unpack(tmp_path / "b.tar", tmp_path / "second")
    assert_same_tree(tree_of(tmp_path / "first"), tree_of(tmp_path / "second"))


def test_the_comparison_sees_everything(tree: Path, tmp_path: Path) -> None:
    """The oracle's own test: whatever is changed in a copy is found, and nothing else."""
    subprocess.run(["cp", "-a", tree, tmp_path / "copy"], check=True)
    copy = tmp_path / "copy"
    assert_same_tree(tree_of(tree), tree_of(copy))

    def found(path: str, change: str) -> bool:
        with pytest.raises(AssertionError, match=f"(?m)^{path}: {change}"):
            assert_same_tree(tree_of(tree), tree_of(copy))
        return True

    data = bytearray((copy / "large").read_bytes())
    data[200_000] ^= 1
    before = (copy / "large").stat()
    (copy / "large").write_bytes(data)
    os.utime(copy / "large", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found("large", "contents differ from byte 200,000 on")
    os.utime(copy / "many/7", ns=(0, 1))
    (copy / "many/8").chmod(0o640)
    (copy / "names" / "-rf").unlink()
    (copy / "names" / "-rg").write_bytes(b"")
    (copy / "link").unlink()
    (copy / "link").symlink_to("a/c")
    assert found("many/7", "mtime_ns: 7000000000 in the first tree, 1 in the second")
    assert found("many/8", "mode: 0o100644 in the first tree, 0o100640 in the second")
    assert found("names/-rf", "only in the first tree")
    assert found("names/-rg", "only in the second tree")
    assert found("link", "target: b'a/b' in the first tree, b'a/c' in the second")
    assert found("link", "nlink: 2 in the first tree, 1 in the second")
    (copy / "hard/2").unlink()
    (copy / "hard/2").hardlink_to(copy / "many/9")
    assert found("inline", r"same_as: \(b'hard', b'2'\) in the first tree, None in the second")
