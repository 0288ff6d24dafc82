"""The reader that every contestant is read by: a process of its own, so that its time is its own.

    python reader.py walk ROOT          read every file, each directory in its own order
    python reader.py list ROOT PATHS    read the files named in PATHS (each ended by NUL), in order

It prints one line of JSON: files and bytes read, the digest over all of it, and the time from the
first directory or file opened to the last one closed.  Every file is opened, read to its end,
digested (xxh3: a few percent of the time on ext4) and closed, one after another.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterator

from xxhash import xxh3_64_intdigest

MASK = (1 << 64) - 1
_BUFFER_BYTES = 128 << 10


def digest_of(name: bytes, content: bytes | bytearray | memoryview) -> int:
    """64 bits that depend on the contents and on the name that they were found under.

    The digest of a set of files is the sum of theirs, modulo 2**64: the order does not matter.
    """
    return xxh3_64_intdigest(content, xxh3_64_intdigest(name))


def walk(root: bytes) -> Iterator[bytes]:
    """The paths of all files below ``root``, as its directories list them."""
    pending = [root]
    while pending:
        directories = []
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry.path
        pending += reversed(directories)


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
    mode, root, *rest = (os.fsencode(argument) for argument in sys.argv[1:])
    if mode == b"walk":
        paths = walk(root)
    else:
        with open(rest[0], "rb") as file:
            names = file.read().split(b"\0")[:-1]
        paths = iter([root + b"/" + name for name in names])
    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    files, total, digest = read_all(root, paths)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "files": files,
                "bytes": total,
                "digest": digest,
                "wall_s": wall,
                "user_s": after.ru_utime - before.ru_utime,
                "system_s": after.ru_stime - before.ru_stime,
            }
        )
    )


if __name__ == "__main__":
    main()
