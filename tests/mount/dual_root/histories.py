"""Random histories of system calls, each a plain object that can be kept in a file and replayed."""

from __future__ import annotations

import fcntl
import json
import stat
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

Step = dict[str, Any]
"""``by`` (the number of an actor), ``call`` (a method of :class:`.actor.Actor`), its arguments."""

USER = 1001
UIDS = (0, USER, 0, USER + 1)
"""Whom the actors of a world run as."""
SLOTS = 4
NAMES = ("a", "b", "c", "d", "e f", "\udcff", "n" * 255)
SIZES = (0, 1, 7, 100, 511, 512, 4095, 4096, 4097, 16_384, 65_535, 65_536, 65_537)
OFFSETS = (*SIZES, 131_071, 131_072, 131_073, 262_144, 300_001, 1 << 20)
MODES = (0o644, 0o600, 0o666, 0o755, 0o777, 0o700, 0o444, 0o000, 0o4755, 0o2755, 0o6777, 0o1777)
MASKS = (0o022, 0o000, 0o077, 0o027)
TIMES = (0, 1, 1_000_000_001, 999_999_999_999_999_999, -5_000_000_001, 5_000_000_000 * 10**9 + 7)
XATTRS = ("user.a", "user.b", "trusted.a", "security.a", "user.", "unknown.a", "user." + "x" * 251)
_FLAGS = ("O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND", "O_NOFOLLOW", "O_DIRECTORY", "O_SYNC")
_KEEP_SIZE, _PUNCH_HOLE, _ZERO_RANGE = 1, 2, 16


def acl(*entries: tuple[int, int, int]) -> str:
    """An access control list as the value of an attribute, in hexadecimal digits."""
    packed = [struct.pack("<HHI", tag, perm, who & 0xFFFF_FFFF) for tag, perm, who in entries]
    return (struct.pack("<I", 2) + b"".join(packed)).hex()


ACLS = (
    acl((1, 7, -1), (4, 5, -1), (32, 0, -1)),
    acl((1, 6, -1), (2, 7, USER), (4, 4, -1), (16, 7, -1), (32, 0, -1)),
    acl((1, 7, -1), (2, 0, USER), (4, 7, -1), (8, 5, USER + 1), (16, 5, -1), (32, 7, -1)),
    acl((1, 7, -1), (2, 7, USER), (4, 7, -1), (32, 7, -1)),  # it lacks a mask
    acl(),
    "00",
)


