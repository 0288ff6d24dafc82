"""The objects of a directory tree in byte order of their full names.

A directory ``a`` is sorted as ``a/``, since that is how the names of everything in it begin:
``a.tar`` comes before ``a/b``, and ``a0`` behind it.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from kvfs.backing import ObjectInfo
from kvfs.errors import NotFound
from kvfs_backing_posix._errors import translated
from kvfs_backing_posix._names import OWN_DIRECTORY, decoded, encoded, open_root

_SLASH = ord("/")
_ENCODING = sys.getfilesystemencoding()
_LOST_AND_FOUND = b"lost+found/"
_INSIDE = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def info_of(name: str, found: os.stat_result) -> ObjectInfo:
    """An object from its file's attributes.

    The version is made of size, modification time and inode number.  The inode number tells a file
    that replaced another of the same size and time, as ``cp -p`` and ``mv`` make them.
    """
    version = f"{found.st_size:x}-{found.st_mtime_ns:x}-{found.st_ino:x}"
    return ObjectInfo(name, found.st_size, found.st_mtime_ns, version)


def objects(root: Path, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
    """Objects whose names start with ``prefix`` and lie behind ``after``.

    Holds the names in the directories on the path to the object at hand, not more.

    :raises PermissionDenied: a directory may not be read.  It is not passed over: to whoever
        compares listings, its objects would be gone.
    """
    wanted = encoded(prefix)
    floor = None if after is None else encoded(after)
    fd = open_root(root)
    try:
        yield from _below(fd, b"", wanted, floor)
    finally:
        os.close(fd)


def _below(fd: int, path: bytes, wanted: bytes, floor: bytes | None) -> Iterator[ObjectInfo]:
    skip = len(path)
    for key in _keys(fd, path, wanted, floor):
        if key[-1] == _SLASH:
            inside = _enter(fd, key[skip:-1], key)
            if inside is not None:
                try:
                    yield from _below(inside, key, wanted, floor)
                finally:
                    os.close(inside)
        else:
            # In line, as this is done for each of perhaps 100,000 files of one directory.
            try:
                found = os.stat(key[skip:], dir_fd=fd)
            except OSError as error:
                _vanished(error, key)
                continue
            if stat.S_ISREG(found.st_mode):
                yield info_of(decoded(key), found)


def _keys(fd: int, path: bytes, wanted: bytes, floor: bytes | None) -> list[bytes]:
    """What of one directory can hold wanted names, sorted; directories end in a slash."""
    chosen = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                key = path + entry.name.encode(_ENCODING, "surrogateescape")
                if entry.is_dir(follow_symlinks=False):
                    key += b"/"
                    if not (key.startswith(wanted) or wanted.startswith(key)):
                        continue
                    if floor is not None and key < floor and not floor.startswith(key):
                        continue
                    if not path and entry.name == OWN_DIRECTORY:
                        continue
                elif not key.startswith(wanted) or (floor is not None and key <= floor):
                    continue
                chosen.append(key)
    except OSError as error:
        raise translated(error, f"listing {decoded(path) or 'the directory'!r}") from error
    chosen.sort()
    return chosen


def _enter(fd: int, name: bytes, key: bytes) -> int | None:
    try:
        return os.open(name, _INSIDE, dir_fd=fd)
    except OSError as error:
        # Every ext4 file system has a lost+found, for root alone, and it is nobody's data.
        if key != _LOST_AND_FOUND or not isinstance(error, PermissionError):
            _vanished(error, key)
        return None


def _vanished(error: OSError, key: bytes) -> None:
    """Pass over what vanished since its directory was read, and links to nowhere or themselves."""
    ours = translated(error, f"listing {decoded(key)!r}")
    if not isinstance(ours, NotFound):
        raise ours from error
