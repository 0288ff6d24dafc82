"""Serve a small volume through pyfuse3, as a process of its own; see :func:`main`."""

from __future__ import annotations

import json
import logging
import sys
import tarfile
import threading
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from kvfs.config import structure
from kvfs.errors import Corrupt, KVFSError
from kvfs.files import Buffer, Files, NotResident
from kvfs.registry import find
from kvfs.testing.volumes import Stores
from kvfs.volume import Volume

NAMES = (
    *("first", "second", "moving", "slow", "slow-contents", "corrupt", "bug"),
    *("directory/file", "slow-directory/file"),
)


def say(line: str) -> None:
    """Tell the test; from any thread."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def make_volume() -> Volume:
    """One tarball, ``a``: every file holds its name."""
    packed = BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as out:
        for name in NAMES:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            out.addfile(member, BytesIO(name.encode()))
    stores = Stores()
    stores.backing.write("a.tar", packed.getvalue())
    return stores.volume()


class StrangeVolume:
    """A real volume, but for a few names: they are slow, broken, or lead elsewhere all at once."""

    def __init__(self, volume: Volume, *, read_only: bool) -> None:
        self.name = "strange"
        self.read_only = read_only
        self.is_shared = False
        self.volume = volume
        self.gate = threading.Event()
        self.moved = False
        self.observers: list[Any] = []
        files = volume.files(wait=True)
        self.number = {
            name: files.open_path(b"a/" + name.encode()).inode
            for name in (*NAMES, "slow-directory", "")
        }

    def files(self, *, wait: bool) -> StrangeFiles:
        return StrangeFiles(self, self.volume.files(wait=wait), wait=wait)

    def subscribe(self, observer: Any) -> Callable[[], None]:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)

    def move(self) -> None:
        """Let ``a/moving`` be another file from now on."""
        self.moved = True
        root = self.number[""]
        for observer in self.observers:
            observer.changed([(root, b"moving"), (root, b"never heard of")], [root])


class StrangeFiles:
    """The file system of a :class:`StrangeVolume`."""

    def __init__(self, volume: StrangeVolume, files: Files, *, wait: bool) -> None:
        self._volume = volume
        self._files = files
        self._wait = wait

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def _pass(self) -> None:
        if not self._volume.gate.is_set():
            if not self._wait:
                raise NotResident(1)
            say("waiting")
            self._volume.gate.wait()

    def lookup(self, parent: int, name: bytes) -> Buffer | None:
        if name == b"slow":
            self._pass()
        if name == b"moving":
            name = b"second" if self._volume.moved else b"first"
        return self._files.lookup(parent, name)

    def readdir(self, inode: int, cookie: int, size: int, plus: bool) -> list[Buffer]:
        if inode == self._volume.number["slow-directory"]:
            self._pass()
        return self._files.readdir(inode, cookie, size, plus)

    def read(self, inode: int, offset: int, size: int) -> Sequence[Buffer]:
        if inode == self._volume.number["slow-contents"]:
            self._pass()
        if inode == self._volume.number["corrupt"]:
            raise Corrupt("corrupt on purpose")
        if inode == self._volume.number["bug"]:
            raise ZeroDivisionError("a bug on purpose")
        return self._files.read(inode, offset, size)


def _obey(volume: StrangeVolume) -> None:
    """Do as the lines of standard input say."""
    for line in sys.stdin:
        {"open": volume.gate.set, "move": volume.move}[line.strip()]()
        say("done")


def main() -> int:
    """Serve at a target (first argument) with settings (second, JSON; ``read_only`` among them).

    Writes ``ready`` when the mount answers, ``waiting`` when a request waits at the gate, ``done``
    when an order was carried out (``open`` the gate, ``move``), and an error as
    ``<class> <message>``.
    """
    target, settings = sys.argv[1], json.loads(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    volume = StrangeVolume(make_volume(), read_only=settings.pop("read_only", True))
    threading.Thread(target=_obey, args=(volume,), daemon=True).start()
    info = find("frontend", "pyfuse3")
    frontend = info.load()(structure(settings, info.settings, where="[frontend]"))
    try:
        frontend.serve(volume, target, ready=lambda: say("ready"))
    except KVFSError as error:
        say(f"{type(error).__name__} {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
