"""What ``kvfs doctor`` looks at, on any machine."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points

from kvfs import registry
from kvfs.config import nearest
from kvfs.errors import KVFSError
from kvfs.hooks import Check
from kvfs.units import format_bytes
from kvfs_frontend_cli import _mounts, _runtime
from kvfs_frontend_cli._locate import default_cache

PYTHON_MIN = (3, 11)
LINUX_MIN = (5, 10)
"""The first kernel that speaks FUSE 7.32."""
OPEN_FILES_MIN = 256
FREE_BYTES_MIN = 1 << 30


def checks() -> Iterator[Check]:
    """All of them, cheap ones first."""
    yield _python()
    yield _kernel()
    yield _device()
    yield _fusermount()
    yield from _drivers()
    yield _hooks()
    yield _cache()
    yield _runtime_directory()
    yield _stale_mounts()
    yield _open_files()


def _python() -> Check:
    found = sys.version_info[:2]
    return Check(
        name="python",
        ok=found >= PYTHON_MIN,
        detail=f"{platform.python_implementation()} {platform.python_version()}",
        advice=f"install Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]} or later",
    )


def _kernel() -> Check:
    release = platform.release()
    match = re.match(r"(\d+)\.(\d+)", release)
    found = (int(match[1]), int(match[2])) if match else (0, 0)
    return Check(
        name="kernel",
        ok=platform.system() == "Linux" and found >= LINUX_MIN,
        detail=f"{platform.system()} {release}",
        advice=f"mounting needs Linux {LINUX_MIN[0]}.{LINUX_MIN[1]} or later",
    )


def _device() -> Check:
    path = "/dev/fuse"
    advice = "load the module (modprobe fuse); in a container: docker run --device /dev/fuse"
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Check(name=path, ok=False, detail=error.strerror or repr(error), advice=advice)
    return Check(name=path, ok=True, detail="can be opened")


def _fusermount() -> Check:
    found = shutil.which("fusermount3")
    is_root = os.geteuid() == 0
    detail = found or ("not installed; root does not need it" if is_root else "not installed")
    return Check(
        name="fusermount3",
        ok=found is not None or is_root,
        detail=detail,
        advice="install the package fuse3 (apt install fuse3): users other than root need it",
    )


def _drivers() -> Iterator[Check]:
    for kind in registry.KINDS:
        found = registry.installed(kind)
        good = [entry.name for entry in found if entry.info is not None]
        broken = [f"{entry.name}: {entry.problem}" for entry in found if entry.info is None]
        for entry in found:
            if entry.info is not None:
                try:
                    entry.info.load()
                except KVFSError as error:
                    broken.append(str(error))
        yield Check(
            name=f"{kind} drivers",
            ok=bool(good) and not broken,
            detail="; ".join([", ".join(good) or "none", *broken]),
            advice="reinstall or uninstall what is broken"
            if broken
            else f"pip install a kvfs-{kind}-*",
        )


def _hooks() -> Check:
    """Entry points in groups that nobody reads are most likely misspelt."""
    known = [*(f"kvfs.{kind}" for kind in registry.KINDS), "kvfs.hooks"]
    broken = []
    for group in sorted(group for group in entry_points().groups if group.startswith("kvfs.")):
        if group not in known:
            broken.append(f"there is no entry-point group {group!r}: {nearest(group, known)}")
    plugins = entry_points(group="kvfs.hooks")
    for entry in plugins:
        try:
            entry.load()
        except Exception as error:
            broken.append(f"{entry.name} cannot be imported: {error!r}")
    return Check(
        name="hook plugins",
        ok=not broken,
        detail="; ".join([", ".join(entry.name for entry in plugins) or "none", *broken]),
        advice="reinstall or uninstall what is broken",
    )


def _cache() -> Check:
    path = default_cache("", "x").parent
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK | os.X_OK)
    return Check(
        name="cache",
        ok=writable and free >= FREE_BYTES_MIN,
        detail=f"{path}: {format_bytes(free)} free" + ("" if writable else ", not writable"),
        advice="make room, or choose another place with --cache or XDG_CACHE_HOME",
    )


def _runtime_directory() -> Check:
    try:
        detail, ok = str(_runtime.directory()), True
    except KVFSError as error:
        detail, ok = str(error), False
    return Check(name="runtime directory", ok=ok, detail=detail, advice="set XDG_RUNTIME_DIR")


def _stale_mounts() -> Check:
    served = {record.target for record in _runtime.records()}
    dead = [target for target, _ in _mounts.dead_mounts(served)]
    return Check(
        name="mounts",
        ok=not dead,
        detail=f"{len(served)} served by this user" + "".join(f", dead: {path}" for path in dead),
        advice="; ".join(f"kvfs umount {path}" for path in dead),
    )


def _open_files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Check(
        name="open files",
        ok=soft == resource.RLIM_INFINITY or soft >= OPEN_FILES_MIN,
        detail="unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,} at once",
        advice=f"raise the limit: ulimit -n {OPEN_FILES_MIN * 4}",
    )
