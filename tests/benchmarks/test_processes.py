"""What is run is ended when it takes too long, with all that it started; meters read what is so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvfs.errors import Unavailable
from kvfs_bench import caches, processes
from kvfs_bench.processes import TimedOut


def test_what_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    with pytest.raises(TimedOut, match="did not finish in 1 s"):
        processes.shell('sleep 600 & echo $! > "$1"; wait', pid_file, limit_s=1)
    assert pid_file.read_text().strip()
    child = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    deadline = time.monotonic() + 20
    # Killed; a zombie until whoever adopted it has looked.
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline


def test_a_failure_says_what_the_command_said() -> None:
    with pytest.raises(Unavailable, match=r"failed with 3: no luck"):
        processes.shell("echo no luck >&2; exit 3")
    with pytest.raises(Unavailable, match="failed"):
        processes.shell("false | cat")


def test_what_does_not_mount_is_said(tmp_path: Path) -> None:
    for command in (["true"], ["sleep", "600"]):
        with (
            pytest.raises(Unavailable, match="mount"),
            processes.serving(command, tmp_path / "mnt", timeout_s=0.5),
        ):
            pytest.fail("nothing is mounted")


def test_cpu_and_writes_are_those_of_a_process_and_its_children() -> None:
    script = (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    for _ in range(1000): os.write(1, b'x')\n"
        "    sum(range(10_000_000))\n"
        "    os.write(2, b'.')\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read(1) == b"."
        assert len(processes.family(process.pid)) == 2
        assert processes.cpu_s(process.pid) > 0.05
        written = processes.writes(process.pid)
        assert written is None or 1001 <= written < 1100
        process.communicate()


def test_caches_are_dropped_and_warm_again(tmp_path: Path) -> None:
    large, small = tmp_path / "large", tmp_path / "d" / "small"
    small.parent.mkdir()
    small.write_bytes(bytes(1000))
    large.write_bytes(bytes(65 << 20))
    # Only root may drop them; who may not is told so, and finds them as they are.
    assert caches.drop() == caches.can_drop() == (os.geteuid() == 0)
    assert caches.warm([tmp_path]) == 1000 + (65 << 20 if caches.can_drop() else 0)
    # What is there is not read again, if it is large.
    assert caches.warm([tmp_path]) == 1000
    assert caches.warm([tmp_path / "absent"]) == 0
