"""A recorded disk with an ext4 file system on it, and images that are mounted to be looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs.testing.mounts import wait_until

from .trace import Event, read_trace

DISK_BYTES = 1 << 30
"""Sparse; some engines want some hundred MiB to be free."""
END_S = 20
# The journal is written out at least every second: what nobody synced reaches the disk in part.
MOUNT_OPTIONS = "commit=1"


def _run(*words: str | Path) -> str:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout.strip()


def _is_done(*words: str | Path) -> bool:
    return subprocess.run([*map(str, words)], capture_output=True, check=False).returncode == 0


@attrs.frozen
class Disk:
    """A disk that is recorded."""

    path: Path
    """Where its file system is mounted."""
    mark: Path
    """What is written here stands in the trace."""
    base: Path
    """Once it is no longer mounted: the image as it was when recording began."""
    trace: Path

    def events(self) -> list[Event]:
        """What the disk was told; ask when it is no longer mounted."""
        return read_trace(self.trace)

    def sync(self) -> None:
        """Have the kernel write out all that it holds back, as it does by and by."""
        _run("sync", "--file-system", self.path)


@contextmanager
def recorded_disk(place: Path) -> Iterator[Disk]:
    """A disk, mounted and empty.  Needs root, ``/dev/fuse`` and a loop device.

    :param place: an empty directory, for image, trace and mount points.
    """
    base, image, trace = place / "base", place / "image", place / "trace"
    served, mounted = place / "served", place / "disk"
    served.mkdir()
    mounted.mkdir()
    with base.open("wb") as file:
        file.truncate(DISK_BYTES)
    _run(
        "mkfs.ext4",
        "-q",
        "-m0",
        "-J",
        "size=8",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
        base,
    )
    _run("cp", "--sparse=always", base, image)
    program = [sys.executable, str(Path(__file__).with_name("recorder.py"))]
    recorder = subprocess.Popen([*program, str(image), str(trace), str(served)])
    loop = ""
    try:
        wait_until(lambda: os.path.exists(served / "image"), "the recorder serves its file")
        loop = _run("losetup", "--find", "--show", served / "image")
        _run("mount", "-o", MOUNT_OPTIONS, loop, mounted)
        yield Disk(mounted, served / "mark", base, trace)
    finally:
        if os.path.ismount(mounted):
            _run("umount", mounted)
        if loop:
            _run("losetup", "--detach", loop)
        if os.path.ismount(served):
            # The kernel lets go of a loop device's file some time after it is detached.
            wait_until(lambda: _is_done("umount", served), "the recorder is unmounted")
        else:
            recorder.kill()
        recorder.wait(END_S)


@contextmanager
def mounted_image(image: Path, mountpoint: Path) -> Iterator[Path]:
    """An image, mounted for the time being; what is changed in it goes with it."""
    mountpoint.mkdir(exist_ok=True)
    _run("mount", "-o", "loop", image, mountpoint)
    try:
        yield mountpoint
    finally:
        _run("umount", mountpoint)
