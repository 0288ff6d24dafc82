"""Room on the disk: asked for before it is used, given back at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs.errors import Exhausted
from kvfs_bench import processes

_MARGIN_BYTES = 1 << 30
"""Left free for everybody else."""


@attrs.frozen
class Scratch:
    """Where the harness puts what it makes.

    ``datasets`` holds the inputs, kept from run to run where the user says so; ``work`` is a
    temporary directory for everything else.
    """

    datasets: Path
    work: Path

    def require(self, size_bytes: int, what: str) -> None:
        """See that there is room for ``size_bytes`` more.

        :raises Exhausted: there is not.
        """
        free = shutil.disk_usage(self.work).free
        # A small run needs no margin to speak of.
        needed = size_bytes + min(_MARGIN_BYTES, size_bytes)
        if free < needed:
            raise Exhausted(
                f"{what} needs {needed / (1 << 30):.1f} GiB free, and there are "
                f"{free / (1 << 30):.1f}: give another disk with --scratch, or a smaller --scale"
            )

    def directory(self, name: str) -> Path:
        """An empty directory below ``work``; what was there before is removed."""
        path = self.work / name
        remove(path)
        path.mkdir(parents=True)
        return path


def remove(path: Path) -> None:
    """Remove a tree, if it is there.  Never one that something is mounted on."""
    if processes.is_mounted(path):
        raise Exhausted(f"{path} is still mounted: unmount it, then run again")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_unmounted(work: Path) -> None:
    """Remove a tree in which nothing should be mounted any more, and not across what is."""
    # An interrupted run may have left a mount behind that a program still uses.
    while targets := processes.mounts_below(work):
        for target in targets:
            processes.unmount(target)
    shutil.rmtree(work, ignore_errors=True)


@contextmanager
def scratch(base: Path, *, keep: bool) -> Iterator[Scratch]:
    """A scratch place below ``base``.

    :param keep: leave the datasets there for the next run.
    """
    datasets = base / "datasets"
    datasets.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=base))
    try:
        yield Scratch(datasets.resolve(), work.resolve())
    finally:
        remove_unmounted(work)
        if not keep:
            shutil.rmtree(datasets, ignore_errors=True)
