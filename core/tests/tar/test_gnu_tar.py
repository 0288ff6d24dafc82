"""Archives made by GNU tar in all its formats, compared with the tree they were made from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kvfs.tar import Member, MemberType, TarReader

from .support import Archive, gnu_tar, read_archive

NANOSECONDS = 10**9
LONG_COMPONENT = "n" * 200


def fill(path: Path, data: bytes, mtime_ns: int, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    os.utime(path, ns=(mtime_ns, mtime_ns))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short names only, so that every format can hold it."""
    root = tmp_path_factory.mktemp("tree")
    fill(root / "empty", b"", 5 * NANOSECONDS)
    fill(root / "small", b"x", 1_700_000_000 * NANOSECONDS + 123_456_789, 0o4755)
    fill(root / "block", b"b" * 512, 0)
    fill(root / "large", os.urandom(300_001), 1_000_000_000_000_000_001, 0o600)
    fill(root / "dir/a/b/file", b"deep", NANOSECONDS - 1)
    os.mkfifo(root / "fifo", 0o640)
    (root / "symlink").symlink_to("dir/a")
    (root / "hardlink").hardlink_to(root / "small")
    binary = os.fsencode(root) + b"/\xff\xfe \t\x01'"
    Path(os.fsdecode(binary)).write_bytes(b"binary name")
    return root


@pytest.fixture(scope="module")
def long_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("long")
    fill(root / ("a" * 100), b"exactly 100", 0)
    fill(root / ("b" * 101), b"one more", 0)
    fill(root / LONG_COMPONENT / LONG_COMPONENT / "file", b"over 255", 0)
    (root / "link").symlink_to("/" + "/".join(["t" * 250] * 4))
    (root / "hard").hardlink_to(root / LONG_COMPONENT / LONG_COMPONENT / "file")
    return root


def expected_type(path: bytes) -> MemberType:
    mode = os.lstat(path).st_mode
    return {
        stat.S_IFREG: MemberType.REGULAR,
        stat.S_IFDIR: MemberType.DIRECTORY,
        stat.S_IFLNK: MemberType.SYMLINK,
        stat.S_IFIFO: MemberType.FIFO,
    }[stat.S_IFMT(mode)]


def assert_same(member: Member, body: bytes, root: Path, *, exact_time: bool) -> None:
    path = os.path.join(os.fsencode(root), member.name)
    found = os.lstat(path)
    if member.type is MemberType.HARDLINK:
        assert os.path.samefile(path, os.path.join(os.fsencode(root), member.linkname))
        return
    assert member.type is expected_type(path)
    assert member.mode == stat.S_IMODE(found.st_mode)
    assert (member.uid, member.gid) == (found.st_uid, found.st_gid)
    unit = 1 if exact_time else NANOSECONDS
    assert member.mtime_ns // unit == found.st_mtime_ns // unit
    if member.type is MemberType.SYMLINK:
        assert member.linkname == os.readlink(path)
    if member.type is MemberType.REGULAR:
        assert member.size == member.stored_size == len(body) == found.st_size
        with open(path, "rb") as file:
            assert body == file.read()


def archive_of(root: Path, target: Path, format_: str) -> Archive:
    # The old format cannot hold a FIFO: tar says so and goes on.
    check = format_ != "v7"
    gnu_tar(f"--format={format_}", "-cf", target, "-C", root, ".", cwd=root, check=check)
    with open(target, "rb", buffering=0) as file:
        return read_archive(file)


def everything_under(root: Path) -> set[bytes]:
    found = {b"./"}
    for parent, directories, files in os.walk(os.fsencode(root)):
        relative = b"." + parent[len(os.fsencode(root)) :]
        found.update(relative + b"/" + name for name in files)
        for name in directories:
            slash = b"" if os.path.islink(parent + b"/" + name) else b"/"
            found.add(relative + b"/" + name + slash)
    return found


