"""The machine and the versions, without names of hosts, users or paths."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kvfs.registry import version_of, versions_of
from kvfs_bench import caches
from kvfs_bench.programs import Programs

_PACKAGES = (
    "kvfs-core",
    "kvfs-kv-lmdb",
    "kvfs-frontend-fuse",
    "kvfs-frontend-pyfuse3",
    "kvfs-backing-posix",
    "lmdb",
    "pyfuse3",
)


def record(programs: Programs | None, where: Path) -> dict[str, Any]:
    """Everything about the run that is not a measurement.

    :param programs: whose versions count; ``None``: no other programs take part.
    """
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        # The numbers: what distributions and owners of machines add may be a name.
        "kernel": _first_version(platform.release()),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "cpus": _pinned(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)),
        "filesystem": _filesystem(where),
        "caches_dropped": caches.can_drop(),
        "versions": _own_versions() if programs is None else _versions(programs),
    }


def _pinned() -> list[int] | None:
    """The CPUs that this process and its children are bound to, unless that is all of them."""
    allowed = os.sched_getaffinity(0)
    return None if len(allowed) == os.cpu_count() else sorted(allowed)


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(where: Path) -> str:
    """The type of the file system that holds ``where``, out of /proc/self/mountinfo."""
    device = where.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1]
    return "unknown"


def engine_versions(engine: str) -> dict[str, str]:
    """Of an installed engine and what it stands on, without what stands under all of them."""
    found = versions_of("kv", engine)
    own = next(iter(found), None)
    common = ("kvfs-", "attrs")
    return {
        name: which for name, which in found.items() if name == own or not name.startswith(common)
    }


def _own_versions() -> dict[str, str]:
    return {
        "Python": platform.python_version(),
        "kvfs-core": version("kvfs-core"),
        "kvfs-bench": version("kvfs-bench"),
    }


def _versions(programs: Programs) -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for package in _PACKAGES:
        found[package] = version_of(package)
    try:
        import lmdb

        found["LMDB"] = ".".join(map(str, lmdb.version()))
    except ImportError:
        pass
    for name, argv in (
        ("GNU tar", ["tar", "--version"]),
        ("ratarmount", [programs.ratarmount, "--version"]),
        ("squashfuse_ll", [programs.squashfuse, "--version"]),
        ("mksquashfs", [programs.mksquashfs, "-version"]),
        ("archivemount", [programs.archivemount, "--version"]),
        ("mkfs.ext4", [programs.mkfs, "-V"]),
        ("git", [programs.git, "--version"]),
        ("libfuse3", ["pkg-config", "--modversion", "fuse3"]),
        ("cc", ["cc", "-dumpfullversion"]),
    ):
        if argv[0] is not None and shutil.which(argv[0]):
            found[name] = _ask([str(part) for part in argv])
    return found


def _ask(argv: list[str]) -> str:
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    return _first_version(done.stdout + done.stderr)


def _first_version(text: str) -> str:
    match = re.search(r"\d+(\.\d+)+", text)
    return match[0] if match else "unknown"
