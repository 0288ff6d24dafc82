"""Small file systems of a test's own, which can be filled.  All of it needs root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def mounted(point: Path, *words: str | Path) -> Iterator[Path]:
    """Something that is mounted meanwhile.

    :param point: where; made if it is not there.
    :param words: of mount(8), before the place: type, options, source.
    """
    point.mkdir(exist_ok=True)
    _run("mount", *words, point)
    try:
        yield point
    finally:
        _run("umount", point)


@contextmanager
def small_ext4(
    image: Path, point: Path, *, size_bytes: int, options: str = "loop"
) -> Iterator[Path]:
    """A new ext4 file system in an image file, none of it kept for root; gives ``point``.

    :param options: of mount(8); they have ``loop`` among them.
    """
    with image.open("wb") as file:
        file.truncate(size_bytes)
    _run("mkfs.ext4", "-q", "-m", "0", image)
    with mounted(point, "-o", options, image):
        yield point


def _run(*words: str | Path) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


__all__ = ["mounted", "small_ext4"]
