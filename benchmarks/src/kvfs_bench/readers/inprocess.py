"""Reading a volume without a mount: ``kvfs.files`` in the reader's own process.

    python -m kvfs_bench.readers.inprocess CONFIG ROOT walk READERS PASSES
    python -m kvfs_bench.readers.inprocess CONFIG ROOT list READERS PASSES PATHS
    python -m kvfs_bench.readers.inprocess CONFIG ROOT find READERS PASSES

CONFIG is a volume's configuration, ROOT the directory in it.  It does what readers/plain.py does
and prints the same; ``find`` counts every entry and asks for its size.  Of several PASSES in the
same processes only the last is timed.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from kvfs.files import Files
from kvfs.volume import Volume, from_file
from kvfs_bench.readers.crew import report
from kvfs_bench.readers.plain import MASK, digest_of

_PIECE_BYTES = 1 << 20
Found = tuple[int, int, int]


def walk(files: Files, root: int, own: int, readers: int) -> Iterator[tuple[bytes, int, int]]:
    """(path below the root, inode, size) of the files, in the volume's order."""
    pending = [(b"", root)]
    while pending:
        prefix, inode = pending.pop()
        directories = []
        for number, entry in enumerate(files.entries(inode)):
            if number % readers != own:
                continue
            path = prefix + entry.name
            if entry.attributes.is_directory:
                directories.append((path + b"/", entry.attributes.inode))
            elif stat.S_ISREG(entry.attributes.mode):
                yield path, entry.attributes.inode, entry.attributes.size
        pending += reversed(directories)
        own, readers = 0, 1


def _content(files: Files, inode: int, size: int) -> bytes | memoryview:
    if size <= _PIECE_BYTES:
        pieces = files.read(inode, 0, size)
        return memoryview(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
    starts = range(0, size, _PIECE_BYTES)
    return b"".join([b"".join(files.read(inode, start, _PIECE_BYTES)) for start in starts])


def read_all(files: Files, found: Iterator[tuple[bytes, int, int]]) -> Found:
    """Read and digest files."""
    count = total = digest = 0
    for path, inode, size in found:
        content = _content(files, inode, size)
        count += 1
        total += len(content)
        digest += digest_of(path, content)
    return count, total, digest & MASK


def count_all(files: Files, root: int) -> Found:
    """Entries, and the sum of their sizes."""
    count = total = 0
    pending = [root]
    while pending:
        for entry in files.entries(pending.pop()):
            count += 1
            total += entry.attributes.size
            if entry.attributes.is_directory:
                pending.append(entry.attributes.inode)
    return count, total, 0


def listed(files: Files, root: bytes, names: list[bytes]) -> Iterator[tuple[bytes, int, int]]:
    """(path, inode, size) of named files; each path is walked from the root of the volume."""
    for name in names:
        found = files.open_path(root + b"/" + name)
        yield name, found.inode, found.size


def main() -> None:
    """Read as the arguments say; see the module."""
    config, top, mode, count, times, *rest = sys.argv[1:]
    root, readers, passes = os.fsencode(top), int(count), int(times)
    names = Path(rest[0]).read_bytes().split(b"\0")[:-1] if rest else []

    def prepare(own: int) -> Callable[[], Found]:
        # After the fork: engines do not live through one.
        files = Volume(from_file(Path(config))).files(wait=True)
        inode = files.open_path(root).inode

        def once() -> Found:
            if mode == "find":
                return count_all(files, inode)
            if mode == "walk":
                return read_all(files, walk(files, inode, own, readers))
            return read_all(files, listed(files, root, names[own::readers]))

        for _ in range(passes - 1):
            once()
        return once

    report(readers, prepare, lambda once: once())


if __name__ == "__main__":
    main()
