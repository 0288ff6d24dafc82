"""What programs see of a mounted tree: everything exactly as it is, and nothing to be changed."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import toy
from .conftest import Serve

pytestmark = pytest.mark.timeout(120)
TREE = toy.small()


def _walk(tree: toy.Tree) -> dict[bytes, toy.Node]:
    """Every path of a tree and its inode; behind the gate, only the directory itself."""
    found: dict[bytes, toy.Node] = {}
    todo = [(b"", tree.root)]
    while todo:
        path, node = todo.pop()
        found[path or b"."] = node
        if not node.gated:
            todo += [(os.path.join(path, name), child) for name, child in node.children.items()]
    return found


def test_every_attribute_of_everything(serve: Serve) -> None:
    target = os.fsencode(serve().target)
    for path, node in _walk(TREE).items():
        seen = os.lstat(os.path.join(target, path))
        assert seen.st_ino == node.number, path
        assert seen.st_mode == node.mode, path
        assert (seen.st_uid, seen.st_gid, seen.st_nlink) == (node.uid, node.gid, node.nlink), path
        assert (seen.st_size, seen.st_blocks) == (node.size, -(-node.size // 512)), path
        assert seen.st_mtime_ns == seen.st_ctime_ns == seen.st_atime_ns == node.mtime_ns, path
        assert seen.st_rdev == os.makedev(node.rdev >> 8, node.rdev & 0xFF), path
        assert seen.st_blksize == 4096


def _raise(error: OSError) -> None:
    raise error


def test_the_same_attributes_out_of_listings(serve: Serve) -> None:
    target = os.fsencode(serve().target)
    seen = {}
    for directory, inside, _ in os.walk(target, onerror=_raise):
        inside[:] = [name for name in inside if name != b"gated"]
        with os.scandir(directory) as entries:
            for entry in entries:
                seen[os.path.relpath(entry.path, target)] = (
                    entry.inode(),
                    entry.stat(follow_symlinks=False).st_mode,
                )
    expected = {path: (node.number, node.mode) for path, node in _walk(TREE).items()}
    del expected[b"."]
    assert seen == expected


def test_names_of_any_bytes_and_of_255(serve: Serve) -> None:
    odd = os.fsencode(serve().target / "odd")
    assert sorted(os.listdir(odd)) == sorted(toy.ODD_NAMES)
    for name in toy.ODD_NAMES:
        content = TREE.root.children[b"odd"].children[name].content
        assert Path(os.fsdecode(os.path.join(odd, name))).read_bytes() == content
    for name, number in ((b"y" * 255, errno.ENOENT), (b"y" * 256, errno.ENAMETOOLONG)):
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            os.lstat(os.path.join(odd, name))
        assert caught.value.errno == number


def test_contents_of_every_file(serve: Serve) -> None:
    target = serve().target
    for path, node in _walk(TREE).items():
        if stat.S_ISREG(node.mode) and not node.gated and not node.broken:
            assert (target / os.fsdecode(path)).read_bytes() == node.content, path


def test_reads_at_all_offsets(serve: Serve) -> None:
    big = TREE.root.children[b"big"].content
    source = random.Random(11)
    edges = [0, 1, 4095, 4096, 131071, 131072, len(big) - 4097, len(big) - 1, len(big)]
    descriptor = os.open(serve().target / "big", os.O_RDONLY)
    try:
        for offset in edges + [source.randrange(len(big)) for _ in range(300)]:
            size = source.choice([1, 511, 4096, 4097, 100_000, 2 << 20])
            assert os.pread(descriptor, size, offset) == big[offset : offset + size]
        assert os.pread(descriptor, 10, len(big) + 10) == b""
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
            assert mapped[-5000:] == big[-5000:]
            assert mapped[1_000_000:1_000_100] == big[1_000_000:1_000_100]
        assert os.lseek(descriptor, 0, os.SEEK_HOLE) == len(big)
        assert os.lseek(descriptor, 5, os.SEEK_DATA) == 5
    finally:
        os.close(descriptor)


def test_reads_past_the_page_cache(serve: Serve) -> None:
    big = TREE.root.children[b"big"].content
    descriptor = os.open(serve().target / "big", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 3 << 20) as buffer:
            assert os.preadv(descriptor, [buffer], 4096) == 3 << 20
            assert buffer[:] == big[4096 : 4096 + (3 << 20)]
    finally:
        os.close(descriptor)


def test_symbolic_links(serve: Serve) -> None:
    target = serve().target
    assert os.readlink(target / "link") == "sub/deeper/leaf"
    assert (target / "link").read_bytes() == b"leaf\n"
    assert os.readlink(target / "long-link") == "t" * 4095


def test_extended_attributes(serve: Serve) -> None:
    served = serve()
    tagged = served.target / "tagged"
    expected = TREE.root.children[b"tagged"].xattrs
    assert {os.fsencode(name) for name in os.listxattr(tagged)} == set(expected)
    for name, value in expected.items():
        assert os.getxattr(tagged, name) == value
    assert os.listxattr(served.target / "empty") == []
    with pytest.raises(OSError, match=os.strerror(errno.ENODATA)):
        os.getxattr(tagged, "user.absent")
    libc = ctypes.CDLL(None, use_errno=True)
    room = ctypes.create_string_buffer(3)
    path = os.fsencode(tagged)
    assert libc.getxattr(path, b"user.colour", room, 3) == -1
    assert ctypes.get_errno() == errno.ERANGE
    assert libc.listxattr(path, room, 3) == -1
    assert ctypes.get_errno() == errno.ERANGE


def test_extended_attributes_switched_off_are_asked_for_once(serve: Serve) -> None:
    served = serve(settings={"xattrs": False})
    for _ in range(3):
        with pytest.raises(OSError, match=os.strerror(errno.EOPNOTSUPP)):
            os.getxattr(served.target / "tagged", "user.colour")
    served.signal(15)
    assert "getxattr" not in served.end()


def test_totals(serve: Serve) -> None:
    totals = os.statvfs(serve().target)
    assert (totals.f_blocks, totals.f_bfree, totals.f_bavail) == (1000, 400, 300)
    assert (totals.f_files, totals.f_ffree) == (len(TREE.nodes), 17)
    assert (totals.f_bsize, totals.f_frsize, totals.f_namemax) == (65536, 4096, 255)


def test_absent_names(serve: Serve) -> None:
    served = serve()
    for path in ("absent", "sub/absent", "absent/below"):
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                os.lstat(served.target / path)
    with pytest.raises(NotADirectoryError):
        os.lstat(served.target / "empty" / "below")
    served.signal(15)
    # Each absent name is asked for once: the kernel remembers it (but under memory pressure).
    assert served.end()["lookup"] < 9


def test_failures_are_the_callers_alone(serve: Serve) -> None:
    served = serve()
    for name in ("corrupt", "bug"):
        for _ in range(3):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                (served.target / name).read_bytes()
    assert (served.target / "link").read_bytes() == b"leaf\n"
    log = served.log.read_text()
    assert "ZeroDivisionError" in log
    assert "corrupt on purpose" in log


def _open(path: Path, flags: int) -> None:
    os.close(os.open(path, flags, 0o644))


def _write(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, b"changed")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda root: _write(root / "bytes-511"),
    "create": lambda root: _open(root / "new", os.O_WRONLY | os.O_CREAT),
    "truncate at open": lambda root: _open(root / "big", os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda root: os.truncate(root / "big", 5),
    "unnamed file": lambda root: _open(root, os.O_WRONLY | os.O_TMPFILE),
    "mkdir": lambda root: os.mkdir(root / "new"),
    "mkfifo": lambda root: os.mkfifo(root / "new"),
    "symlink": lambda root: os.symlink("x", root / "new"),
    "link": lambda root: os.link(root / "empty", root / "new"),
    "unlink": lambda root: os.unlink(root / "empty"),
    "rmdir": lambda root: os.rmdir(root / "sub" / "deeper"),
    "rename": lambda root: os.rename(root / "empty", root / "new"),
    "replace": lambda root: os.replace(root / "empty", root / "tagged"),
    "chmod": lambda root: os.chmod(root / "empty", 0o600),
    "chown": lambda root: os.chown(root / "empty", 1, 1),
    "utime": lambda root: os.utime(root / "empty", (1, 1)),
    "setxattr": lambda root: os.setxattr(root / "tagged", "user.colour", b"red"),
    "removexattr": lambda root: os.removexattr(root / "tagged", "user.colour"),
}


def test_every_change_is_refused(serve: Serve) -> None:
    served = serve(read_only=True)
    (mount,) = served.mounted()
    assert mount.read_only
    before = sorted(os.listdir(served.target))
    for what, change in CHANGES.items():
        with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
            pytest.fail(f"{what}: {change(served.target)}")
    assert sorted(os.listdir(served.target)) == before
    assert (served.target / "bytes-511").read_bytes() == TREE.root.children[b"bytes-511"].content


def test_harmless_calls_succeed(serve: Serve) -> None:
    target = serve().target
    descriptor = os.open(target / "big", os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.lockf(descriptor, os.F_TEST, 0)
        assert os.fstat(descriptor).st_size == toy.BIG_BYTES
        assert not os.isatty(descriptor)
        assert os.access(target / "big", os.R_OK)
        assert not os.access(target / "big", os.W_OK)
    finally:
        os.close(descriptor)
    directory = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
        assert os.stat("sub/deeper/../deeper/leaf", dir_fd=directory).st_size == 5
    finally:
        os.close(directory)


def test_eight_readers_at_once(serve: Serve) -> None:
    tree = toy.forest(1500)
    target = serve("forest:1500").target
    files = {
        target / os.fsdecode(directory) / os.fsdecode(name): node.content
        for directory, parent in tree.root.children.items()
        for name, node in parent.children.items()
    }

    def read_all(seed: int) -> int:
        order = list(files)
        random.Random(seed).shuffle(order)
        return sum(path.read_bytes() == files[path] for path in order)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read_all, range(8))) == [len(files)] * 8
