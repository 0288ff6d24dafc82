"""The reader in Python: processes of their own, so that their time is their own.

    python -m kvfs_bench.readers.plain walk ROOT READERS
        read every file, each directory in its own order
    python -m kvfs_bench.readers.plain list ROOT READERS PATHS
        read the files named in PATHS (each ended by NUL)

READERS processes share the work: the entries of ROOT, or the paths, are dealt out among them.  All
start at once, when each is ready.  It prints one line of JSON: files and bytes read, the digest
over all of it, and the time from the start to the end of the last.  Every file is opened, read to
its end, digested (xxh3: a few percent of the time on ext4) and closed, one after another.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from xxhash import xxh3_64_intdigest

from kvfs_bench.readers.crew import report

MASK = (1 << 64) - 1
_BUFFER_BYTES = 128 << 10


def digest_of(name: bytes, content: bytes | bytearray | memoryview) -> int:
    """64 bits that depend on the contents and on the name that they were found under.

    The digest of a set of files is the sum of theirs, modulo 2**64: the order does not matter.
    """
    return xxh3_64_intdigest(content, xxh3_64_intdigest(name))


def walk(root: bytes, own: int, readers: int) -> Iterator[bytes]:
    """The paths of all files below ``root``, as its directories list them.

    Of the root itself only every ``readers``-th entry, from ``own`` on.
    """
    pending = [root]
    while pending:
        directories = []
        with os.scandir(pending.pop()) as entries:
            for number, entry in enumerate(entries):
                if number % readers != own:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path
        pending += reversed(directories)
        own, readers = 0, 1


def read_all(root: bytes, paths: Iterator[bytes]) -> tuple[int, int, int]:
    """Read the files; how many they were, their bytes, and the digest of them all."""
    files = total = digest = 0
    buffer = bytearray(_BUFFER_BYTES)
    view = memoryview(buffer)
    name_from = len(root) + 1
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.readv(descriptor, (buffer,))
            content: bytes | memoryview = view[:size]
            if size == _BUFFER_BYTES:
                pieces = [bytes(content)]
                while piece := os.read(descriptor, _BUFFER_BYTES):
                    pieces.append(piece)
                content = b"".join(pieces)
        finally:
            os.close(descriptor)
        files += 1
        total += len(content)
        digest += digest_of(path[name_from:], content)
    return files, total, digest & MASK


def main() -> None:
    """Read as the arguments say; see the module."""
    mode, root, count, *rest = (os.fsencode(argument) for argument in sys.argv[1:])
    readers = int(count)
    names: list[bytes] = []
    if mode == b"list":
        with open(rest[0], "rb") as file:
            names = file.read().split(b"\0")[:-1]

    def prepare(own: int) -> Iterator[bytes]:
        if mode == b"walk":
            return walk(root, own, readers)
        return (root + b"/" + name for name in names[own::readers])

    report(readers, prepare, lambda paths: read_all(root, paths))


if __name__ == "__main__":
    main()
