"""A process that makes system calls below one directory, as it is told; run by :mod:`.worlds`.

``actor.py DIRECTORY UID`` reads a JSON object a line, which names a method of :class:`Actor` and
its arguments, and answers with a line each: what came of it, as far as it has to be the same on
every file system.  Imports nothing but the standard library: many of these are started.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_SYMLINK_FOLLOW = 0x400
_AT_FDCWD = -100
_OFF = ctypes.c_int64
# Times that nobody set are those of the run, and never the same twice.
_PRESENT_NS = range(1_577_836_800 * 10**9, 4_102_444_800 * 10**9)


def _call(name: str, *arguments: object) -> int:
    result: int = getattr(_LIBC, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _time(ns: int) -> int | str:
    return "now" if ns in _PRESENT_NS else ns


def attributes(found: os.stat_result) -> list[Any]:
    """What has to be the same of what stat(2) says."""
    is_directory = stat.S_ISDIR(found.st_mode)
    return [
        stat.filemode(found.st_mode),
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        None if is_directory else found.st_size,
        found.st_rdev,
        _time(found.st_mtime_ns),
        _time(found.st_atime_ns),
    ]


def _pattern(seed: int, length: int) -> bytes:
    """Bytes that tell one write from another."""
    piece = bytes((seed * 31 + number * 7) % 255 + 1 for number in range(251))
    return (piece * (length // len(piece) + 1))[:length]


class Actor:
    """Open files and mappings by the number of a slot; paths are relative to ``at`` (a slot)."""

    def __init__(self, directory: str) -> None:
        # Opened by root: what is above it is nobody else's.
        self._top = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        self._root = -1
        self._slots: dict[int, int] = {}
        self._maps: dict[int, mmap.mmap] = {}
        self._seen: dict[str, dict[str, os.stat_result]] = {}

    def reset(self, *, directory: str) -> None:
        """Let go of everything, and go on below another directory."""
        for mapping in self._maps.values():
            mapping.close()
        for fd in self._slots.values():
            os.close(fd)
        self._maps.clear()
        self._slots.clear()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
        os.umask(0o022)
        if directory:
            self._root = os.open(directory, os.O_RDONLY, dir_fd=self._top)

    def _fd(self, slot: int) -> int:
        try:
            return self._slots[slot]
        except KeyError:
            raise OSError(errno.EBADF, "the slot is empty") from None

    def _at(self, at: int | None) -> int:
        return self._root if at is None else self._fd(at)

    # -- open files --------------------------------------------------------------------------------

    def open(
        self, *, slot: int, path: str, flags: list[str], mode: int, at: int | None = None
    ) -> None:
        wanted = os.O_CLOEXEC | os.O_NONBLOCK  # a FIFO would wait
        for flag in flags:
            wanted |= getattr(os, flag)
        fd = os.open(path, wanted, mode, dir_fd=self._at(at))
        old = self._slots.get(slot)
        self._slots[slot] = fd
        if old is not None:
            os.close(old)

    def close(self, *, slot: int) -> None:
        fd = self._fd(slot)
        del self._slots[slot]
        os.close(fd)

    def fstat(self, *, slot: int) -> list[Any]:
        fd = self._fd(slot)
        found = os.fstat(fd)
        is_file = stat.S_ISREG(found.st_mode)
        return [*attributes(found), os.lseek(fd, 0, os.SEEK_CUR) if is_file else None]

    def read(self, *, slot: int, length: int) -> list[int]:
        return _digest(os.read(self._file(slot), length))

    def pread(self, *, slot: int, length: int, offset: int) -> list[int]:
        return _digest(os.pread(self._file(slot), length, offset))

    def write(self, *, slot: int, length: int, seed: int) -> int:
        return os.write(self._file(slot), _pattern(seed, length))

    def pwrite(self, *, slot: int, length: int, offset: int, seed: int) -> int:
        return os.pwrite(self._file(slot), _pattern(seed, length), offset)

    def _file(self, slot: int) -> int:
        """No FIFO, no device: what they say is not the file system's."""
        fd = self._fd(slot)
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise OSError(errno.EBADF, "not a file")
        return fd

    def seek(self, *, slot: int, offset: int, whence: int) -> int:
        fd = self._file(slot)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "offsets in a directory are the file system's own")
        return os.lseek(fd, offset, whence)

    def ranges(self, *, slot: int) -> list[str]:
        """What is wrong with what SEEK_DATA and SEEK_HOLE say of a file."""
        fd = self._file(slot)
        size = os.fstat(fd).st_size
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return []
        wrong = []
        before = os.lseek(fd, 0, os.SEEK_CUR)
        at = 0
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                data = size
            if not at <= data <= size:
                wrong.append(f"data from {at}: {data}")
                break
            if os.pread(fd, data - at, at).strip(b"\0"):
                wrong.append(f"a hole from {at} to {data} has data")
            if data == size:
                break
            hole = os.lseek(fd, data, os.SEEK_HOLE)
            if not data < hole <= size:
                wrong.append(f"a hole from {data}: {hole}")
                break
            at = hole
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            try:
                os.lseek(fd, size, whence)
                wrong.append("something behind the end")
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
        os.lseek(fd, before, os.SEEK_SET)
        return wrong

    def ftruncate(self, *, slot: int, size: int) -> None:
        os.ftruncate(self._fd(slot), size)

    def fsync(self, *, slot: int, data: bool) -> None:
        (os.fdatasync if data else os.fsync)(self._file(slot))

    def fallocate(self, *, slot: int, mode: int, offset: int, length: int) -> None:
        _call("fallocate", self._fd(slot), mode, _OFF(offset), _OFF(length))

    def copy(self, *, source: int, offset: int, slot: int, new_offset: int, length: int) -> int:
        """All of it, as cp(1) does: how much one call copies is the kernel's affair."""
        old, new = self._file(source), self._file(slot)
        done = 0
        while done < length:
            count = os.copy_file_range(
                old, new, length - done, offset_src=offset + done, offset_dst=new_offset + done
            )
            if not count:
                break
            done += count
        return done

    def fchmod(self, *, slot: int, mode: int) -> None:
        os.fchmod(self._fd(slot), mode)

    def fchown(self, *, slot: int, uid: int, gid: int) -> None:
        os.fchown(self._fd(slot), uid, gid)

    def flock(self, *, slot: int, how: int) -> None:
        fcntl.flock(self._fd(slot), how | fcntl.LOCK_NB)

    def lockf(self, *, slot: int, how: int, offset: int, length: int) -> None:
        waits = 0 if how == fcntl.LOCK_UN else fcntl.LOCK_NB
        fcntl.lockf(self._file(slot), how | waits, length, offset)

    def link_fd(self, *, slot: int, new: str) -> None:
        """A name for what is open, as of ``O_TMPFILE``."""
        path = f"/proc/self/fd/{self._fd(slot)}".encode()
        _call("linkat", _AT_FDCWD, path, self._root, os.fsencode(new), _AT_SYMLINK_FOLLOW)

    # -- mappings ----------------------------------------------------------------------------------

    def map(self, *, slot: int) -> int:
        """Map a file, as long as it is now."""
        fd = self._file(slot)
        size = os.fstat(fd).st_size
        if not stat.S_ISREG(os.fstat(fd).st_mode) or not size:
            return 0
        fresh = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        old = self._maps.pop(slot, None)
        if old is not None:
            old.close()
        self._maps[slot] = fresh
        return size

    def _mapping(self, slot: int, offset: int, length: int) -> tuple[mmap.mmap, int, int]:
        """What of a range is mapped, and within the file as it is: beyond is a signal."""
        mapping = self._maps.get(slot)
        if mapping is None:
            raise OSError(errno.EBADF, "nothing is mapped")
        stop = min(offset + length, len(mapping), mapping.size())
        return mapping, min(offset, stop), stop

    def poke(self, *, slot: int, offset: int, length: int, seed: int) -> int:
        mapping, start, stop = self._mapping(slot, offset, length)
        if stop > start:
            mapping[start:stop] = _pattern(seed, stop - start)
            mapping.flush()
        return stop - start

    def peek(self, *, slot: int, offset: int, length: int) -> list[int]:
        mapping, start, stop = self._mapping(slot, offset, length)
        return _digest(mapping[start:stop])

    def unmap(self, *, slot: int) -> None:
        mapping, _, _ = self._mapping(slot, 0, 0)
        del self._maps[slot]
        mapping.close()

    # -- names -------------------------------------------------------------------------------------

    def umask(self, *, mask: int) -> int:
        return os.umask(mask)

    def mkdir(self, *, path: str, mode: int, at: int | None = None) -> None:
        os.mkdir(path, mode, dir_fd=self._at(at))

    def mknod(self, *, path: str, mode: int, device: int, at: int | None = None) -> None:
        os.mknod(path, mode, device, dir_fd=self._at(at))

    def symlink(self, *, target: str, path: str, at: int | None = None) -> None:
        os.symlink(target, path, dir_fd=self._at(at))

    def readlink(self, *, path: str, at: int | None = None) -> str:
        return os.readlink(path, dir_fd=self._at(at))

    def link(self, *, old: str, new: str, follow: bool, at: int | None = None) -> None:
        flags = _AT_SYMLINK_FOLLOW if follow else 0
        directory = self._at(at)
        _call("linkat", directory, os.fsencode(old), self._root, os.fsencode(new), flags)

    def unlink(self, *, path: str, at: int | None = None) -> None:
        os.unlink(path, dir_fd=self._at(at))

    def rmdir(self, *, path: str, at: int | None = None) -> None:
        os.rmdir(path, dir_fd=self._at(at))

    def rename(self, *, old: str, new: str, flags: int, at: int | None = None) -> None:
        directory = self._at(at)
        _call("renameat2", directory, os.fsencode(old), self._root, os.fsencode(new), flags)

    def entries(self, *, path: str, at: int | None = None) -> list[list[Any]]:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._at(at))
        try:
            with os.scandir(fd) as entries:
                return sorted([each.name, each.is_dir(), each.is_symlink()] for each in entries)
        finally:
            os.close(fd)

    def access(self, *, path: str, mode: int, at: int | None = None) -> bool:
        return os.access(path, mode, dir_fd=self._at(at), effective_ids=True)

    # -- attributes --------------------------------------------------------------------------------

    def stat(self, *, path: str, follow: bool, at: int | None = None) -> list[Any]:
        return attributes(os.stat(path, dir_fd=self._at(at), follow_symlinks=follow))

    def truncate(self, *, path: str, size: int) -> None:
        os.truncate(self._below(path), size)

    def chmod(self, *, path: str, mode: int, at: int | None = None) -> None:
        os.chmod(path, mode, dir_fd=self._at(at))

    def chown(self, *, path: str, uid: int, gid: int, follow: bool, at: int | None = None) -> None:
        os.chown(path, uid, gid, dir_fd=self._at(at), follow_symlinks=follow)

    def utime(self, *, path: str, times: list[int] | None, at: int | None = None) -> None:
        directory = self._at(at)
        if times is None:
            os.utime(path, dir_fd=directory)
        else:
            os.utime(path, ns=(times[0], times[1]), dir_fd=directory, follow_symlinks=False)

    def _below(self, path: str) -> str:
        return f"/proc/self/fd/{self._root}/{path}"

    def setxattr(self, *, path: str, name: str, value: str, flags: int, follow: bool) -> None:
        data = bytes.fromhex(value)
        os.setxattr(self._below(path), name, data, flags, follow_symlinks=follow)

    def getxattr(self, *, path: str, name: str) -> str:
        return os.getxattr(self._below(path), name).hex()

    def listxattr(self, *, path: str) -> list[str]:
        return sorted(os.listxattr(self._below(path), follow_symlinks=False))

    def removexattr(self, *, path: str, name: str) -> None:
        os.removexattr(self._below(path), name)

    # -- observation -------------------------------------------------------------------------------

    def warm(self, *, directory: str, names: list[str]) -> None:
        """Have the kernel ask for names in every directory, whether they are there or not."""
        for path, _, _ in os.walk(f"/proc/self/fd/{self._top}/{directory}"):
            for name in names:
                os.path.lexists(os.path.join(path, name))

    def observe(self, *, directory: str, moves: bool) -> dict[str, list[Any]]:
        """All there is below a directory; for a process that may see it all.

        :param moves: and whether ctime and mtime are others than when this was asked before.
        """
        top = f"/proc/self/fd/{self._top}/{directory}"
        found: dict[str, list[Any]] = {}
        before = self._seen.pop(directory, {})
        self._seen = {directory: {}}
        self._observe(top, "", found, self._seen[directory])
        for path, status in self._seen[directory].items():
            old = before.get(path)
            if moves and old is not None and old.st_ino == status.st_ino:
                is_changed = old.st_ctime_ns != status.st_ctime_ns
                is_modified = old.st_mtime_ns != status.st_mtime_ns
                found[path] += [is_changed, is_modified]
        return found

    def _observe(
        self, top: str, below: str, found: dict[str, list[Any]], seen: dict[str, os.stat_result]
    ) -> None:
        path = os.path.join(top, below) if below else top
        status = seen[below] = os.lstat(path)
        mode = status.st_mode
        contents: object = None
        if stat.S_ISREG(mode):
            contents = _digest(Path(path).read_bytes())
        elif stat.S_ISLNK(mode):
            contents = os.readlink(path)
        names = sorted(os.listxattr(path, follow_symlinks=False))
        values = [[n, _digest(os.getxattr(path, n, follow_symlinks=False))] for n in names]
        found[below] = [*attributes(status), contents, values]
        if stat.S_ISDIR(mode):
            for name in sorted(os.listdir(path)):
                self._observe(top, os.path.join(below, name), found, seen)


def _digest(data: bytes) -> list[int]:
    return [len(data), zlib.crc32(data)]


def main() -> None:
    """Serve until standard input ends."""
    directory, uid = sys.argv[1], int(sys.argv[2])
    actor = Actor(directory)
    if uid:
        os.setgroups([uid + 1])
        os.setgid(uid)
        os.setuid(uid)
    for line in sys.stdin:
        words: dict[str, Any] = json.loads(line)
        method: Callable[..., object] = getattr(actor, words.pop("call"))
        try:
            answer = {"result": method(**words)}
            if "slot" in words and words["slot"] in actor._slots:
                answer["slot"] = actor.fstat(slot=words["slot"])
        except OSError as error:
            answer = {"errno": errno.errorcode[error.errno or 0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
