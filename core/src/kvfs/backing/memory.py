"""The memory store: the executable specification of :class:`~kvfs.backing.BackingDriver`."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from threading import Lock
from typing import BinaryIO

import attrs

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.capability import BackingCapability
from kvfs.errors import AlreadyExists, Closed, Conflict, NotFound
from kvfs.registry import DriverInfo

CAPABILITY = BackingCapability(
    conditional_create=True,
    conditional_replace=True,
    strong_version=True,
    persistent=False,
    name_bytes_max=4096,
)


@attrs.frozen
class MemorySettings:
    """The memory store has nothing to set."""


def _order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class MemoryDriver(BackingDriver):
    """A dictionary of objects.  Thread-safe."""

    capability = CAPABILITY

    def __init__(self) -> None:
        self._lock = Lock()
        self._objects: dict[str, tuple[ObjectInfo, bytes]] | None = {}

    def _open(self) -> dict[str, tuple[ObjectInfo, bytes]]:
        if self._objects is None:
            raise Closed("memory: the store is closed")
        return self._objects

    def _find(self, name: str) -> tuple[ObjectInfo, bytes]:
        try:
            return self._open()[name]
        except KeyError:
            raise NotFound(f"memory: there is no object {name!r}") from None

    def stat(self, name: str) -> ObjectInfo:
        return self._find(name)[0]

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        with self._lock:
            infos = [info for info, _ in self._open().values() if info.name.startswith(prefix)]
        floor = b"" if after is None else _order(after)
        infos = [info for info in infos if _order(info.name) > floor]
        return iter(sorted(infos, key=lambda info: _order(info.name)))

    def read(self, name: str, start: int, stop: int) -> bytes:
        return self._find(name)[1][start:stop]

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        return io.BytesIO(self._find(name)[1][start:])

    @contextmanager
    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> Iterator[BinaryIO]:
        self._open()
        stream = io.BytesIO()
        yield stream
        data = stream.getvalue()
        info = ObjectInfo(name, len(data), time.time_ns(), sha256(data).hexdigest())
        with self._lock:
            objects = self._open()
            if if_absent and name in objects:
                raise AlreadyExists(f"memory: object {name!r} exists")
            self._check_version(name, if_match)
            objects[name] = (info, data)

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        with self._lock:
            self._check_version(name, if_match)
            self._open().pop(name, None)

    def _check_version(self, name: str, if_match: str | None) -> None:
        present = self._open().get(name)
        if if_match is not None and (present is None or present[0].version != if_match):
            raise Conflict(f"memory: object {name!r} is not at version {if_match}")

    def free_space(self) -> int | None:
        self._open()
        return None

    def close(self) -> None:
        self._objects = None


def open_store(settings: MemorySettings) -> MemoryDriver:
    """A new, empty store."""
    return MemoryDriver()


DRIVER = DriverInfo(
    name="memory",
    kind="backing",
    summary="objects in the memory of this process: the executable specification, for tests",
    settings=MemorySettings,
    factory="kvfs.backing.memory:open_store",
    capability=CAPABILITY,
)
