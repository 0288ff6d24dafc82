"""Fetching one plain tarball of small files, against unpacking it and against indexing it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import attrs

from kvfs_bench import caches
from kvfs_bench.inputs.datasets import Dataset, dataset, small_files
from kvfs_bench.processes import Ran
from kvfs_bench.processes import run as run_command
from kvfs_bench.programs import Programs
from kvfs_bench.results import SuiteResult
from kvfs_bench.scratch import Scratch
from kvfs_bench.suites.contestants import KVFS, Ext4, Ratarmount
from kvfs_bench.suites.context import Context

_WORK = "make a plain tar readable"


def run(context: Context) -> SuiteResult:
    """Each contestant once a round, in an order that moves by one each round."""
    shape = small_files(context.scale)
    # The archive, one engine's file, and the trees, which stay: see _Trees.
    trees = 2 * context.rounds * 1.2
    context.scratch.require(round(shape.archive_bytes * (2.5 + trees)), "the ingest suite")
    context.say("ingest: making the input")
    made = dataset(shape, context.scratch)
    result = SuiteResult(
        suite="ingest",
        title="Ingest of small files from a plain tar",
        scale=context.scale,
        rounds=context.rounds,
        references=("tar xf",),
        datasets={"small files": made.describe()},
        missing={}
        if context.programs.ratarmount
        else {"ratarmount": "pip install ratarmount (here, or anywhere on PATH)"},
        notes=[
            "each into a new place; what was dirty was written out before the clock started",
            "kvfs, lmdb: what `ls -f` on a new mount waits for; the others are whole commands, "
            "their start included",
            "ratarmount reads the headers and keeps an index; it copies no contents, and reads "
            "them from the archive later: less work than the others do",
        ],
    )
    contestants = _contestants(context, made, result)
    for number in range(context.rounds):
        turn = number % len(contestants)
        for name, durability, once, clear in contestants[turn:] + contestants[:turn]:
            context.say(f"ingest: round {number + 1} of {context.rounds}, {name}")
            measurement = result.measure(
                _WORK,
                name,
                state="archive warm",
                durability=durability,
                quantity=made.files + made.directories,
                unit="members",
            )
            os.sync()
            caches.warm([made.archive])
            ran = once()
            measurement.wall_s.append(ran.wall_s)
            measurement.cpu_s.append(ran.user_s + ran.system_s)
            clear()
    return result


Entry = tuple[str, str, Callable[[], Ran], Callable[[], None]]


def _contestants(context: Context, made: Dataset, result: SuiteResult) -> list[Entry]:
    kvfs = KVFS(context.programs, context.scratch.directory("ingest-kvfs"))
    kvfs.source = made.source
    trees = _Trees(context.scratch.directory("ingest-ext4"))

    def fetch() -> Ran:
        ran, _ = kvfs.ingest()
        report = json.loads(ran.output)
        result.check("counts: of members fetched", report["members"], made.files + made.directories)
        result.check("sizes: of contents fetched", report["content_bytes"], made.content_bytes)
        return ran

    def look() -> Ran:
        kvfs.drop_cache()
        with kvfs.served() as served:
            ran = run_command(["ls", "-f", served.root])
            found = sum(len(files) for _, _, files in os.walk(served.root))
        result.check("counts: of files listed", found, made.files)
        return ran

    def unpack(*, synced: bool) -> Ran:
        ext4 = trees.another()
        ran = ext4.unpack(made)
        if synced:
            # The time of sync(1) counts: it writes what tar left in the page cache.
            flush = run_command(["sync", "--file-system", ext4.tree])
            ran = Ran(
                wall_s=ran.wall_s + flush.wall_s,
                user_s=ran.user_s + flush.user_s,
                system_s=ran.system_s + flush.system_s,
                output=b"",
            )
        found = sum(len(files) for _, _, files in os.walk(ext4.tree))
        result.check("counts: of files unpacked", found, made.files)
        return ran

    entries: list[Entry] = [
        (
            "kvfs, lmdb",
            "process",
            look,
            kvfs.drop_cache,
        ),
        ("tar xf", "none", lambda: unpack(synced=False), _keep),
        (
            "kvfs, lmdb, synced",
            "power, at the end",
            fetch,
            kvfs.drop_cache,
        ),
        (
            "tar xf, then sync",
            "power, at the end",
            lambda: unpack(synced=True),
            _keep,
        ),
    ]
    if context.programs.ratarmount is not None:
        entries.append(_indexing(context.programs, context.scratch, made))
    return entries


@attrs.define
class _Trees:
    """A place of its own for each unpacking; none is removed before the suite ends.

    For half a minute after a file was deleted, ext4 does not use its inode number again, and looks
    at every such number on its way to a free one (``recently_deleted`` in fs/ext4/ialloc.c): tar
    takes ten times as long where 100,000 files were deleted just before.
    """

    _home: Path
    _count: int = 0

    def another(self) -> Ext4:
        """An empty place."""
        self._count += 1
        return Ext4(self._home / str(self._count))


def _keep() -> None:
    """Nothing is cleared."""


def _indexing(programs: Programs, scratch: Scratch, made: Dataset) -> Entry:
    ratarmount = Ratarmount(programs, scratch.directory("ingest-ratarmount") / "work")

    def index() -> Ran:
        return ratarmount.make_index(made)

    return (
        "ratarmount, index only",
        "none",
        index,
        lambda: ratarmount.index.unlink(missing_ok=True),
    )
