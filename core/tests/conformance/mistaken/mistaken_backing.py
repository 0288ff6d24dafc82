"""Stores with one mistake each, and the kit on them; run by ``test_the_kit_itself``."""

from __future__ import annotations

import io
import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import attrs
import pytest

from kvfs.backing import ObjectInfo
from kvfs.backing.memory import DRIVER, MemoryDriver
from kvfs.errors import AlreadyExists, Invalid, NotFound
from kvfs.testing import BackingConformance, BackingHarness


class PartsAppearAtOnce(MemoryDriver):
    """As a driver that opens the file itself for writing."""

    @contextmanager
    def open_writer(self, name: str, **conditions: Any) -> Iterator[BinaryIO]:
        driver = self

        class Stream(io.BytesIO):
            def write(self, data: Any) -> int:
                count = super().write(data)
                with super_writer(name, **conditions) as stream:
                    stream.write(self.getvalue())
                return count

        super_writer = super(PartsAppearAtOnce, driver).open_writer
        with super_writer(name, **conditions):
            pass
        yield Stream()


class CreateLooksFirst(MemoryDriver):
    """Exists? Then create: two steps."""

    @contextmanager
    def open_writer(
        self, name: str, *, if_absent: bool = False, if_match: str | None = None
    ) -> Iterator[BinaryIO]:
        if if_absent and any(info.name == name for info in self.list()):
            raise AlreadyExists(name)
        time.sleep(0.001)
        with super().open_writer(name, if_match=if_match) as stream:
            yield stream


class VersionIsTheSize(MemoryDriver):
    def stat(self, name: str) -> ObjectInfo:
        info = super().stat(name)
        return attrs.evolve(info, version=str(info.size))


class ListingIsByDirectory(MemoryDriver):
    """Directories are entered where their name sorts, without the slash."""

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        return iter(sorted(super().list(prefix, after=after), key=lambda i: i.name.split("/")))


class AfterIsIncluded(MemoryDriver):
    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        return (info for info in super().list(prefix) if after is None or info.name >= after)


class DeleteComplains(MemoryDriver):
    def delete(self, name: str, *, if_match: str | None = None) -> None:
        self.stat(name)
        super().delete(name, if_match=if_match)


class ReadPastTheEndFails(MemoryDriver):
    """As S3 does: 416."""

    def read(self, name: str, start: int, stop: int) -> bytes:
        if start >= self.stat(name).size and start < stop:
            raise Invalid("416")
        return super().read(name, start, stop)


class NamesAreNormalised(MemoryDriver):
    """As some file systems do with accents."""

    @contextmanager
    def open_writer(self, name: str, **conditions: Any) -> Iterator[BinaryIO]:
        with super().open_writer(unicodedata.normalize("NFC", name), **conditions) as stream:
            yield stream


class ReaderFollowsTheName(MemoryDriver):
    """A range request per read, of whatever the name means by then."""

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        driver = self
        driver.stat(name)

        class Stream(io.RawIOBase):
            at = start

            def readable(self) -> bool:
                return True

            def readinto(self, buffer: Any) -> int:
                try:
                    data = driver.read(name, self.at, self.at + len(buffer))
                except NotFound:
                    data = b""
                buffer[: len(data)] = data
                self.at += len(data)
                return len(data)

        return cast(BinaryIO, Stream())


class ClosedIsStillOpen(MemoryDriver):
    def close(self) -> None:
        pass


_MISTAKEN = [cls for cls in MemoryDriver.__subclasses__() if cls.__module__ == __name__]

for _cls in _MISTAKEN:
    _name = _cls.__name__

    def _open(settings: object, cls: Any = _cls) -> Any:
        return cls()

    globals()[f"open_{_name}"] = _open
    globals()[f"{_name}_DRIVER"] = attrs.evolve(
        DRIVER, name=_name, factory=f"mistaken_backing:open_{_name}"
    )

    class _Conformance(BackingConformance):
        driver = _name

        @pytest.fixture
        def harness(self) -> BackingHarness:
            return BackingHarness(self.driver)

    _Conformance.__name__ = _Conformance.__qualname__ = f"Test{_name}"
    globals()[f"Test{_name}"] = _Conformance
del _Conformance