class Generator:
    """Chooses the next step, knowing what is there, so that most steps do something."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._paths: list[str] = [""]
        self._directories: list[str] = [""]
        self._files: list[str] = []
        self._above = ".."

    def saw(self, tree: dict[str, list[Any]], below: str = "") -> None:
        """What is there now; the paths that the actors use begin with ``below``."""
        start = len(below)
        inside = {path[start:]: row for path, row in tree.items() if path[:start] == below}
        inside.pop("", None)
        # What is above the root of a tarball can't be the same.
        self._above = ".." if below else "."
        self._paths = list(inside) or [""]
        self._directories = ["", *(path for path, row in inside.items() if row[0][0] == "d")]
        self._files = [path for path, row in inside.items() if row[0][0] == "-"]

    def history(self, count: int, looks: int = 0) -> Iterator[Step]:
        """So many steps.

        :param looks: so many at most only look, before the first that changes something; with
            some, the volume is mounted anew half way, too.
        """
        looks = self._random.randrange(looks) if looks else 0
        remount = count // 2 if looks else -1
        for number in range(count):
            if number == remount:
                yield {"call": "remount"}
            else:
                yield self.look() if number < looks else self.step()

    def look(self) -> Step:
        """One that changes nothing: what is sealed stays so."""
        step = self._by_somebody(self._one(_LOOKS))
        if step["call"] == "open":
            step["flags"] = [flag for flag in step["flags"] if flag not in _MAKING]
        return step

    def step(self) -> Step:
        """The next one."""
        return self._by_somebody(self._random.choices(_MAKERS, _WEIGHTS)[0])

    def _by_somebody(self, make: Callable[[Generator], Step]) -> Step:
        step = {"by": self._random.choices(range(len(UIDS)), (4, 4, 2, 1))[0], **make(self)}
        if step["by"] and step.get("uid") == step.get("gid") == -1:
            step["gid"] = USER  # FUSE does not say enough to refuse it where a file is setuid
        if "path" in step or "old" in step:
            has_at = step["call"] not in _WITHOUT_AT
            if has_at and self._random.random() < 0.1:
                step["at"] = self._slot()
        return step

    # -- what is chosen from -----------------------------------------------------------------------

    def _slot(self) -> int:
        return self._random.randrange(SLOTS)

    def _one(self, choices: Sequence[Any]) -> Any:
        return self._random.choice(choices)

    def _size(self) -> int:
        return int(self._one(SIZES)) if self._random.random() < 0.8 else self._offset()

    def _offset(self) -> int:
        if self._random.random() < 0.7:
            return int(self._one(OFFSETS))
        return self._random.randrange(300_000)

    def _seed(self) -> int:
        return self._random.randrange(1000)

    def _new(self) -> str:
        """A name that may be free."""
        directory = self._one(self._directories[:12])
        name = self._one(NAMES[:5]) if self._random.random() < 0.9 else self._one(NAMES)
        if self._random.random() < 0.02:
            name = self._one(("n" * 256, ".", self._above, name + "/", "", "a/../b", "./a"))
        return f"{directory}/{name}" if directory and directory.count("/") < 3 else name

    def _path(self) -> str:
        """Something that is there, mostly."""
        return self._new() if self._random.random() < 0.15 else self._one(self._paths)

    def _file(self) -> str:
        if self._files and self._random.random() < 0.75:
            return str(self._one(self._files))
        return self._path()

    def _either(self, first: str, second: str) -> str:
        return first if self._random.random() < 0.5 else second

    # -- steps -------------------------------------------------------------------------------------

    def _open(self) -> Step:
        how = self._random.choices(("O_RDWR", "O_RDONLY", "O_WRONLY", "O_PATH"), (8, 3, 2, 0.3))[0]
        flags = [how] + [each for each in _FLAGS if self._random.random() < 0.12]
        path = self._file()
        if self._random.random() < 0.4:
            path = self._new()
            flags = [*dict.fromkeys([*flags, "O_CREAT"])]
        if self._random.random() < 0.15:
            path, flags = self._one(self._directories), ["O_RDONLY", "O_DIRECTORY"]
        elif self._random.random() < 0.08:
            path, flags = self._one(self._directories), [how, "O_TMPFILE"]
            flags += ["O_EXCL"] * (self._random.random() < 0.2)
        path = path or "."
        mode = self._one(MODES)
        return {"call": "open", "slot": self._slot(), "path": path, "flags": flags, "mode": mode}

    def _close(self) -> Step:
        return {"call": "close", "slot": self._slot()}

    def _read(self) -> Step:
        return {"call": "read", "slot": self._slot(), "length": self._size()}

    def _pread(self) -> Step:
        where = {"length": self._size(), "offset": self._offset()}
        return {"call": "pread", "slot": self._slot(), **where}

    def _write(self) -> Step:
        what = {"length": self._size(), "seed": self._seed()}
        return {"call": "write", "slot": self._slot(), **what}

    def _pwrite(self) -> Step:
        what = {"length": self._size(), "offset": self._offset(), "seed": self._seed()}
        return {"call": "pwrite", "slot": self._slot(), **what}

    def _seek(self) -> Step:
        where = {"offset": self._offset() - 100, "whence": self._one((0, 0, 0, 1, 2))}
        return {"call": "seek", "slot": self._slot(), **where}

    def _of_slot(self) -> Step:
        return {"call": self._one(("ranges", "fstat", "map", "unmap")), "slot": self._slot()}

    def _map(self) -> Step:
        return {"call": "map", "slot": self._slot()}

    def _poke(self) -> Step:
        what = {"offset": self._offset(), "length": self._size(), "seed": self._seed()}
        return {"call": "poke", "slot": self._slot(), **what}

    def _peek(self) -> Step:
        where = {"offset": self._offset(), "length": self._size()}
        return {"call": "peek", "slot": self._slot(), **where}

    def _ftruncate(self) -> Step:
        return {"call": "ftruncate", "slot": self._slot(), "size": self._offset()}

    def _truncate(self) -> Step:
        return {"call": "truncate", "path": self._file(), "size": self._offset()}

    def _fsync(self) -> Step:
        return {"call": "fsync", "slot": self._slot(), "data": self._random.random() < 0.5}

    def _fallocate(self) -> Step:
        modes = (0, _KEEP_SIZE, _PUNCH_HOLE | _KEEP_SIZE, _ZERO_RANGE, _ZERO_RANGE | _KEEP_SIZE)
        where = {"offset": self._offset(), "length": self._size(), "mode": self._one(modes)}
        return {"call": "fallocate", "slot": self._slot(), **where}

    def _copy(self) -> Step:
        where = {"offset": self._offset(), "new_offset": self._offset(), "length": self._size()}
        return {"call": "copy", "source": self._slot(), "slot": self._slot(), **where}

    def _fchmod(self) -> Step:
        return {"call": "fchmod", "slot": self._slot(), "mode": self._one(MODES)}

    def _fchown(self) -> Step:
        return {"call": "fchown", "slot": self._slot(), **self._owner()}

    def _owner(self) -> Step:
        ids = (-1, 0, USER, USER + 1)
        return {"uid": self._one(ids), "gid": self._one(ids)}

    def _lock(self) -> Step:
        how = self._one((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN))
        if self._random.random() < 0.5:
            return {"call": "flock", "slot": self._slot(), "how": how}
        where = {"offset": self._random.randrange(4), "length": self._random.randrange(3)}
        return {"call": "lockf", "slot": self._slot(), "how": how, **where}

    def _link_fd(self) -> Step:
        return {"call": "link_fd", "slot": self._slot(), "new": self._new()}

    def _umask(self) -> Step:
        return {"call": "umask", "mask": self._one(MASKS)}

    def _mkdir(self) -> Step:
        mode = self._one((0o755, 0o777, 0o777, 0o1777, 0o2777, 0o700))
        return {"call": "mkdir", "path": self._new(), "mode": mode}

    def _mknod(self) -> Step:
        kind = self._one((stat.S_IFIFO, stat.S_IFREG, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK))
        device = 259 if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
        mode = kind | self._one(MODES)
        return {"call": "mknod", "path": self._new(), "mode": mode, "device": device}

    def _symlink(self) -> Step:
        targets = ("a", "b", "missing", f"{self._above}/a", "a/b", ".", "c/", "x" * 200)
        target = self._one((*targets, self._one(self._paths)))
        return {"call": "symlink", "target": target, "path": self._new()}

    def _readlink(self) -> Step:
        return {"call": "readlink", "path": self._path()}

    def _link(self) -> Step:
        follow = self._random.random() < 0.2
        return {"call": "link", "old": self._path(), "new": self._new(), "follow": follow}

    def _unlink(self) -> Step:
        return {"call": "unlink", "path": self._path()}

    def _rmdir(self) -> Step:
        return {"call": "rmdir", "path": self._one((self._path(), self._one(self._directories)))}

    def _rename(self) -> Step:
        new = self._either(self._new(), self._path())
        flags = self._one((0, 0, 0, 1, 2, 2, 3, 8))
        return {"call": "rename", "old": self._path(), "new": new, "flags": flags}

    def _list(self) -> Step:
        return {"call": "entries", "path": self._one(self._directories) or "."}

    def _access(self) -> Step:
        return {"call": "access", "path": self._path(), "mode": self._random.randrange(8)}

    def _stat(self) -> Step:
        follow = self._random.random() < 0.5
        return {"call": "stat", "path": self._path(), "follow": follow}

    def _chmod(self) -> Step:
        return {"call": "chmod", "path": self._path(), "mode": self._one(MODES)}

    def _chown(self) -> Step:
        follow = self._random.random() < 0.5
        return {"call": "chown", "path": self._path(), "follow": follow, **self._owner()}

    def _utime(self) -> Step:
        times = [self._one(TIMES), self._one(TIMES)] if self._random.random() < 0.8 else None
        return {"call": "utime", "path": self._path(), "times": times}

    def _setxattr(self) -> Step:
        name, value = self._one(XATTRS), "ab" * self._one((0, 1, 10, 300))
        if self._random.random() < 0.4:
            name = "system.posix_acl_" + self._one(("access", "default"))
            value = self._one(ACLS)
        how = {"flags": self._one((0, 0, 0, 1, 2, 3)), "follow": self._random.random() < 0.7}
        return {"call": "setxattr", "path": self._path(), "name": name, "value": value, **how}

    def _xattr(self) -> Step:
        call = self._one(("getxattr", "removexattr"))
        names = (*XATTRS, "system.posix_acl_access", "system.posix_acl_default")
        return {"call": call, "path": self._path(), "name": self._one(names)}

    def _listxattr(self) -> Step:
        return {"call": "listxattr", "path": self._path()}

    def _shrink(self) -> Step:
        return {"call": "shrink"}


_WITHOUT_AT = ("truncate", "setxattr", "getxattr", "listxattr", "removexattr")
_TABLE = {
    Generator._open: 16, Generator._close: 4, Generator._read: 3, Generator._pread: 2,
    Generator._write: 7, Generator._pwrite: 8, Generator._seek: 3, Generator._of_slot: 5,
    Generator._map: 3, Generator._poke: 5, Generator._peek: 2, Generator._ftruncate: 4,
    Generator._truncate: 3, Generator._fsync: 1, Generator._fallocate: 4, Generator._copy: 4,
    Generator._fchmod: 2, Generator._fchown: 2, Generator._lock: 2, Generator._link_fd: 2,
    Generator._umask: 1, Generator._mkdir: 7, Generator._mknod: 3, Generator._symlink: 4,
    Generator._readlink: 1, Generator._link: 5, Generator._unlink: 7, Generator._rmdir: 3,
    Generator._rename: 10, Generator._list: 2, Generator._access: 2, Generator._stat: 2,
    Generator._chmod: 5, Generator._chown: 5, Generator._utime: 5, Generator._setxattr: 6,
    Generator._xattr: 3, Generator._listxattr: 1, Generator._shrink: 2,
}  # fmt: skip
_MAKERS = [*_TABLE]
_WEIGHTS = [*_TABLE.values()]
_LOOKS = (
    Generator._open, Generator._open, Generator._read, Generator._pread, Generator._of_slot,
    Generator._map, Generator._peek, Generator._list, Generator._access, Generator._stat,
    Generator._listxattr, Generator._readlink, Generator._lock, Generator._shrink,
)  # fmt: skip
_MAKING = ("O_CREAT", "O_EXCL", "O_TRUNC", "O_TMPFILE")


def load(path: Path) -> list[Step]:
    """A history from a file: a step a line; what follows a ``#`` is said to the reader."""
    lines = path.read_text().splitlines()
    return [json.loads(line) for line in lines if line and not line.startswith("#")]


def save(path: Path, steps: Sequence[Step], why: str) -> None:
    """Keep a history in a file."""
    said = [f"# {line}" for line in why.splitlines()]
    path.write_text("\n".join([*said, *(json.dumps(step) for step in steps)]) + "\n")
