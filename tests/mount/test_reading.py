"""Every way in which the kernel lets a program read a file or a directory."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from kvfs.testing.mounts import Site

from .archives import make_tree, run

LARGE_BYTES = 50 << 20
SEED = 20_261_120
SMALL_SIZES = (0, 1, 100, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_001)
DIRENT64 = struct.Struct("<QqHB")


@attrs.frozen
class Pair:
    """A tree on the local disk, and the same through the mount."""

    original: Path
    served: Path


@pytest.fixture(scope="module")
def pair(shared_site: Site) -> Pair:
    """A tree with a file of 50 MiB in it."""
    original = shared_site.path / "original"
    make_tree(original)
    (original / "socket").unlink()
    generator = random.Random(SEED)
    (original / "50 MiB").write_bytes(generator.randbytes(LARGE_BYTES))
    for size in SMALL_SIZES:
        (original / f"{size} bytes").write_bytes(generator.randbytes(size))
    folder = shared_site.path / "folder"
    folder.mkdir()
    run("tar", "--format=pax", "--sparse", "-cf", folder / "a.tar", "-C", original, ".")
    mounted = shared_site.mount(folder)
    return Pair(original, mounted.path / "a")


def regular_files(directory: Path) -> Iterator[Path]:
    """The regular files directly in a directory."""
    return (path for path in sorted(directory.iterdir()) if stat.S_ISREG(path.lstat().st_mode))


@pytest.fixture
def large(pair: Pair) -> Iterator[tuple[int, bytes]]:
    """The large file, open, and its contents."""
    descriptor = os.open(pair.served / "50 MiB", os.O_RDONLY)
    yield descriptor, (pair.original / "50 MiB").read_bytes()
    os.close(descriptor)


def forget_pages(descriptor: int) -> None:
    """Have the kernel ask again for what it has read."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def test_pread_anywhere(large: tuple[int, bytes]) -> None:
    descriptor, contents = large
    generator = random.Random(SEED)
    forget_pages(descriptor)
    for _ in range(300):
        offset = generator.randrange(LARGE_BYTES + 5000)
        size = generator.choice((1, 7, 4095, 4096, 4097, 65_537, 1_000_003))
        assert os.pread(descriptor, size, offset) == contents[offset : offset + size], offset
    assert os.pread(descriptor, 10, LARGE_BYTES) == b""
    assert os.pread(descriptor, 10, LARGE_BYTES - 3) == contents[-3:]
    assert os.pread(descriptor, 10, 1 << 45) == b""


def test_sequentially_in_all_sizes(pair: Pair) -> None:
    contents = (pair.original / "50 MiB").read_bytes()
    for size in (12_345, 131_072, 8 << 20):
        with open(pair.served / "50 MiB", "rb", buffering=0) as file:
            forget_pages(file.fileno())
            pieces = iter(lambda size=size, file=file: file.read(size), b"")  # type: ignore[misc]
            assert b"".join(pieces) == contents, size


def test_mmap(pair: Pair, large: tuple[int, bytes]) -> None:
    descriptor, contents = large
    forget_pages(descriptor)
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as mapped:
        mapped.madvise(mmap.MADV_RANDOM)
        for offset in random.Random(SEED).sample(range(LARGE_BYTES), 300):
            assert mapped[offset] == contents[offset]
        assert mapped[:] == contents
    for name in ("1 bytes", "4097 bytes", "hole in the middle"):
        with (
            open(pair.served / name, "rb") as file,
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
        ):
            assert mapped[:] == (pair.original / name).read_bytes()


def test_direct(pair: Pair, large: tuple[int, bytes]) -> None:
    """O_DIRECT, where the kernel has it for FUSE, as all that KVFS mounts on do."""
    _, contents = large
    descriptor = os.open(pair.served / "50 MiB", os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, 1 << 20) as buffer:  # aligned as it has to be
            for offset in (0, 4096, 7 << 20, LARGE_BYTES - 8192, LARGE_BYTES - 4096):
                count = os.preadv(descriptor, [buffer], offset)
                assert count == min(1 << 20, LARGE_BYTES - offset)
                assert buffer[:count] == contents[offset : offset + count]
    finally:
        os.close(descriptor)


def test_sendfile_and_splice(pair: Pair, tmp_path: Path) -> None:
    contents = (pair.original / "300001 bytes").read_bytes()
    with open(pair.served / "300001 bytes", "rb") as source, open(tmp_path / "copy", "wb") as out:
        sent = os.sendfile(out.fileno(), source.fileno(), 1234, len(contents))
        assert sent == len(contents) - 1234
        reader, writer = os.pipe()
        assert os.splice(source.fileno(), writer, 5000, offset_src=77) == 5000
        assert os.read(reader, 5000) == contents[77:5077]
        os.close(reader)
        os.close(writer)
    assert (tmp_path / "copy").read_bytes() == contents[1234:]


