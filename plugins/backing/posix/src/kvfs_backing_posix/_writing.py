"""Objects that appear whole or not at all.

An object is written into the store's own directory, made durable, and then linked or renamed to its
name in one step.  A process that is killed in between leaves a file there, which is never listed;
the next store to be opened that finds it untouched for a day removes it.

The step is made under a lock (``flock``) that all KVFS writers of the host share, so a version that
was compared is still the version that is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import BinaryIO, cast

import attrs

from kvfs.backing import ObjectInfo
from kvfs.errors import Conflict, NotFound, Unsupported
from kvfs_backing_posix._errors import translated, translating
from kvfs_backing_posix._listing import info_of
from kvfs_backing_posix._names import OWN_DIRECTORY, open_root, parent_of
from kvfs_backing_posix._streams import Writer

_BUFFER_BYTES = 1 << 20
_ABANDONED_S = 24 * 3600
_LOCK_NAME = "lock"
_NO_LINKS = "the file system cannot create a file only if it is absent (it has no hard links)"


@attrs.define(eq=False)
class Publisher:
    """Writes objects of one store.  Thread-safe."""

    _root: Path
    _fsync: bool
    _threads: Lock = attrs.field(factory=Lock)

    @contextmanager
    def write(self, name: str, *, if_absent: bool, if_match: str | None) -> Iterator[BinaryIO]:
        """See :meth:`kvfs.backing.BackingDriver.open_writer`."""
        with self._own() as own:
            draft = token_hex(16).encode()
            with translating(f"writing {name!r}"):
                fd = os.open(
                    draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=own
                )
            raw = Writer(fd, what=repr(name))
            stream = io.BufferedWriter(raw, _BUFFER_BYTES)
            try:
                yield cast(BinaryIO, stream)
                stream.close()
                self._settle(fd, name)
                self._publish(own, draft, name, if_absent=if_absent, if_match=if_match)
            finally:
                raw.abandon()
                stream.close()
                os.close(fd)
                with suppress(OSError):
                    os.unlink(draft, dir_fd=own)

    def _settle(self, fd: int, name: str) -> None:
        with translating(f"writing {name!r}"):
            # The kernel's own timestamps are as coarse as its tick, and two versions of one size
            # could share one.
            now = time.time_ns()
            os.utime(fd, ns=(now, now))
            if self._fsync:
                os.fsync(fd)

    def _publish(
        self, own: int, draft: bytes, name: str, *, if_absent: bool, if_match: str | None
    ) -> None:
        with (
            parent_of(self._root, name, create=True) as (parent, last),
            self._locked(own),
            translating(f"writing {name!r}"),
        ):
            if if_match is not None:
                _require(_look(parent, last, name), name, if_match)
            if if_absent:
                try:
                    os.link(draft, last, src_dir_fd=own, dst_dir_fd=parent)
                except OSError as error:
                    if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                        raise
                    raise Unsupported(f"posix: writing {name!r}: {_NO_LINKS}") from error
            else:
                os.rename(draft, last, src_dir_fd=own, dst_dir_fd=parent)
            if self._fsync:
                os.fsync(parent)

    def delete(self, name: str, *, if_match: str | None) -> None:
        """See :meth:`kvfs.backing.BackingDriver.delete`.  Directories stay."""
        with self._own() as own, self._locked(own):
            try:
                with parent_of(self._root, name) as (parent, last):
                    found = _look(parent, last, name)
                    _require(found, name, if_match)
                    if found is not None:
                        with translating(f"deleting {name!r}"):
                            os.unlink(last, dir_fd=parent)
                            if self._fsync:
                                os.fsync(parent)
            except NotFound as error:
                # Its directory is not there, or it vanished under our hands.
                if if_match is not None:
                    message = f"posix: object {name!r} is not at version {if_match}"
                    raise Conflict(message) from error

    @contextmanager
    def _own(self) -> Iterator[int]:
        """A descriptor of the store's own directory, made if it is missing."""
        root = open_root(self._root)
        try:
            with translating(f"making {OWN_DIRECTORY} in {self._root}"):
                own = _make_own(root)
        finally:
            os.close(root)
        try:
            yield own
        finally:
            os.close(own)

    @contextmanager
    def _locked(self, own: int) -> Iterator[None]:
        with self._threads, translating(f"locking {self._root}"):
            lock = _open_lock(own)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
            finally:
                os.close(lock)


def _make_own(root: int) -> int:
    """A descriptor of the own directory, which whoever may write into the root may write into."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(OWN_DIRECTORY, flags, dir_fd=root)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(OWN_DIRECTORY, dir_fd=root)
            os.chmod(OWN_DIRECTORY, os.fstat(root).st_mode & 0o7777, dir_fd=root)
    return os.open(OWN_DIRECTORY, flags, dir_fd=root)


def _open_lock(own: int) -> int:
    """A descriptor of the lock file.  Writable, as network file systems want it for ``flock``."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(_LOCK_NAME, flags, dir_fd=own)
    except FileNotFoundError:
        lock = os.open(_LOCK_NAME, flags | os.O_CREAT, 0o666, dir_fd=own)
        with suppress(PermissionError):
            os.fchmod(lock, os.fstat(own).st_mode & 0o666)
        return lock


def _look(parent: int, last: bytes, name: str) -> ObjectInfo | None:
    """The object, or ``None`` if there is none of that name."""
    try:
        found = os.stat(last, dir_fd=parent)
    except OSError as error:
        ours = translated(error, f"{name!r}")
        if isinstance(ours, NotFound):
            return None
        raise ours from error
    return info_of(name, found) if stat.S_ISREG(found.st_mode) else None


def _require(found: ObjectInfo | None, name: str, version: str | None) -> None:
    if version is not None and (found is None or found.version != version):
        raise Conflict(f"posix: object {name!r} is not at version {version}")


def remove_abandoned(root: Path) -> None:
    """Remove what writers that were killed left behind more than a day ago, as far as possible."""
    oldest = time.time() - _ABANDONED_S
    with suppress(OSError), os.scandir(root / OWN_DIRECTORY) as entries:
        for entry in entries:
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                if entry.name != _LOCK_NAME and found.st_mtime < oldest:
                    os.unlink(entry.path)
