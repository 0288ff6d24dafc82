"""The store: the interface over the index and the files."""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from kvfs.backing import BackingDriver, ObjectInfo
from kvfs.errors import (
    AlreadyExists,
    Conflict,
    Exhausted,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from kvfs_backing_template._index import Index
from kvfs_backing_template._settings import CAPABILITY, TemplateSettings

ORPHAN_S = 86_400.0
"""Age at which a file that the index does not name is surely nobody's unfinished write."""


@contextmanager
def _translating(what: str) -> Iterator[None]:
    """Raise the body's errors of the operating system as ours."""
    try:
        yield
    except OSError as error:
        raise _translated(error, what) from error


def _translated(error: OSError, what: str) -> KVFSError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return Exhausted(f"template: {what}: {error.strerror}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(f"template: {what}: {error.strerror}")
    return Unavailable(f"template: {what}: {error.strerror}")


class TemplateDriver(BackingDriver):
    """Objects of one directory.  Thread-safe."""

    capability = CAPABILITY

    def __init__(self, path: Path, *, sync: bool) -> None:
        self._contents = path / "contents"
        self._sync = sync
        with _translating(str(path)):
            self._contents.mkdir(parents=True, exist_ok=True)
        self._index = Index(path / "index.sqlite", sync=sync)
        self._remove_orphans()

    def _remove_orphans(self) -> None:
        """Remove what killed writers left behind."""
        with _translating("looking for unfinished files"), os.scandir(self._contents) as entries:
            latest = time.time() - ORPHAN_S
            old = {entry.name for entry in entries if entry.stat().st_mtime < latest}
            if old:
                for name in old.difference(self._index.files()):
                    (self._contents / name).unlink(missing_ok=True)

    def stat(self, name: str) -> ObjectInfo:
        info = self._index.find(name)
        if info is None:
            raise NotFound(f"template: there is no object {name!r}")
        return info

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        return self._index.list(prefix, after)

    def _open(self, name: str) -> BinaryIO:
        """The contents, unbuffered.  Open, they stay whole when the object is replaced."""
        while True:
            version = self.stat(name).version
            try:
                with _translating(f"opening {name!r}"):
                    return cast(BinaryIO, open(self._contents / version, "rb", buffering=0))
            except Unavailable as error:
                # Replaced or deleted between the two lines: look again.
                current = self._index.find(name)
                if current is not None and current.version == version:
                    raise error from error.__cause__

    def read(self, name: str, start: int, stop: int) -> bytes:
        with self._open(name) as file, _translating(f"reading {name!r}"):
            # What is there, so that nobody can ask for more memory than that.
            size = max(0, min(stop, os.fstat(file.fileno()).st_size) - start)
            parts = []
            while size and (part := os.pread(file.fileno(), size, start)):
                parts.append(part)
                size, start = size - len(part), start + len(part)
            return b"".join(parts)

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        file = self._open(name)
        file.seek(start)
        return file

    @contextmanager
    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> Iterator[BinaryIO]:
        self._index.check_open()
        version = uuid.uuid4().hex
        path = self._contents / version
        kept = False
        try:
            with _translating(f"writing {name!r}"), open(path, "xb") as file:
                yield file
                file.flush()
                size = file.tell()
                if self._sync:
                    os.fsync(file.fileno())
            if self._sync:
                _sync_directory(self._contents)
            with self._index.changing() as change:
                old = change.find(name)
                if if_absent and old is not None:
                    raise AlreadyExists(f"template: object {name!r} exists")
                _check_version(name, old, if_match)
                change.put(ObjectInfo(name, size, time.time_ns(), version))
            kept = True
        finally:
            if not kept:
                path.unlink(missing_ok=True)
        self._discard(old)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        with self._index.changing() as change:
            old = change.find(name)
            _check_version(name, old, if_match)
            change.remove(name)
        self._discard(old)

    def _discard(self, info: ObjectInfo | None) -> None:
        """Remove contents that the index does not name any more."""
        if info is not None:
            with _translating(f"removing the old contents of {info.name!r}"):
                (self._contents / info.version).unlink(missing_ok=True)

    def free_space(self) -> int | None:
        self._index.check_open()
        with _translating("asking for free space"):
            return shutil.disk_usage(self._contents).free

    def close(self) -> None:
        self._index.close()


def _check_version(name: str, present: ObjectInfo | None, if_match: str | None) -> None:
    if if_match is not None and (present is None or present.version != if_match):
        raise Conflict(f"template: object {name!r} is not at version {if_match}")


def _sync_directory(path: Path) -> None:
    with _translating(f"syncing {path}"):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_store(settings: TemplateSettings) -> TemplateDriver:
    """Open or make the store."""
    return TemplateDriver(settings.path, sync=settings.sync)
