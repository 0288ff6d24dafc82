"""Whole or not at all: full disks, killed writers, several writers, other file systems."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kvfs.backing import BackingStore
from kvfs.errors import Exhausted, KVFSError, Unavailable, Unsupported
from kvfs_backing_posix._names import OWN_DIRECTORY

Opener = Callable[..., BackingStore]
CHILD = Path(__file__).with_name("child.py")


def drafts(root: Path) -> list[str]:
    return [path.name for path in (root / OWN_DIRECTORY).iterdir() if path.name != "lock"]


def test_full_disk(opener: Opener, small_tmpfs: Path) -> None:
    store = opener(small_tmpfs)
    store.write("a", b"old")
    with pytest.raises(Exhausted, match="no space"):
        store.write("a", bytes(8 << 20))
    assert store.read("a", 0, 100) == b"old"
    assert drafts(small_tmpfs) == []
    store.write("a", bytes(2 << 20))
    assert store.stat("a").size == 2 << 20


def test_full_disk_is_noticed_at_the_end(opener: Opener, small_ext4: Path) -> None:
    """What was buffered is written when the body has ended; it must not be lost in silence."""
    store = opener(small_ext4)
    store.write("filler", b"")
    with (small_ext4 / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
    with pytest.raises(Exhausted), store.open_writer("a") as stream:
        stream.write(bytes(500_000))
    assert [info.name for info in store.list()] == ["filler"]
    assert drafts(small_ext4) == []


def test_killed_writer_leaves_nothing_to_see(
    opener: Opener, store: BackingStore, root: Path
) -> None:
    store.write("a", b"old")
    command = [sys.executable, str(CHILD), "write_without_end", str(root), "a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"writing\n"
        assert len(drafts(root)) == 1
        writer.send_signal(signal.SIGKILL)
    assert store.read("a", 0, 10) == b"old"
    assert [info.name for info in store.list()] == ["a"]
    # It is kept for a day, as another host may be writing it.
    (draft,) = drafts(root)
    opener(root)
    assert drafts(root) == [draft]
    long_ago = time.time() - 25 * 3600
    os.utime(root / OWN_DIRECTORY / draft, (long_ago, long_ago))
    os.utime(root / OWN_DIRECTORY / "lock", (long_ago, long_ago))
    opener(root)
    assert [path.name for path in (root / OWN_DIRECTORY).iterdir()] == ["lock"]


def test_processes_replace_on_condition(store: BackingStore, root: Path) -> None:
    store.write("n", b"0")
    command = [sys.executable, str(CHILD), "increment", str(root), "n", "40"]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    assert store.read("n", 0, 10) == b"120"


def test_versions_of_equal_size_differ(store: BackingStore) -> None:
    """Inode numbers are used again, and the kernel's clock ticks every few milliseconds."""
    versions = set()
    for number in range(200):
        store.write("a", b"%03d" % number)
        versions.add(store.stat("a").version)
    assert len(versions) == 200


def test_buffer_is_not_flushed_into_another_file(store: BackingStore, root: Path) -> None:
    with suppress(ZeroDivisionError), store.open_writer("a") as stream:
        stream.write(b"must go nowhere")
        raise ZeroDivisionError
    # The next files to be opened get the number of the descriptor.
    others = [(root / f"{number}").open("wb") for number in range(5)]
    assert stream.closed
    del stream
    gc.collect()
    for other in others:
        other.close()
        assert (root / other.name).read_bytes() == b""
    assert "a" not in [info.name for info in store.list()]


def test_body_may_close_the_stream(store: BackingStore) -> None:
    with store.open_writer("a") as stream:
        stream.write(b"data")
        stream.close()
    assert store.read("a", 0, 10) == b"data"


def test_writer_that_is_never_entered_leaves_nothing(store: BackingStore, root: Path) -> None:
    store.open_writer("a")
    assert not (root / OWN_DIRECTORY).exists()


def test_mount_point_below_the_directory(store: BackingStore, inner_mount: Path) -> None:
    """Its files are read and listed; to appear whole there, a file cannot come from outside."""
    (inner_mount / "a").write_bytes(b"data")
    assert [info.name for info in store.list()] == ["inner/a"]
    assert store.read("inner/a", 0, 10) == b"data"
    for if_absent in (True, False):
        with pytest.raises(Unsupported, match="another file system"):
            store.write("inner/b", b"", if_absent=if_absent)
    store.delete("inner/a")
    assert [*store.list()] == []


def test_read_only_file_system(opener: Opener, small_tmpfs: Path) -> None:
    opener(small_tmpfs).write("a", b"data")
    subprocess.run(["mount", "-o", "remount,ro", str(small_tmpfs)], check=True)
    store = opener(small_tmpfs)
    assert not store.capability.writable
    assert store.read("a", 0, 10) == b"data"
    with pytest.raises(Unsupported, match="read-only"):
        store.write("a", b"x")
    with pytest.raises(KVFSError):
        store.driver.delete("a")


def test_file_system_without_hard_links(
    store: BackingStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "as FAT answers")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(Unsupported, match="hard links"):
        store.write("a", b"", if_absent=True)
    store.write("a", b"")
    assert drafts(root) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT])
def test_device_that_fails(
    store: BackingStore, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The errors of disks and servers reach readers and writers as ours, and may be retried."""
    store.write("a", b"data")
    reader = store.open_reader("a")

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    for call in ("pread", "preadv", "write", "fsync"):
        monkeypatch.setattr(os, call, fail)
    reads: list[Callable[[], bytes]] = [
        lambda: reader.read(1),
        reader.read,
        lambda: store.read("a", 0, 1),
    ]
    for read in reads:
        with pytest.raises(Unavailable) as caught:
            read()
        assert caught.value.retryable
    with pytest.raises(Unavailable):
        store.write("a", b"new")
    monkeypatch.undo()
    assert reader.read() == b"data"
    reader.close()
    assert store.read("a", 0, 10) == b"data"
