"""The C programs of native/, built when they are needed, where a compiler is there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import attrs

from kvfs.files import records

SOURCES = Path(__file__).resolve().parent.parent / "native"
READER = "reader"
SERVER = "lmdb_server"

PACKAGES = {
    READER: "gcc libc6-dev",
    SERVER: "gcc libc6-dev pkg-config libfuse3-dev liblmdb-dev libxxhash-dev",
}
"""The Debian packages that each needs."""


@attrs.frozen(kw_only=True)
class Built:
    """A program, or why there is none."""

    path: Path | None
    problem: str = ""


def _layout() -> Mapping[str, int]:
    """The numbers of the record layout that the server needs, from where they are defined."""
    return {
        "NAME_IN_RECORD": records.NAME_IN_RECORD,
        "ENTRY_OUT_BYTES": records.ENTRY_OUT_BYTES,
        "ATTR_OUT_BYTES": records.ATTR_OUT_BYTES,
        "ATTR_IN_DIRENT": records.ATTR_IN_DIRENT,
        "VALIDITY_BYTES": records.VALIDITY.size,
        "CONTENT_IN_INODE": records.CONTENT_IN_INODE,
        "FLAGS_IN_INODE": records.FLAGS_IN_INODE,
        "DIRENT_TRAILER_BYTES": records.DIRENT_TRAILER_BYTES,
        "DIRENT_SHARED": int(records.DirentFlag.SHARED),
        "DIRENT_REMOVED": int(records.DirentFlag.REMOVED),
        "INODE_EXTENTS": int(records.InodeFlag.EXTENTS),
        "FIRST_SLOT": records.FIRST_SLOT,
        "PROBES_MAX": records.PROBES_MAX,
    }


def build(name: str, where: Path, *, warnings_fail: bool = False) -> Built:
    """Compile one of the programs into the directory ``where``.

    :param warnings_fail: a warning of the compiler is an error (for tests).
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    advice = f"apt-get install {PACKAGES[name]}"
    if compiler is None:
        return Built(path=None, problem=f"there is no C compiler: {advice}")
    flags: list[str] = []
    libraries: list[str] = []
    if name == SERVER:
        config = shutil.which("pkg-config")
        found = config and subprocess.run(
            [config, "--cflags", "--libs", "fuse3"], check=False, capture_output=True, text=True
        )
        if not found or found.returncode:
            return Built(path=None, problem=f"pkg-config does not find fuse3: {advice}")
        libraries = [*found.stdout.split(), "-llmdb"]
        flags = [f"-D{constant}={value}" for constant, value in _layout().items()]
    path = where / name
    strict = ["-Wall", "-Wextra", "-Werror"] if warnings_fail else []
    command = [compiler, "-std=gnu11", "-O3", *strict, *flags]
    done = subprocess.run(
        [*command, "-o", path, SOURCES / f"{name}.c", *libraries],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        first = next((line for line in lines if "error" in line), "the compiler failed")
        return Built(path=None, problem=f"{name}.c does not compile ({first}): {advice}")
    return Built(path=path)
