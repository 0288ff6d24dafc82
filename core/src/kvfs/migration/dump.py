"""A volume as one file, and a volume out of one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import attrs

from kvfs.errors import AlreadyExists, Corrupt, NotFound
from kvfs.metrics import Progress
from kvfs.migration.dumpfile import (
    BLOCK_BYTES,
    FOOTER,
    HEADER,
    MAGIC,
    RECORDS,
    STORE,
    VERSION,
    Block,
    Writer,
    check_header,
    pack_record,
    read_blocks,
    records_of,
)
from kvfs.migration.ends import Record, Source, source_of, unpack_superblock
from kvfs.migration.progress import Report, Tally
from kvfs.migration.sync import write
from kvfs.volume import VolumeConfig
from kvfs.volume.superblock import Superblock


def _is_compressed(path: Path) -> bool:
    return path.suffix == ".zst"


def _draft_of(path: Path) -> Path:
    """What a dump is called until it is complete."""
    return path.with_name(f"{path.name}.part")


# -- to a file -------------------------------------------------------------------------------------


def dump(
    config: VolumeConfig,
    path: Path,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Write a volume's records, of one instant, to a file; compressed if its name ends in .zst.

    Until it is complete it is called ``<path>.part``.

    :param resume: go on with a file that was broken off; what it holds is compared.
    :param force: replace what is there.
    :raises AlreadyExists: the file, or one that was broken off, is there.
    """
    draft = _draft_of(path)
    if path.exists() and not force:
        raise AlreadyExists(f"{path} exists: --force replaces it")
    if draft.exists() and not (resume or force):
        raise AlreadyExists(f"{draft} was broken off: --resume goes on with it")
    progress = progress or Progress()
    with source_of(config) as volume:
        if force and not resume:
            draft.unlink(missing_ok=True)
        with draft.open("ab") as file:
            stores, written = _Dump(volume, file, draft, _is_compressed(path), progress).run()
            file.flush()
            os.fsync(file.fileno())
    draft.replace(path)
    return Report(volume.superblock.uuid, stores, written)


class _Dump:
    """Makes the blocks of a volume, and writes those that the file does not hold yet.

    The same records make the same blocks, so a file that was broken off is gone through block by
    block; at the first that is damaged, or not the same any more, it is cut off and written anew.
    """

    def __init__(
        self, volume: Source, file: BinaryIO, path: Path, compressed: bool, progress: Progress
    ) -> None:
        self._volume = volume
        self._file = file
        self._compressed = compressed
        self._progress = progress
        self._there = read_blocks(path, compressed=compressed)
        self._end = 0
        self._number = 0
        self._writer: Writer | None = None
        self._written = 0

    def run(self) -> tuple[dict[str, Tally], int]:
        """All of it; what it came to, and how many records were written."""
        volume = self._volume
        header = {"magic": MAGIC, "version": VERSION, "engine": volume.name}
        self._json(HEADER, header | {"superblock": volume.superblock.pack().decode()})
        tallies = {}
        for name in volume.stores:
            self._progress.begin(f"dumping {name}", volume.counts[name])
            self._json(STORE, {"store": name})
            tallies[name] = self._records(name)
        self._json(FOOTER, {name: _facts(tally) for name, tally in tallies.items()})
        if self._writer is None:
            self._file.truncate(self._end)
        return tallies, self._written

    def _records(self, name: str) -> Tally:
        tally = Tally()
        parts: list[bytes] = []
        size = 0
        for key, value in self._volume.records(name):
            parts.append(pack_record(key, value))
            size += len(parts[-1])
            tally.add(key, value)
            self._progress.saw(len(key) + len(value))
            if size >= BLOCK_BYTES:
                self._block(RECORDS, b"".join(parts), len(parts))
                parts, size = [], 0
        if parts:
            self._block(RECORDS, b"".join(parts), len(parts))
        return tally

    def _json(self, kind: bytes, value: Any) -> None:
        self._block(kind, json.dumps(value).encode(), 0)

    def _block(self, kind: bytes, payload: bytes, records: int) -> None:
        if self._writer is None:
            there = self._next()
            if there is not None and (there.kind, there.payload) == (kind, payload):
                self._end = there.end
                self._number += 1
                return
            self._there.close()
            self._file.truncate(self._end)
            self._writer = Writer(self._file, compressed=self._compressed, number=self._number)
        self._writer.write(kind, payload)
        self._written += records

    def _next(self) -> Block | None:
        try:
            return next(self._there, None)
        except Corrupt:
            return None


def _facts(tally: Tally) -> dict[str, Any]:
    names = ("records", "bytes", "longest_key", "largest_value", "digest")
    return {name: getattr(tally, name) for name in names}


# -- from a file -----------------------------------------------------------------------------------


@attrs.frozen
class DumpSummary:
    """A dump that was read through and found whole."""

    path: Path
    superblock: Superblock
    engine: str
    stores: Mapping[str, Tally]


def examine(path: Path, *, progress: Progress | None = None) -> DumpSummary:
    """Read a dump to its end, and see that it is whole and as it was written.

    :raises Corrupt: it is not; says where.
    :raises Unsupported: it is of another version.
    :raises NotFound: there is no such file.
    """
    progress = progress or Progress()
    if not path.is_file():
        raise NotFound(f"there is no dump {path}")
    blocks = read_blocks(path, compressed=_is_compressed(path))
    header = check_header(next(blocks, None), path)
    superblock = unpack_superblock(str(header.get("superblock")))
    tallies: dict[str, Tally] = {}
    progress.begin("checking the dump")
    facts: dict[str, Any] | None = None
    name = ""
    for block in blocks:
        if facts is not None:
            raise Corrupt(f"{path}: something stands behind the end of the dump")
        if block.kind == STORE:
            name = str(block.json()["store"])
            tallies[name] = Tally()
        elif block.kind == RECORDS and name:
            for key, value in records_of(block.payload):
                tallies[name].add(key, value)
                progress.saw(len(key) + len(value))
        elif block.kind == FOOTER:
            facts = block.json()
        else:
            raise Corrupt(f"{path}: block {block.number} does not belong there")
    if facts is None:
        raise Corrupt(f"{path}: the dump is cut off: it has no footer")
    if facts != {name: _facts(tally) for name, tally in tallies.items()}:
        raise Corrupt(f"{path}: the dump does not hold what its footer says")
    return DumpSummary(path, superblock, str(header.get("engine")), tallies)


def load(
    path: Path,
    config: VolumeConfig,
    *,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Make a volume out of a dump, which is read through before anything is written.

    :param resume: go on with a load of the same volume that was broken off.
    :param force: replace what is at the destination.
    :raises KVFSError: as :func:`examine` and :func:`~kvfs.migration.copy`.
    """
    progress = progress or Progress()
    summary = examine(path, progress=progress)
    stores = summary.stores
    volume = Source(
        name=str(path),
        superblock=summary.superblock,
        records=lambda store: _records_in(path, store),
        counts={name: tally.records for name, tally in stores.items()},
        longest={name: (tally.longest_key, tally.largest_value) for name, tally in stores.items()},
    )
    if {*volume.stores} != {*stores}:
        raise Corrupt(f"{path}: the dump holds the stores {', '.join(stores) or 'none'}")
    return write(volume, config, resume=resume, force=force, progress=progress)


def _records_in(path: Path, store: str) -> Iterator[Record]:
    name = ""
    for block in read_blocks(path, compressed=_is_compressed(path)):
        if block.kind == STORE:
            name = str(block.json()["store"])
        elif block.kind == RECORDS and name == store:
            yield from records_of(block.payload)
