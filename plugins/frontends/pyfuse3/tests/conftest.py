"""Real mounts, each served by a process of its own, and none left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from kvfs_frontend_fuse import MountInfo, mounts

SERVER = Path(__file__).with_name("serve.py")


@attrs.define(kw_only=True)
class Served:
    """A volume that a process serves."""

    target: Path
    process: subprocess.Popen[str]
    log: Path

    def line(self) -> str:
        """The next line that the server printed; blocks."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def await_line(self, wanted: str) -> None:
        """Read lines up to the wanted one; blocks."""
        while (line := self.line()) != wanted:
            assert line, self.log.read_text()

    def order(self, what: str) -> None:
        """Have the server do something; returns when it has."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self.await_line("done")

    def end(self, number: int | None = None) -> None:
        """Wait for the server to end well, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        assert self.process.wait() == 0, self.log.read_text()
        assert self.mounted() == []

    def mounted(self) -> list[MountInfo]:
        """What is mounted at the target."""
        return [mount for mount in mounts() if mount.mount_point == self.target]


Serve = Callable[..., Served]


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    """An empty directory."""
    made = tmp_path / "mnt"
    made.mkdir()
    return made


@pytest.fixture
def serve(mount_point: Path) -> Iterator[Serve]:
    """Serve at the mount point, by default as soon as the call returns: ``serve(wait=True, ...)``.

    Further arguments are settings of the frontend, and ``read_only``.
    """
    started: list[Served] = []

    def start(*, wait: bool = True, **settings: object) -> Served:
        log = mount_point.parent / f"log-{len(started)}"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, SERVER, mount_point, json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        served = Served(target=mount_point, process=process, log=log)
        started.append(served)
        if wait:
            assert served.line() == "ready", log.read_text()
        return served

    yield start
    for served in started:
        served.process.kill()
        served.process.communicate()
    for _ in [mount for mount in mounts() if mount.mount_point == mount_point]:
        program = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
        subprocess.run([*program, mount_point], check=True)
