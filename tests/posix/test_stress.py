"""Programs that were made to find what is wrong with a file system find nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

SECONDS = 1
STRESSORS = {
    "names": (
        "dentry", "dir", "dirdeep", "dirmany", "filename", "getdent", "link", "rename", "symlink",
        "inotify", "open",
    ),
    "contents": (
        "copy-file", "fallocate", "fiemap", "fpunch", "fsize", "hdd", "iomix", "mmap", "readahead",
        "revio", "seek", "sendfile", "splice", "sync-file",
    ),
    "attributes": (
        "access", "chdir", "chmod", "chown", "file-ioctl", "fstat", "handle", "inode-flags",
        "mknod", "touch", "utime", "xattr",
    ),
    "locks": ("dup", "fcntl", "flock", "io", "lease", "locka", "lockf", "lockofd"),
}  # fmt: skip
"""Stressors of stress-ng by what they are about."""
_SIZED = ("fallocate", "hdd", "iomix", "mmap", "readahead", "revio", "sync-file")
"""Those that would take a gigabyte."""


def run(*words: object, where: Path) -> str:
    """What a program says; it has to succeed."""
    done = subprocess.run(
        [*map(str, words)],
        cwd=where,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (words, done.returncode, done.stdout[-4000:])
    return done.stdout


@pytest.mark.parametrize("about", STRESSORS)
def test_stress_ng(place: Path, about: str) -> None:
    """All of a kind at once, each checking what it does."""
    words = [word for each in STRESSORS[about] for word in (f"--{each}", 1)]
    words += [
        word for each in _SIZED if each in STRESSORS[about] for word in (f"--{each}-bytes", "4m")
    ]
    said = run(
        "stress-ng", *words, "--verify", "--timeout", SECONDS, "--temp-path", place, where=place
    )
    assert "successful run completed" in said, said
    assert not [line for line in said.splitlines() if "fail" in line], said
    assert os.listdir(place) == [], "stress-ng takes away what it makes"


@pytest.mark.parametrize(
    ("pattern", "engine"), [("randwrite", "psync"), ("randrw", "mmap"), ("write", "libaio")]
)
def test_fio(place: Path, pattern: str, engine: str) -> None:
    """Every block carries a checksum of what was written last, and is read again."""
    said = run(
        "fio", "--name=verified", f"--rw={pattern}", f"--ioengine={engine}", "--directory=.",
        "--size=4m", "--nrfiles=3", "--bsrange=4k-64k", "--numjobs=2", "--verify=crc32c",
        "--verify_fatal=1", "--verify_state_save=0", "--fsync=64", "--output-format=json",
        where=place,
    )  # fmt: skip
    jobs = json.loads(said[said.index("{") :])["jobs"]
    assert [job["error"] for job in jobs] == [0, 0]
    assert all(job["read"]["io_bytes"] and job["write"]["io_bytes"] for job in jobs)


def test_fs_mark(place: Path) -> None:
    """Many small files in several directories by several threads, each synchronised."""
    files, threads = 100, 2
    run(
        "fs_mark", "-d", ".", "-k", "-t", threads, "-n", files, "-s", 5000, "-D", 4, "-N", 25,
        "-S", 1,
        where=place,
    )  # fmt: skip
    made = [path for path in place.rglob("*") if path.is_file() and path.name != "fs_log.txt"]
    assert len(made) == files * threads
    assert {path.stat().st_size for path in made} == {5000}


def test_dbench(place: Path) -> None:
    """What a file server's clients do."""
    said = run("dbench", "-t", SECONDS, "-D", place, 3, where=place)
    assert "Throughput" in said, said
    assert not [line for line in said.splitlines() if "failed" in line.lower()], said
