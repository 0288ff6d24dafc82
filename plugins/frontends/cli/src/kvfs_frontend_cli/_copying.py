"""Files copied out of a volume, each whole or not at all, with everything that is known of them.

Everything happens relative to descriptors of directories that were opened without following links,
so nothing can lead out of the destination, whatever was there before.  A file is written under
another name and takes its own when it is complete; a directory gets its attributes when all that is
in it has been copied.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from kvfs.errors import (
    AlreadyExists,
    Corrupt,
    Exhausted,
    Kind,
    KVFSError,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from kvfs.files import Attributes, Files
from kvfs.files.records import decode_device
from kvfs_frontend_cli._output import printable

_STEP = 1 << 20
_HOLE = 4096
"""Zeros are left out in pieces of this size, in files that have holes."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NO_XATTRS = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSPC, errno.E2BIG)


@attrs.define
class CopyReport:
    """What was copied, and what was not."""

    members: int = 0
    content_bytes: int = 0
    xattrs_lost: int = 0
    """Extended attributes that this file system or this user cannot have."""
    failed: list[KVFSError] = attrs.field(factory=list)
    """The first of each kind."""

    def fail(self, error: KVFSError) -> None:
        """Remember one that could not be copied."""
        if not any(seen.kind is error.kind for seen in self.failed):
            self.failed.append(error)


@attrs.define
class _Frame:
    """A directory that is being copied."""

    descriptor: int
    path: Path
    attributes: Attributes
    entries: Iterator[tuple[bytes, Attributes]]


@attrs.frozen
class _First:
    """Where the first name of a file with several went."""

    path: Path
    device: int
    inode: int


