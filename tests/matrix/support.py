"""Volumes of LMDB over a folder, archives that cost no memory, and the other process."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from kvfs.backing.driver import BackingDriver, ObjectInfo
from kvfs.backing.memory import CAPABILITY as BACKING_CAPABILITY
from kvfs.errors import NotFound
from kvfs.files.records import ROOT_INODE
from kvfs.registry import DriverInfo
from kvfs.tar.member import Member, MemberType
from kvfs.tar.writer import TarWriter
from kvfs.testing.trees import tree_of_volume
from kvfs.volume import Choice, Volume, from_tables

PATIENCE_S = 100


def tables(path: Path) -> dict[str, Any]:
    """A configuration: LMDB in ``path/kv``, the folder ``path/objects``."""
    return {
        "kv": {"driver": "lmdb", "path": str(path / "kv")},
        "backing": {"driver": "posix", "path": str(path / "objects")},
        "volume": {"durability": "process"},
    }


def open_volume(path: Path) -> Volume:
    """The volume, its namespace brought in line with the folder."""
    (path / "objects").mkdir(parents=True, exist_ok=True)
    volume = Volume(from_tables(tables(path), where="a test"))
    volume.refresh()
    return volume


def number_of(volume: Volume, name: str) -> int:
    """The id of an object's tarball."""
    [number] = [number for number, record in volume.tarballs.catalogue if record.object == name]
    return number


def contents(volume: Volume, path: bytes = b"") -> dict[bytes, bytes | None]:
    """Every file below a path; directories as ``None``."""
    files = volume.files(wait=True)
    inode = files.open_path(path).inode if path else ROOT_INODE
    return {
        b"/".join(node.path): None if node.size is None else b"".join(node.contents())
        for node in tree_of_volume(files, inode)
        if node.path
    }


def archive_of_everything(seed: int) -> bytes:
    """Small files and large, directories, links, replacements: some thousand members."""
    rng = random.Random(seed)
    parts: list[bytes] = []
    writer = TarWriter(lambda data: parts.append(bytes(data)))
    for number in range(1500):
        name = b"d%d/e%d/f%d" % (number % 7, number % 31, number)
        size = rng.choice([0, 100, 3000, 20_000, 300_000 if number % 50 == 0 else 10])
        writer.add(Member(name, size=size, mtime_ns=number), [rng.randbytes(size)] if size else [])
        if number % 5 == 0:
            link = Member(b"links/%d" % number, MemberType.HARDLINK, linkname=name)
            writer.add(link)
        if number % 20 == 0:
            writer.add(Member(name, size=3), [b"new"])
    writer.close()
    return b"".join(parts)


def start(path: Path, *, batch_ops: int = 400) -> subprocess.Popen[str]:
    """Another process that opens the volume of ``path`` and fetches its one tarball.

    It says ``open``, then the number of each batch that is committed, then ``done``.

    :param batch_ops: how many operations make a batch: few give many places to be killed at.
    """
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("fetcher.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "KVFS_TEST": json.dumps({"tables": tables(path), "batch_ops": batch_ops}),
        },
    )


def line_of(process: subprocess.Popen[str]) -> str:
    """What a process said next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


class Lazy(io.RawIOBase):
    """A stream made piece by piece while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        data, self._left = self._left[:size], self._left[size:]
        return data


@attrs.define
class Made(BackingDriver):
    """Objects that are made when they are asked for, so that they cost no memory.

    :param names: of all objects, sorted; called for each listing.
    :param pieces: the contents of an object.
    """

    names: Callable[[], Iterator[str]]
    pieces: Callable[[str], Iterator[bytes]]
    capability = BACKING_CAPABILITY

    def stat(self, name: str) -> ObjectInfo:
        return ObjectInfo(name, 1000, 0, "1")

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        return map(self.stat, self.names())

    def read(self, name: str, start: int, stop: int) -> bytes:
        raise NotFound("objects are only read as streams here")

    def open_reader(self, name: str, start: int = 0) -> BinaryIO:
        return cast(BinaryIO, Lazy(self.pieces(name)))

    def open_writer(self, name: str, **conditions: Any) -> Any:
        raise NotFound("nothing is written here")

    def delete(self, name: str, *, if_match: str | None = None) -> None:
        raise NotFound("nothing is deleted here")

    def free_space(self) -> int | None:
        return None

    def close(self) -> None:
        pass


@attrs.frozen(kw_only=True)
class _Opened(DriverInfo):
    driver: BackingDriver

    def load(self) -> Callable[..., Any]:
        return lambda settings: self.driver


def volume_of(path: Path, made: Made) -> Volume:
    """A volume of LMDB over objects that are made; not refreshed yet."""
    (path / "objects").mkdir(parents=True, exist_ok=True)
    config = from_tables(tables(path), where="a test")
    fields = {field.name: getattr(config.backing.info, field.name) for field in FIELDS}
    choice = Choice(_Opened(**fields, driver=made), config.backing.settings)
    return Volume(attrs.evolve(config, backing=choice))


FIELDS = attrs.fields(DriverInfo)
