"""The commands that the harness runs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import attrs

from kvfs.errors import NotFound

_NEEDED = {"tar": "tar", "bash": "bash", "find": "findutils", "fusermount3": "fuse3"}


def _program(name: str) -> str | None:
    """A command beside the Python that runs this, or on PATH."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)


@attrs.frozen(kw_only=True)
class Programs:
    """Where they are; ``None``: not installed."""

    kvfs: str
    ratarmount: str | None
    squashfuse: str | None
    mksquashfs: str | None
    archivemount: str | None
    git: str | None
    mkfs: str | None

    @classmethod
    def find(cls, *, kvfs: str | None = None) -> Programs:
        """Look for all of them.

        :param kvfs: the ``kvfs`` command, where it is not the one beside this Python.
        :raises NotFound: there is no ``kvfs``, or a tool that everything needs is missing.
        """
        for tool, package in _NEEDED.items():
            if shutil.which(tool) is None:
                raise NotFound(f"the benchmarks need {tool}: apt-get install {package}")
        command = _program("kvfs") if kvfs is None else shutil.which(kvfs)
        if command is None:
            raise NotFound(f"there is no command {kvfs or 'kvfs'}: run make setup, or give --kvfs")
        return cls(
            kvfs=command,
            ratarmount=_program("ratarmount"),
            squashfuse=_program("squashfuse_ll"),
            mksquashfs=_program("mksquashfs"),
            archivemount=_program("archivemount"),
            git=_program("git"),
            mkfs=_program("mkfs.ext4") or shutil.which("mkfs.ext4", path="/usr/sbin:/sbin"),
        )
