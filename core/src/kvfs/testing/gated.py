"""A folder of tarballs whose bytes come when a test says so.

The backing driver ``gated`` is the posix store but for its streams: each tells a :class:`Gate`,
which the test holds, how far it has read, and reads no further than the gate lets it.  So a test
knows, without any clock, that an ingest is half way, and what has been asked for by then::

    with Gate(directory / "gate") as gate:
        ...  # a volume with  [backing] driver = "gated", path = ..., gate = ".../gate"
        stream = gate.opened("a.tar")  # somebody has begun to read it
        stream.allow(10_000)
        stream.wait_for(10_000)  # the ingest has used up that many bytes, and waits for more
        stream.allow(None)

The driver is no part of an installation: :func:`install` makes it known to the processes whose
``PYTHONPATH`` names a directory.

Protocol: one connection of a Unix socket per stream.  The stream sends the object's name, then,
before each read, its position; the gate sends limits; all as lines.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Condition, Thread
from typing import TYPE_CHECKING, BinaryIO, Self

import attrs

from kvfs import registry
from kvfs.capability import BackingCapability
from kvfs.closing import Closing
from kvfs.config import setting, structure
from kvfs.errors import Unavailable
from kvfs.layers.passing import BackingLayer
from kvfs.registry import DriverInfo

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

PATIENCE_S = 60.0
"""A test that waits longer for a stream fails."""
_NO_LIMIT = 1 << 62


# -- in the process under test -------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class GatedSettings:
    """Settings of the gated store."""

    path: Path = setting(help="the directory whose files are the objects")
    gate: Path = setting(help="the socket of the gate")


class GatedStream:
    """A stream that asks before it reads."""

    def __init__(self, inner: BinaryIO, gate: Path, name: str) -> None:
        self._inner = inner
        self._position = 0
        self._limit = 0
        self._gate = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._gate.connect(str(gate))
        # Two files: one that is read and written drops, at a write, the lines that it has buffered.
        self._heard = self._gate.makefile("r")
        self._said = self._gate.makefile("w", encoding="utf-8", errors="surrogateescape")
        self._say(name)
        self._hear()

    def _say(self, what: object) -> None:
        self._said.write(f"{what}\n")
        self._said.flush()

    def _hear(self) -> None:
        line = self._heard.readline()
        if not line:
            raise Unavailable("the gate is closed")
        self._limit = int(line)

    def _room(self, wanted: int) -> int:
        """How much may be read; waits until it is something."""
        self._say(self._position)
        while self._position >= self._limit:
            self._hear()
        return min(wanted, self._limit - self._position)

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, or whatever may be read now."""
        data = self._inner.read(self._room(_NO_LIMIT if size < 0 else size))
        self._position += len(data)
        return data

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a part of ``buffer``; 0 at the end."""
        view = memoryview(buffer).cast("B")
        count: int = self._inner.readinto(view[: self._room(len(view))])  # type: ignore[attr-defined]
        self._position += count
        return count

    def close(self) -> None:
        """Let go of the object and of the gate."""
        self._inner.close()
        self._heard.close()
        self._said.close()
        self._gate.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GatedDriver(BackingLayer):
    """The posix store, but for its streams."""

    def __init__(self, settings: GatedSettings) -> None:
        info = registry.find("backing", "posix")
        table = {"path": str(settings.path)}
        super().__init__(info.load()(structure(table, info.settings, where="[backing]")))
        self._gate = settings.gate

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        inner = super().open_reader(name, start)
        return GatedStream(inner, self._gate, name)  # type: ignore[return-value]


def open_store(settings: GatedSettings) -> GatedDriver:
    """Open the directory."""
    return GatedDriver(settings)


DRIVER = DriverInfo(
    name="gated",
    kind="backing",
    summary="a directory whose files are read when a test says so",
    settings=GatedSettings,
    factory="kvfs.testing.gated:open_store",
    capability=BackingCapability(),
)


def install(site: Path) -> None:
    """Make the driver known to processes that have ``site`` in ``PYTHONPATH``."""
    info = site / "kvfs_gated-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kvfs-gated\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[kvfs.backing]\ngated = kvfs.testing.gated:DRIVER\n")


# -- in the test ---------------------------------------------------------------------------------


@attrs.define(eq=False)
class Stream:
    """A stream that somebody has opened, as the gate sees it."""

    name: str
    """Of the object."""
    _connection: socket.socket
    position: int = 0
    """Up to here everything was read when the last read began."""
    ended: bool = False
    """It was closed, or its process is gone."""
    _news: Condition = attrs.field(factory=Condition, init=False)

    def allow(self, limit: int | None) -> None:
        """Let bytes up to ``limit`` be read; all if it is ``None``."""
        try:
            self._connection.sendall(b"%d\n" % (_NO_LIMIT if limit is None else limit))
        except (BrokenPipeError, ConnectionResetError):
            pass

    def break_off(self) -> None:
        """Have its next read fail, or the one that waits."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # ended by itself

    def wait_for(self, position: int) -> None:
        """Return when all before ``position`` has been read and more is asked for."""
        self._wait(position)
        assert self.position >= position, f"{self.name} was closed at {self.position:,}"

    def wait_for_end(self) -> None:
        """Return when it was closed."""
        self._wait(_NO_LIMIT)

    def _wait(self, position: int) -> None:
        with self._news:
            arrived = self._news.wait_for(
                lambda: self.ended or self.position >= position, PATIENCE_S
            )
        assert arrived, f"{self.name} stands at {self.position:,}"

    def _listen(self, lines: Iterator[str]) -> None:
        try:
            for line in lines:
                with self._news:
                    self.position = int(line)
                    self._news.notify_all()
        except OSError:
            pass  # its process was killed
        with self._news:
            self.ended = True
            self._news.notify_all()


class Gate(Closing):
    """The gate of any number of streams.

    :param path: of the socket; no longer than 100 bytes.
    """

    def __init__(self, path: Path) -> None:
        self._left_open: set[str] = set()
        self._news = Condition()
        self.streams: list[Stream] = []
        """All that were opened, in order."""
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(path))
        self._listener.listen(64)
        self._threads = [Thread(target=self._accept, name="gate", daemon=True)]
        self._threads[0].start()

    def leave_open(self, name: str) -> None:
        """Let streams of an object that are opened from now on read everything."""
        self._left_open.add(name)

    def opened(self, name: str) -> Stream:
        """The first stream of an object, as soon as somebody opens one."""
        with self._news:
            arrived = self._news.wait_for(lambda: self.count(name) > 0, PATIENCE_S)
        assert arrived, f"nobody opens {name}"
        return next(stream for stream in self.streams if stream.name == name)

    def count(self, name: str) -> int:
        """How often an object was opened."""
        return sum(stream.name == name for stream in self.streams)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = Thread(target=self._serve, args=(connection,), name="gate", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with (
            connection,
            connection.makefile("r", encoding="utf-8", errors="surrogateescape") as lines,
        ):
            stream = Stream(next(lines).rstrip("\n"), connection)
            stream.allow(None if stream.name in self._left_open else 0)
            with self._news:
                self.streams.append(stream)
                self._news.notify_all()
            stream._listen(lines)

    def close(self) -> None:
        """Streams that still wait fail."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(PATIENCE_S)
        for stream in self.streams:
            stream.break_off()
        for thread in self._threads[1:]:
            thread.join(PATIENCE_S)


__all__ = ["DRIVER", "Gate", "GatedDriver", "GatedSettings", "Stream", "install", "open_store"]
