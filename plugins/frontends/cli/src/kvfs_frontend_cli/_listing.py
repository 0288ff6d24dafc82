"""Directories printed as ls(1) prints them, or as JSON; memory does not grow with their size."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import attrgetter
from typing import Any

import attrs

from kvfs.errors import KVFSError
from kvfs.files import Attributes, Dirent, Files
from kvfs.files.records import decode_device
from kvfs.units import format_bytes
from kvfs_frontend_cli import _output
from kvfs_frontend_cli._exits import Exit, exit_of

SORTED_MAX = 50_000
"""Entries of one directory held in memory for sorting: 30 MB of them."""
_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "character-device",
    stat.S_IFBLK: "block-device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@attrs.frozen
class Entry:
    """What is printed of one file."""

    name: bytes
    """As shown."""
    path: bytes
    """From the root of the volume, without a leading slash."""
    attributes: Attributes


def type_name(mode: int) -> str:
    """The type of a file in a word."""
    return _TYPES.get(stat.S_IFMT(mode), "unknown")


def attributes_record(attributes: Attributes) -> dict[str, Any]:
    """Attributes as JSON has them: times in nanoseconds, the mode in octal as text."""
    fields: dict[str, Any] = {
        "type": type_name(attributes.mode),
        "inode": attributes.inode,
        "mode": f"{stat.S_IMODE(attributes.mode):04o}",
        "nlink": attributes.nlink,
        "uid": attributes.uid,
        "gid": attributes.gid,
        "size": attributes.size,
        "blocks": attributes.blocks,
        "mtime_ns": attributes.mtime_ns,
        "atime_ns": attributes.atime_ns,
        "ctime_ns": attributes.ctime_ns,
    }
    if is_device(attributes):
        fields["major"], fields["minor"] = decode_device(attributes.rdev)
    return fields


def is_device(attributes: Attributes) -> bool:
    """Is it a character or block device?"""
    return stat.S_ISCHR(attributes.mode) or stat.S_ISBLK(attributes.mode)


class Lister:
    """Names, one a line: as bytes where a program reads them, safely on a terminal."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._safe = _output.is_terminal()

    def heading(self, path: bytes, *, first: bool) -> None:
        """The name of a directory, above its entries."""
        _output.write(b"" if first else b"\n")
        _output.write(self._name(path or b"/") + b":\n")

    def show(self, entry: Entry) -> None:
        """One entry."""
        _output.write(self._name(entry.name) + b"\n")

    def _name(self, name: bytes) -> bytes:
        return _output.printable(name).encode() if self._safe else name


class LongLister(Lister):
    """A line of attributes each, as ``ls -l``."""

    def __init__(self, files: Files, *, human: bool, numeric: bool) -> None:
        super().__init__(files)
        self._human = human
        self._numeric = numeric

    def show(self, entry: Entry) -> None:
        """One entry."""
        attributes = entry.attributes
        line = (
            f"{stat.filemode(attributes.mode)} {attributes.nlink:>3} "
            f"{self._user(attributes.uid):<8} {self._group(attributes.gid):<8} "
            f"{self._size(attributes):>10} {_time(attributes.mtime_ns)} "
        )
        target = b""
        if stat.S_ISLNK(attributes.mode):
            target = b" -> " + self._name(bytes(self._files.readlink(attributes.inode)))
        _output.write(line.encode() + self._name(entry.name) + target + b"\n")

    def _size(self, attributes: Attributes) -> str:
        if is_device(attributes):
            return "{}, {}".format(*decode_device(attributes.rdev))
        return format_bytes(attributes.size) if self._human else str(attributes.size)

    def _user(self, uid: int) -> str:
        return str(uid) if self._numeric else _user_name(uid)

    def _group(self, gid: int) -> str:
        return str(gid) if self._numeric else _group_name(gid)


class JSONLister(Lister):
    """A JSON object each."""

    def heading(self, path: bytes, *, first: bool) -> None:
        """Nothing: every entry has its path."""

    def show(self, entry: Entry) -> None:
        """One entry."""
        attributes = entry.attributes
        fields: dict[str, Any] = {"path": _output.text_of(entry.path)}
        fields |= attributes_record(attributes)
        if stat.S_ISLNK(attributes.mode):
            fields["target"] = bytes(self._files.readlink(attributes.inode))
        _output.record(fields)


@lru_cache(4096)
def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return str(uid)


@lru_cache(4096)
def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)


@lru_cache(4096)
def _minute(minutes: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(minutes * 60))
    except (OverflowError, ValueError, OSError):
        return str(minutes * 60)


def _time(time_ns: int) -> str:
    return _minute(time_ns // 60_000_000_000)


@attrs.define
class Walk:
    """Prints a directory, or all that is below it, each directory in one go.

    A directory is remembered only while something below it is still to come: as an iterator, not
    as a list, where it is too large to be sorted.
    """

    files: Files
    lister: Lister
    recursive: bool = attrs.field(kw_only=True)
    sort: bool = attrs.field(kw_only=True)
    hidden: bool = attrs.field(kw_only=True)
    code: Exit = attrs.field(default=Exit.OK, init=False)
    """What to exit with: that of the first directory that could not be listed."""

    def run(self, path: bytes, inode: int) -> Exit:
        """Print it."""
        if not self.recursive:
            for _ in self._print(path, inode):
                pass
            return self.code
        self.lister.heading(path, first=True)
        stack = [self._print(path, inode)]
        while stack:
            below = next(stack[-1], None)
            if below is None:
                stack.pop()
                continue
            self.lister.heading(below.path, first=False)
            stack.append(self._print(below.path, below.attributes.inode))
        return self.code

    def _print(self, path: bytes, inode: int) -> Iterator[Entry]:
        """Print the entries of one directory; then yield the directories among them."""
        try:
            entries, rescan = self._entries(inode)
            for dirent in entries:
                if self._is_shown(dirent):
                    self.lister.show(_entry(path, dirent))
            if not self.recursive:
                return
            for dirent in self.files.entries(inode) if rescan else entries:
                if dirent.attributes.is_directory and self._is_shown(dirent):
                    yield _entry(path, dirent)
        except KVFSError as error:
            _output.complain(f"{_output.text_of(path) or '/'}: {error}")
            self.code = self.code or exit_of(error)

    def _is_shown(self, dirent: Dirent) -> bool:
        return self.hidden or not dirent.name.startswith(b".")

    def _entries(self, inode: int) -> tuple[Iterable[Dirent], bool]:
        """The entries, sorted if they are few enough; and whether they can be had only once."""
        lazily = self.files.entries(inode)
        if not self.sort:
            return lazily, True
        held: list[Dirent] = []
        for dirent in lazily:
            held.append(dirent)
            if len(held) > SORTED_MAX:
                return _chain(held, lazily), True
        held.sort(key=attrgetter("name"))
        return held, False


def _chain(held: list[Dirent], rest: Iterator[Dirent]) -> Iterator[Dirent]:
    yield from held
    held.clear()
    yield from rest


def _entry(path: bytes, dirent: Dirent) -> Entry:
    below = path + b"/" + dirent.name if path else dirent.name
    return Entry(dirent.name, below, dirent.attributes)