@pytest.mark.parametrize("format_", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_every_format_is_read_as_the_tree_is(tree: Path, tmp_path: Path, format_: str) -> None:
    archive = archive_of(tree, tmp_path / "a.tar", format_)
    assert archive.problems == []
    found = set(archive.names)
    # The one thing the old format cannot hold.
    assert found == everything_under(tree) - ({b"./fifo"} if format_ == "v7" else set())
    assert len(archive.names) == len(found)
    assert sum(member.type is MemberType.HARDLINK for member in archive.members) == 1
    for member, body in zip(archive.members, archive.bodies, strict=True):
        assert_same(member, body, tree, exact_time=format_ == "posix")
        assert member.uname == (b"" if format_ == "v7" else b"root") or os.geteuid() != 0


@pytest.mark.parametrize("format_", ["oldgnu", "gnu", "posix"])
def test_long_names_and_targets(long_tree: Path, tmp_path: Path, format_: str) -> None:
    archive = archive_of(long_tree, tmp_path / "a.tar", format_)
    assert archive.problems == []
    assert set(archive.names) == everything_under(long_tree)
    for member, body in zip(archive.members, archive.bodies, strict=True):
        assert_same(member, body, long_tree, exact_time=format_ == "posix")


@pytest.mark.parametrize("format_", ["gnu", "posix"])
def test_paths_longer_than_the_kernel_takes_at_once(tmp_path: Path, format_: str) -> None:
    depth = 25
    here = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir(LONG_COMPONENT, dir_fd=here)
        deeper = os.open(LONG_COMPONENT, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    target = tmp_path / "a.tar"
    gnu_tar(f"--format={format_}", "-cf", target, LONG_COMPONENT, cwd=tmp_path)
    archive = read_archive(target.read_bytes())
    deepest = b"/".join([LONG_COMPONENT.encode()] * depth) + b"/file"
    assert len(deepest) > 4096
    assert archive.names[-1] == deepest
    assert len(archive.names) == depth + 1
    assert archive.problems == []


@pytest.mark.parametrize("format_", ["gnu", "posix"])
def test_numbers_beyond_octal(tmp_path: Path, format_: str) -> None:
    fill(tmp_path / "f", b"old", -1_234_567_890_123_456_789)
    owner = ["--owner=huge:4294967294", "--group=more:4000000000"]
    gnu_tar(f"--format={format_}", *owner, "-cf", "a.tar", "f", cwd=tmp_path)
    [member] = read_archive((tmp_path / "a.tar").read_bytes()).members
    assert (member.uid, member.gid) == (4294967294, 4000000000)
    assert (member.uname, member.gname) == (b"huge", b"more")
    if format_ == "posix":
        assert member.mtime_ns == -1_234_567_890_123_456_789
        assert member.atime_ns is not None
    else:
        assert member.mtime_ns // NANOSECONDS == -1_234_567_891


def test_huge_sizes_are_seeked_over(tmp_path: Path) -> None:
    size = 9 << 30  # past the 8 GiB of eleven octal digits
    with open(tmp_path / "big", "wb") as file:
        file.truncate(size)
    fill(tmp_path / "after", b"after", 0)
    for format_ in ("gnu", "posix"):
        target = tmp_path / f"{format_}.tar"
        # The archive is a sparse file itself: its header block, a hole, and what follows.
        gnu_tar(f"--format={format_}", "--exclude=*", "-cf", target, ".", cwd=tmp_path)
        with open(target, "wb") as out:
            out.write(_head_of(tmp_path, format_, size))
            out.seek(size, os.SEEK_CUR)
            gnu_tar("-cf", "tail.tar", "after", cwd=tmp_path)
            out.write((tmp_path / "tail.tar").read_bytes())
        with open(target, "rb", buffering=0) as stream:
            reader = TarReader(stream)
            members = [
                (m.name, m.size, bytes(reader.read_body()) if m.size < 99 else b"") for m in reader
            ]
        assert members == [(b"big", size, b""), (b"after", 5, b"after")]


def _head_of(tmp_path: Path, format_: str, size: int) -> bytes:
    """The headers GNU tar writes for the big file, cut off before its data."""
    import subprocess

    with subprocess.Popen(
        ["tar", f"--format={format_}", "-b1", "-cf", "-", "big"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        head = process.stdout.read(8192)
        process.kill()
    end = max(at for at in range(512, 8192, 512) if any(head[at - 512 : at]))
    return head[:end]


@pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", None])
def test_sparse_files(tmp_path: Path, version: str | None) -> None:
    expected: dict[bytes, bytes] = {}
    for name, count, tail in ((b"few", 3, 0), (b"many", 60, 70_000), (b"hole", 0, 1 << 20)):
        with open(tmp_path / os.fsdecode(name), "wb") as file:
            for number in range(count):
                file.seek(number * 65_536)
                file.write(b"%05d" % number * 820)
            file.truncate(count * 65_536 + tail)
        expected[name] = (tmp_path / os.fsdecode(name)).read_bytes()
    expected[b"dense"] = b"d" * 5000
    fill(tmp_path / "dense", expected[b"dense"], 0)
    options = ["--format=gnu"] if version is None else ["--format=posix"]
    options += [] if version is None else [f"--sparse-version={version}"]
    names = [os.fsdecode(name) for name in expected]
    gnu_tar("--sparse", *options, "-cf", "a.tar", *names, cwd=tmp_path)
    data = (tmp_path / "a.tar").read_bytes()
    archive = read_archive(data)
    assert archive.problems == []
    assert dict(zip(archive.names, archive.bodies, strict=True)) == expected
    for member in archive.members:
        assert member.size == len(expected[member.name])
        assert (member.sparse_map is None) == (member.name == b"dense")
        stored = b"".join(
            expected[member.name][at : at + length]
            for at, length in (
                ((0, member.size),) if member.sparse_map is None else member.sparse_map
            )
        )
        start = member.data_offset
        assert data[start : start + member.stored_size] == stored
    assert len(archive.members[1].sparse_map or ()) == 60


def test_extended_attributes(tmp_path: Path) -> None:
    fill(tmp_path / "f", b"x", 0)
    wanted = {b"user.plain": b"value", b"user.a=b%c%3D": b"\0\n=\xff", b"user.empty": b""}
    for name, value in wanted.items():
        os.setxattr(tmp_path / "f", name, value)
    gnu_tar("--xattrs", "--format=posix", "-cf", "a.tar", "f", cwd=tmp_path)
    [member] = read_archive((tmp_path / "a.tar").read_bytes()).members
    assert dict(member.xattrs) == wanted


def test_incremental_archives(tmp_path: Path) -> None:
    fill(tmp_path / "d/f", b"x", 7 * NANOSECONDS)
    gnu_tar("--format=gnu", "-g", "snapshot", "-cf", "a.tar", "d", cwd=tmp_path)
    archive = read_archive((tmp_path / "a.tar").read_bytes())
    assert archive.names == [b"d/", b"d/f"]
    directory, file = archive.members
    assert (directory.type, directory.size) == (MemberType.DIRECTORY, 0)
    assert file.atime_ns is not None
    assert file.ctime_ns is not None


def test_volume_labels_are_no_files(tmp_path: Path) -> None:
    fill(tmp_path / "f", b"x", 0)
    for format_ in ("gnu", "posix"):
        gnu_tar(f"--format={format_}", "-V", "the label", "-cf", "a.tar", "f", cwd=tmp_path)
        archive = read_archive((tmp_path / "a.tar").read_bytes())
        assert archive.names == [b"f"]
        kinds = [kind.value for kind in archive.kinds]
        assert kinds == (["ignored"] if format_ == "gnu" else [])


def test_continuations_of_other_volumes_are_reported(tmp_path: Path) -> None:
    fill(tmp_path / "big", os.urandom(40_000), 0)
    fill(tmp_path / "next", b"next", 0)
    gnu_tar(
        *("--format=gnu", "-M", "-L", "20", "-cf", "v1.tar", "-f", "v2.tar", "-f", "v3.tar"),
        *("big", "next"),
        cwd=tmp_path,
    )
    first = read_archive((tmp_path / "v1.tar").read_bytes(), bodies=False)
    assert first.names == [b"big"]
    assert [kind.value for kind in first.kinds] == ["truncated"]
    last = read_archive((tmp_path / "v3.tar").read_bytes())
    assert last.names == [b"next"]
    assert [problem.name for problem in last.problems] == [b"big"]