def test_holes_and_data(pair: Pair) -> None:
    """SEEK_DATA and SEEK_HOLE never lead past data, and end where the file does."""
    for path in regular_files(pair.served):
        contents = (pair.original / path.name).read_bytes()
        covered = bytearray(contents)
        with open(path, "rb") as file:
            position, size = 0, len(contents)
            while position < size:
                try:
                    start = os.lseek(file.fileno(), position, os.SEEK_DATA)
                except OSError as error:
                    if error.errno != errno.ENXIO:
                        raise
                    break
                position = os.lseek(file.fileno(), start, os.SEEK_HOLE)
                assert start < position <= size
                covered[start:position] = bytes(position - start)
            assert not any(covered), path.name
            for whence in (os.SEEK_DATA, os.SEEK_HOLE):
                with pytest.raises(OSError, match="No such device or address"):
                    os.lseek(file.fileno(), size, whence)


def test_many_readers_of_one_file(pair: Pair) -> None:
    contents = (pair.original / "50 MiB").read_bytes()
    wrong: list[int] = []

    def read(seed: int) -> None:
        generator = random.Random(seed)
        with open(pair.served / "50 MiB", "rb", buffering=0) as file:
            for _ in range(50):
                offset = generator.randrange(LARGE_BYTES)
                if os.pread(file.fileno(), 100_000, offset) != contents[offset : offset + 100_000]:
                    wrong.append(offset)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# -- directories -----------------------------------------------------------------------------------


def raw_entries(directory: Path, *, buffer_bytes: int) -> list[tuple[bytes, int, int, int]]:
    """What getdents64(2) says: name, inode, offset, type."""
    getdents64 = ctypes.CDLL(None, use_errno=True).getdents64
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    found = []
    buffer = ctypes.create_string_buffer(buffer_bytes)
    try:
        while (count := getdents64(descriptor, buffer, ctypes.c_size_t(buffer_bytes))) > 0:
            at = 0
            while at < count:
                inode, offset, length, kind = DIRENT64.unpack_from(buffer.raw, at)
                name = buffer.raw[at + DIRENT64.size : at + length].split(b"\0", 1)[0]
                found.append((name, inode, offset, kind))
                at += length
        assert count == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(descriptor)
    return found


@pytest.mark.parametrize("directory", [".", "many", "names", "nothing in it"])
@pytest.mark.parametrize("buffer_bytes", [1 << 20, 300])
def test_listing_agrees_with_stat(pair: Pair, directory: str, buffer_bytes: int) -> None:
    place = pair.served / directory
    found = raw_entries(place, buffer_bytes=buffer_bytes)
    assert [name for name, *_ in found[:2]] == [b".", b".."]
    names = [name for name, *_ in found[2:]]
    assert sorted(names) == sorted(map(os.fsencode, os.listdir(pair.original / directory)))
    assert len({offset for _, _, offset, _ in found}) == len(found)
    for name, inode, _, kind in found:
        attributes = os.lstat(os.path.join(os.fsencode(place), name))
        assert (inode, kind) == (attributes.st_ino, stat.S_IFMT(attributes.st_mode) >> 12), name


def test_dotdot_leads_up(pair: Pair) -> None:
    for path in ("a/b", "a", "."):
        here = pair.served / path
        assert os.path.samestat(os.stat(here / ".."), os.stat(here.parent))
    entries = {name: inode for name, inode, *_ in raw_entries(pair.served, buffer_bytes=1 << 16)}
    assert entries[b".."] == pair.served.parent.stat().st_ino


def test_listing_resumes_anywhere(pair: Pair) -> None:
    """seekdir(3): a listing goes on behind any entry, in another descriptor too."""
    found = raw_entries(pair.served / "many", buffer_bytes=1 << 20)
    for index in (0, 1, 2, 17, len(found) - 2, len(found) - 1):
        descriptor = os.open(pair.served / "many", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.lseek(descriptor, found[index][2], os.SEEK_SET)
            rest = os.listdir(descriptor)
            expected = [os.fsdecode(name) for name, *_ in found[index + 1 :]]
            assert rest == [name for name in expected if name not in (".", "..")]
        finally:
            os.close(descriptor)


def test_names_that_are_not_there(pair: Pair) -> None:
    for name in ("absent", "many/300", "inline/below a file", "n" * 255):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            os.lstat(pair.served / name)
    with pytest.raises(OSError, match="File name too long"):
        os.lstat(pair.served / ("n" * 256))
    assert not (pair.served / "absent").exists()


def test_statvfs(pair: Pair) -> None:
    totals = os.statvfs(pair.served)
    assert totals.f_namemax == 255
    assert totals.f_flag & os.ST_RDONLY
    assert totals.f_flag & os.ST_NOSUID
    assert totals.f_blocks * totals.f_frsize > LARGE_BYTES