class CopyOut:
    """One copy of any number of trees.  Used by one thread.

    :param force: replace files that exist, and merge into directories that do.
    :param complain: called for each file that cannot be copied; the rest is.
    """

    def __init__(self, files: Files, *, force: bool, complain: Callable[[str], None]) -> None:
        self._files = files
        self._force = force
        self._complain = complain
        self._is_root = os.geteuid() == 0
        self._firsts: dict[int, _First] = {}
        self.report = CopyReport()

    def copy(self, attributes: Attributes, into: Path, name: bytes) -> None:
        """Copy a file or a tree as ``into``/``name``.

        :raises KVFSError: the destination cannot be written any more.
        """
        descriptor = _open_directory(into)
        try:
            self._run([_Frame(descriptor, into, attributes, iter([(name, attributes)]))], 1)
        finally:
            os.close(descriptor)

    def copy_contents(self, inode: int, into: Path) -> None:
        """Copy everything in a directory of the volume into a directory that exists."""
        descriptor = _open_directory(into)
        try:
            root = self._files.stat(inode)
            self._run([_Frame(descriptor, into, root, self._entries(root))], 1)
        finally:
            os.close(descriptor)

    def _run(self, stack: list[_Frame], given: int) -> None:
        """:param given: how many frames belong to the caller."""
        try:
            while stack:
                frame = stack[-1]
                entry = next(frame.entries, None)
                if entry is not None:
                    below = self._one(frame, *entry)
                    if below is not None:
                        stack.append(below)
                    continue
                if len(stack) > given:
                    self._dress(frame.descriptor, frame.attributes)
                    os.close(frame.descriptor)
                stack.pop()
        finally:
            for frame in stack[given:]:
                os.close(frame.descriptor)

    def _entries(self, attributes: Attributes) -> Iterator[tuple[bytes, Attributes]]:
        try:
            for entry in self._files.entries(attributes.inode):
                yield entry.name, entry.attributes
        except KVFSError as error:
            self._fail(error)

    def _fail(self, error: KVFSError) -> None:
        self.report.fail(error)
        self._complain(str(error))

    # -- one file of whatever type -----------------------------------------------------------------

    def _one(self, frame: _Frame, name: bytes, attributes: Attributes) -> _Frame | None:
        """Copy one entry; a frame where it is a directory, whose entries are still to come."""
        path = frame.path / os.fsdecode(name)
        try:
            if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
                raise Corrupt(f"{name!r} is not the name of a file")
            with _translating(path):
                if attributes.is_directory:
                    return self._directory(frame.descriptor, path, name, attributes)
                self._file(frame.descriptor, path, name, attributes)
        except (AlreadyExists, Corrupt, Unavailable, Unsupported, PermissionDenied) as error:
            self._fail(error)
            return None
        self.report.members += 1
        return None

    def _directory(self, parent: int, path: Path, name: bytes, attributes: Attributes) -> _Frame:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not self._force:
                raise
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        self.report.members += 1
        return _Frame(descriptor, path, attributes, self._entries(attributes))

    def _file(self, parent: int, path: Path, name: bytes, attributes: Attributes) -> None:
        first = self._firsts.get(attributes.inode)
        if first is not None and self._link(first, parent, name):
            return
        draft = f".kvfs-{secrets.token_hex(8)}.part".encode()
        try:
            made = self._make(parent, draft, attributes)
            self._publish(parent, draft, name)
        finally:
            _remove(parent, draft)
        if attributes.nlink > 1:
            self._firsts[attributes.inode] = _First(path, made.st_dev, made.st_ino)

    def _make(self, parent: int, draft: bytes, attributes: Attributes) -> os.stat_result:
        mode = attributes.mode
        if stat.S_ISREG(mode):
            return self._regular(parent, draft, attributes)
        if stat.S_ISLNK(mode):
            os.symlink(bytes(self._files.readlink(attributes.inode)), draft, dir_fd=parent)
        elif stat.S_ISFIFO(mode):
            os.mkfifo(draft, 0o600, dir_fd=parent)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            if not self._is_root:
                raise Unsupported("a device: only root can make one")
            device = os.makedev(*decode_device(attributes.rdev))
            os.mknod(draft, stat.S_IFMT(mode) | 0o600, device, dir_fd=parent)
        else:
            raise Unsupported("a file of a type that is not known here")
        self._dress_special(parent, draft, attributes)
        return os.stat(draft, dir_fd=parent, follow_symlinks=False)

    def _regular(self, parent: int, draft: bytes, attributes: Attributes) -> os.stat_result:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(draft, flags, 0o600, dir_fd=parent)
        try:
            self._contents(descriptor, attributes)
            self._dress(descriptor, attributes)
            return os.fstat(descriptor)
        finally:
            os.close(descriptor)

    def _contents(self, descriptor: int, attributes: Attributes) -> None:
        size = attributes.size
        has_holes = attributes.blocks * 512 < size
        for offset in range(0, size, _STEP):
            at = offset
            for piece in self._files.read(attributes.inode, offset, _STEP):
                if has_holes:
                    _write_sparse(descriptor, piece, at)
                else:
                    _write(descriptor, piece, at)
                at += len(piece)
            if at < min(offset + _STEP, size):
                raise Corrupt(f"ends at {at:,} of {size:,} bytes")
            self.report.content_bytes += at - offset
        if has_holes:
            os.ftruncate(descriptor, size)

    def _link(self, first: _First, parent: int, name: bytes) -> bool:
        """Give the first copy one more name; ``False`` where it must be copied instead."""
        draft = f".kvfs-{secrets.token_hex(8)}.part".encode()
        try:
            os.link(first.path, draft, dst_dir_fd=parent, follow_symlinks=False)
            made = os.stat(draft, dir_fd=parent, follow_symlinks=False)
            # Somebody may have put something else in its place meanwhile.
            if (made.st_dev, made.st_ino) != (first.device, first.inode):
                return False
            self._publish(parent, draft, name)
            return True
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno in (*_NO_LINKS, errno.EXDEV):
                return False
            raise
        finally:
            _remove(parent, draft)

    def _publish(self, parent: int, draft: bytes, name: bytes) -> None:
        """Give a complete file its name, without replacing another unless told to."""
        if not self._force:
            try:
                os.link(draft, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
                return
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            # A file system without hard links has no rename that spares what is there either.
            if _exists(parent, name):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        os.rename(draft, name, src_dir_fd=parent, dst_dir_fd=parent)

    # -- attributes --------------------------------------------------------------------------------

    def _mode(self, attributes: Attributes) -> int:
        # Set-user-id means nothing where the file changes its owner.
        return stat.S_IMODE(attributes.mode) & (0o7777 if self._is_root else 0o1777)

    def _dress(self, descriptor: int, attributes: Attributes) -> None:
        """Owner, mode, extended attributes and times of a regular file or directory."""
        if self._is_root:
            os.fchown(descriptor, attributes.uid, attributes.gid)
        for name in self._files.listxattr(attributes.inode):
            value = self._files.getxattr(attributes.inode, name)
            try:
                os.setxattr(descriptor, name, b"" if value is None else bytes(value))
            except OSError as error:
                if error.errno not in _NO_XATTRS:
                    raise
                self.report.xattrs_lost += 1
        os.fchmod(descriptor, self._mode(attributes))
        os.utime(descriptor, ns=(attributes.atime_ns, attributes.mtime_ns))

    def _dress_special(self, parent: int, draft: bytes, attributes: Attributes) -> None:
        """The same for what cannot, or must not, be opened."""
        if self._is_root:
            owner = attributes.uid, attributes.gid
            os.chown(draft, *owner, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(attributes.mode):
            os.chmod(draft, self._mode(attributes), dir_fd=parent)
        times = (attributes.atime_ns, attributes.mtime_ns)
        os.utime(draft, ns=times, dir_fd=parent, follow_symlinks=False)


def _write(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view = view[count:]
        offset += count


def _write_sparse(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all but zeros: runs of other blocks at a time."""
    view = memoryview(data)
    zeros = bytes(_HOLE)
    start: int | None = None
    for at in range(0, len(view), _HOLE):
        block = view[at : at + _HOLE]
        if block == zeros[: len(block)]:
            if start is not None:
                _write(descriptor, view[start:at], offset + start)
                start = None
        elif start is None:
            start = at
    if start is not None:
        _write(descriptor, view[start:], offset + start)


def _open_directory(path: Path) -> int:
    """The destination itself, which may well be a link."""
    with _translating(path):
        return os.open(path, _DIRECTORY & ~os.O_NOFOLLOW)


def _remove(parent: int, draft: bytes) -> None:
    try:
        os.unlink(draft, dir_fd=parent)
    except FileNotFoundError:
        pass


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


_KINDS: dict[int, type[KVFSError]] = {
    errno.EEXIST: AlreadyExists,
    errno.ENOTEMPTY: AlreadyExists,
    errno.EISDIR: AlreadyExists,
    errno.ENOTDIR: AlreadyExists,
    errno.ELOOP: AlreadyExists,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: PermissionDenied,
    errno.ENOSPC: Exhausted,
    errno.EDQUOT: Exhausted,
    errno.EFBIG: Exhausted,
    errno.EMFILE: Exhausted,
    errno.ENAMETOOLONG: Unsupported,
    errno.EILSEQ: Unsupported,
}


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    """Errors of the local file system as ours, with the path."""
    shown = printable(str(path))
    try:
        yield
    except OSError as error:
        kind = _KINDS.get(error.errno or 0, Unavailable)
        advice = " (--force replaces it)" if error.errno == errno.EEXIST else ""
        raise kind(f"{shown}: {error.strerror}{advice}") from error
    except KVFSError as error:
        if shown in str(error) or error.kind is Kind.INVALID:
            raise
        raise type(error)(f"{shown}: {error}") from error
