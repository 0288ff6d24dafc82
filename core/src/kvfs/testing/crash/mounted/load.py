"""The load: processes that change files below a directory and say, outside of it, what was done.

What one of them does follows from its seed, so that whoever knows the seed knows what the files
look like after so many operations: :class:`Tree` is that knowledge.  The process is run as a
script, of the standard library alone, because many of them are started::

    python load.py SEED DIRECTORY LOG STOP BEGINNING

BEGINNING is what is in the directory to begin with: a name of :data:`BEGINNINGS`.
Each line of the log is a word, the number of an operation and the time (``CLOCK_MONOTONIC``, which
all processes of a machine share): ``begin`` before it, ``done`` or ``failed`` after it.  The
process ends before the next operation when the file STOP is there, and when one has failed.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NAMES = 12
"""So many names each process uses, so that operations meet."""
DATA_BYTES_MAX = 100_000
FILE_BYTES_MAX = 400_000
_PAGE = 4096
_WEIGHTS = {
    "create": 5,
    "write": 8,
    "fsync": 2,
    "publish": 4,
    "rename": 4,
    "truncate": 1,
    "link": 1,
    "unlink": 3,
    "mkdir": 2,
    "rmdir": 1,
    "syncdir": 1,
}
SYNCS = frozenset({"fsync", "syncdir"})
"""What has been done when one of these begins is there after any kill."""


@dataclass(frozen=True)
class Op:
    """One operation, on paths relative to the directory."""

    kind: str
    path: str
    target: str = ""
    offset: int = 0
    data: bytes = field(default=b"", repr=False)

    def do(self, base: Path) -> None:
        """Do it."""
        path = base / self.path
        match self.kind:
            case "mkdir":
                path.mkdir()
            case "rmdir":
                path.rmdir()
            case "unlink":
                path.unlink()
            case "rename":
                path.rename(base / self.target)
            case "link":
                (base / self.target).hardlink_to(path)
            case "truncate":
                os.truncate(path, self.offset)
            case _:
                self._on_open_file(path)

    def _on_open_file(self, path: Path) -> None:
        making = os.O_CREAT | os.O_EXCL if self.kind == "create" else 0
        how = os.O_RDONLY if self.kind == "syncdir" else os.O_WRONLY
        descriptor = os.open(path, how | making, 0o644)
        try:
            if self.kind == "write":
                written = os.pwrite(descriptor, self.data, self.offset)
                assert written == len(self.data), (self, written)
            elif self.kind in SYNCS:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Tree:
    """What is in the directory of one process: paths, and what they lead to."""

    def __init__(self) -> None:
        self.paths: dict[str, int | None] = {}
        """The number of a file, or ``None`` for a directory."""
        self.contents: dict[int, bytes] = {}
        self._files = 0

    def add(self, path: str, content: bytes) -> None:
        """One more file."""
        self._files += 1
        self.paths[path] = self._files
        self.contents[self._files] = content

    def make(self, base: Path) -> None:
        """Make it in a directory, which is made, too."""
        base.mkdir(parents=True)
        made: dict[int, Path] = {}
        for path, file in self.paths.items():
            if file is None:
                (base / path).mkdir()
            elif file in made:
                (base / path).hardlink_to(made[file])
            else:
                made[file] = base / path
                made[file].write_bytes(self.contents[file])

    def copy(self) -> Tree:
        """Another one, of the same contents."""
        tree = Tree()
        tree.paths, tree.contents = self.paths.copy(), self.contents.copy()
        tree._files = self._files
        return tree

    def apply(self, op: Op) -> bool:
        """Do an operation; ``False``: it cannot be done, and nothing was."""
        paths, path = self.paths, op.path
        if op.kind in ("create", "mkdir"):
            if path in paths:
                return False
            if op.kind == "create":
                self.add(path, b"")
            else:
                paths[path] = None
            return True
        if path not in paths and op.kind != "syncdir":
            return False
        match op.kind:
            case "unlink" | "rmdir":
                del paths[path]
            case "rename":
                paths[op.target] = paths.pop(path)
            case "link":
                if op.target in paths:
                    return False
                paths[op.target] = paths[path]
            case "write" | "truncate":
                file = paths[path]
                assert file is not None
                self._change(file, op)
        return True

    def apply_to(self, file: int, op: Op) -> bool:
        """Do an operation as by who has had the file open, whatever it is called now."""
        if file not in self.contents:
            return False
        if op.kind == "link":
            if op.target in self.paths:
                return False
            self.paths[op.target] = file
        elif op.kind in ("write", "truncate"):
            self._change(file, op)
        return True

    def _change(self, file: int, op: Op) -> None:
        old = self.contents[file]
        if op.kind == "truncate":
            self.contents[file] = old[: op.offset].ljust(op.offset, b"\0")
        else:
            end = op.offset + len(op.data)
            self.contents[file] = old[: op.offset].ljust(op.offset, b"\0") + op.data + old[end:]

    def shown(self) -> dict[str, bytes | None]:
        """Every path, and the contents of files; ``None`` for a directory."""
        return {
            path: None if file is None else self.contents[file] for path, file in self.paths.items()
        }


def _full() -> Tree:
    """Files of every layout, in two directories and by two names."""
    tree, rng = Tree(), random.Random("full")
    tree.paths["d-n00"] = None
    for number, size in enumerate((0, 10, 4000, 9000, 131_072, 140_000, 300_000)):
        tree.add(f"n{number:02}", rng.randbytes(size))
        tree.add(f"d-n00/n{number:02}", rng.randbytes(size))
    tree.paths["n10"] = tree.paths["n05"]
    return tree


BEGINNINGS = {"empty": Tree, "full": _full}


class Plan:
    """The operations of one process, one after another, without an end.

    :param seed: of everything.
    :param tree: what is there to begin with; it goes on with it.
    """

    def __init__(self, seed: str, tree: Tree | None = None) -> None:
        self._random = random.Random(seed)
        self.tree = Tree() if tree is None else tree
        """As it is when all operations so far have been done."""

    def __iter__(self) -> Iterator[Op]:
        kinds, weights = [*_WEIGHTS], [*_WEIGHTS.values()]
        while True:
            kind = self._random.choices(kinds, weights)[0]
            for op in self._ops(kind):
                yield op
                assert self.tree.apply(op), op

    def _ops(self, kind: str) -> Iterator[Op]:
        rng, paths = self._random, self.tree.paths
        files = sorted(path for path, file in paths.items() if file is not None)
        directories = sorted(path for path, file in paths.items() if file is None)
        name = f"n{rng.randrange(NAMES):02}"
        place = rng.choice(["", *(f"{path}/" for path in directories)])
        free = place + name
        if kind == "syncdir":
            yield Op("syncdir", "")
        elif kind == "publish":
            # What many programs do, and users rely on: whoever sees the new name sees it all.
            yield from self._publish(f"{place}tmp", free)
        elif kind == "mkdir":
            if f"d-{name}" not in paths:
                yield Op("mkdir", f"d-{name}")
        elif kind == "rmdir":
            empty = [
                path for path in directories if not any(p.startswith(f"{path}/") for p in paths)
            ]
            if empty:
                yield Op("rmdir", rng.choice(empty))
        elif kind == "create":
            if free not in paths:
                yield Op("create", free)
        elif files:
            yield from self._on_file(kind, rng.choice(files), free)

    def _on_file(self, kind: str, path: str, free: str) -> Iterator[Op]:
        rng, paths = self._random, self.tree.paths
        file = paths[path]
        assert file is not None
        size = len(self.tree.contents[file])
        if kind == "write":
            yield self._write(path, rng.choice([0, size, rng.randrange(FILE_BYTES_MAX // 2)]))
        elif kind == "truncate":
            yield Op(kind, path, offset=rng.randrange(2 * size + 1))
        elif kind in ("rename", "link"):
            # A name of the same file: rename does nothing then, and link fails.
            if paths.get(free) is None or (kind == "rename" and paths[free] != file):
                yield Op(kind, path, free)
        else:
            yield Op(kind, path)

    def _publish(self, temporary: str, path: str) -> Iterator[Op]:
        yield Op("create", temporary)
        yield self._write(temporary, 0)
        # Half of the times without fsync: the order is kept all the same.
        if self._random.random() < 0.5:
            yield Op("fsync", temporary)
        yield Op("rename", temporary, path)

    def _write(self, path: str, offset: int) -> Op:
        """A write that the kernel makes one request of, so that it is whole or not there."""
        offset = min(offset, FILE_BYTES_MAX - DATA_BYTES_MAX)
        size = int(DATA_BYTES_MAX ** self._random.random())
        if self._random.random() < 0.5:
            offset -= offset % _PAGE
        if offset % _PAGE:
            size = min(size, _PAGE - offset % _PAGE)
        return Op("write", path, offset=offset, data=self._random.randbytes(size))


def main(seed: str, directory: str, log: str, stop: str, beginning: str) -> int:
    """Work until it is stopped; 1: an operation failed."""
    base = Path(directory)
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(word: str, number: int) -> None:
        os.write(lines, f"{word} {number} {time.monotonic():.6f}\n".encode())

    for number, op in enumerate(Plan(seed, BEGINNINGS[beginning]())):
        if os.path.exists(stop):
            break
        say("begin", number)
        try:
            op.do(base)
        except OSError as error:
            print(f"{op}: {error!r}", file=sys.stderr)
            say("failed", number)
            return 1
        say("done", number)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
