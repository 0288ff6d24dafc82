"""What the tests of this directory do in processes of their own: ``child.py TASK ARGUMENT...``."""

from __future__ import annotations

import sys
from pathlib import Path

from kvfs.backing import BackingStore
from kvfs.errors import Conflict
from kvfs_backing_posix import PosixSettings
from kvfs_backing_posix._driver import open_store


def _store(path: str) -> BackingStore:
    return BackingStore(open_store(PosixSettings(path=Path(path))), name="posix")


def write_without_end(path: str, name: str) -> None:
    """Write an object, say so after a MiB, and go on; to be killed."""
    with _store(path).open_writer(name) as stream:
        stream.write(bytes(1 << 20))
        stream.flush()
        print("writing", flush=True)
        sys.stdin.readline()


def increment(path: str, name: str, times: str) -> None:
    """Add one to the number in an object, again and again, by conditional replacement."""
    store = _store(path)
    for _ in range(int(times)):
        while True:
            version = store.stat(name).version
            number = int(store.read(name, 0, 100))
            try:
                store.write(name, b"%d" % (number + 1), if_match=version)
                break
            except Conflict:
                pass


if __name__ == "__main__":
    {task.__name__: task for task in (write_without_end, increment)}[sys.argv[1]](*sys.argv[2:])
