"""Real mounts of toy trees, each served by a process of its own, and none left behind."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from kvfs_frontend_fuse import MountInfo, mounts
from kvfs_frontend_fuse.mounting.mountinfo import FSTYPE, parse

SERVER = Path(__file__).with_name("serve_toy.py")
MNT_DETACH = 2


@attrs.frozen
class Place:
    """Where servers run, and whoever looks at their mounts: here, or in another mount namespace."""

    holder: int | None = None
    """A process of that namespace."""

    def command(self, *words: str | Path, user: int | None = None) -> list[str]:
        """A command line that runs there, as a user."""
        line = [str(word) for word in words]
        if self.holder is None:
            return line
        become = [] if user is None else ["--setuid", str(user), "--setgid", str(user)]
        return ["nsenter", "--mount", "--target", str(self.holder), *become, *line]

    def mounts(self) -> list[MountInfo]:
        """The KVFS mounts there."""
        table = Path(f"/proc/{self.holder or 'self'}/mountinfo").read_bytes()
        return [mount for mount in parse(table) if mount.fstype == FSTYPE]


@attrs.define(kw_only=True)
class Served:
    """A toy tree that a process serves."""

    target: Path
    place: Place
    process: subprocess.Popen[str]
    log: Path
    gate: Path | None = None

    def line(self) -> str:
        """The next line that the server printed; blocks."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def await_line(self, wanted: str) -> None:
        """Read lines up to the wanted one; blocks."""
        while (line := self.line()) != wanted:
            assert line, self.log.read_text()

    def end(self) -> dict[str, int]:
        """Wait for the server to end well; the calls it counted."""
        assert self.process.stdout is not None
        lines = self.process.stdout.read().splitlines()
        assert self.process.wait() == 0, self.log.read_text()
        calls: dict[str, int] = json.loads(lines[-1])
        return calls

    def signal(self, number: int) -> None:
        """Send a signal to the server."""
        self.process.send_signal(number)

    def open_gate(self) -> None:
        """Let everything arrive."""
        assert self.gate is not None
        self.gate.write_bytes(b"")

    def mounted(self) -> list[MountInfo]:
        """What is mounted at the target."""
        return [mount for mount in self.place.mounts() if mount.mount_point == self.target]


Serve = Callable[..., Served]


def _detach(target: Path) -> None:
    libc = ctypes.CDLL(None)
    for mount in mounts():
        if mount.mount_point == target:
            if os.geteuid() == 0:
                libc.umount2(os.fsencode(target), MNT_DETACH)
            else:
                subprocess.run(["fusermount3", "-uz", target], check=False)


@pytest.fixture
def mount_point() -> Iterator[Path]:
    """An empty directory that every user can reach."""
    base = Path(tempfile.mkdtemp(prefix="kvfs-fuse-"))
    base.chmod(0o755)
    target = base / "mnt"
    target.mkdir()
    try:
        yield target
    finally:
        shutil.rmtree(base)


@pytest.fixture
def root() -> None:
    """For tests that look at a mount as several users."""
    assert os.geteuid() == 0, "this test has to run as root"


@pytest.fixture
def place() -> Place:
    """Where the servers of a test run; a test file may have its own."""
    return Place()


@pytest.fixture
def serve(mount_point: Path, place: Place) -> Iterator[Serve]:
    """Serve a tree at a mount point, by default as soon as the call returns.

    ``serve(tree, settings=..., read_only=..., gated=..., user=..., wait=...)``
    """
    started: list[Served] = []

    def start(
        tree: str = "small",
        *,
        settings: dict[str, Any] | None = None,
        read_only: bool = True,
        gated: bool = False,
        user: int | None = None,
        wait: bool = True,
    ) -> Served:
        gate = mount_point.parent / "gate" if gated else None
        if gate is not None:
            os.mkfifo(gate)
        spec = {
            "target": str(mount_point),
            "tree": tree,
            "settings": settings or {},
            "read_only": read_only,
            "gate": str(gate) if gate else None,
            "user": user,
        }
        log = mount_point.parent / f"log-{len(started)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                place.command(sys.executable, SERVER, json.dumps(spec)),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        served = Served(target=mount_point, place=place, process=process, log=log, gate=gate)
        started.append(served)
        if wait:
            assert served.line() == "ready", log.read_text()
        return served

    yield start
    for served in started:
        if served.process.poll() is None:
            served.process.send_signal(signal.SIGKILL)
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()
    _detach(mount_point)
    assert not [mount for mount in mounts() if mount.mount_point == mount_point]
