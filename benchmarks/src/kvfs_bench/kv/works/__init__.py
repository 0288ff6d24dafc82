"""The table of works, in the order in which they are done."""

from __future__ import annotations

from functools import partial

from kvfs_bench.kv.works import files, values, ycsb
from kvfs_bench.kv.works.base import ONE, PROCESSES, THREADS, Session, Sizes, Task, Work

EVERYBODY = (ONE, THREADS, PROCESSES)
VALUE_KIB = (1, 4, 16, 64)

_FILES = (
    Work(
        id="ingest",
        family="ingest",
        title="ingest",
        summary="bulk load of dirents, inodes and contents, in batches as the engine likes them",
        unit="entries",
        dataset="tree",
        make=files.Ingest,
        is_timed=False,
    ),
    Work(
        id="lookup-cold",
        family="lookup",
        title="lookup, cold",
        summary="get the dirents of random files, none twice; from the disk",
        unit="lookups",
        dataset="tree",
        make=files.ColdLookup,
        is_cold=True,
        has_writes=False,
    ),
    Work(
        id="lookup",
        family="lookup",
        title="lookup",
        summary="get the dirents of random files, through a view that is renewed as the mount does",
        unit="lookups",
        dataset="tree",
        make=files.Lookup,
        crews=EVERYBODY,
        open_loop=True,
        has_writes=False,
    ),
    Work(
        id="readdir",
        family="readdir",
        title="readdir",
        summary="scan all dirents of random directories of 100 files",
        unit="entries",
        dataset="tree",
        make=files.ReadDirectory,
        has_writes=False,
    ),
    Work(
        id="create-rename",
        family="create-rename",
        title="create, rename, remove",
        summary="guarded batches in one directory: 50 % create, 30 % rename, 20 % remove",
        unit="changes",
        dataset="tree",
        make=files.CreateRename,
        open_loop=True,
    ),
    Work(
        id="rmtree",
        family="rmtree",
        title="rmtree",
        summary="remove whole tarballs of 1,000 files, as an eviction does: range by range",
        unit="entries",
        dataset="tree",
        make=files.RemoveTree,
    ),
)
_VALUES = tuple(
    Work(
        id=f"{verb}-{kib}k",
        family="values",
        title=f"{verb} {kib} KiB",
        summary=f"{verb} values of {kib} KiB, one by one, at random",
        unit="values",
        dataset="values",
        make=partial(task, size=kib << 10),
        has_writes=verb == "put",
    )
    for kib in VALUE_KIB
    for verb, task in (("put", values.Put), ("get", values.Get))
)
_SAYS = {
    "a": "50 % reads, 50 % updates, zipfian",
    "b": "95 % reads, 5 % updates, zipfian",
    "c": "reads, zipfian",
    "d": "95 % reads of the latest, 5 % inserts",
    "e": "95 % scans of 1 to 100 records, 5 % inserts, zipfian",
    "f": "50 % reads, 50 % read-modify-write, zipfian",
}
_YCSB = (
    Work(
        id="ycsb-load",
        family="ycsb-load",
        title="YCSB load",
        summary="insert the records, in batches of 1 MiB",
        unit="records",
        dataset="ycsb",
        make=ycsb.Load,
        is_timed=False,
    ),
    *(
        Work(
            id=f"ycsb-{letter}",
            family=f"ycsb-{letter}",
            title=f"YCSB {letter.upper()}",
            summary=_SAYS[letter],
            unit="operations",
            dataset="ycsb",
            make=partial(ycsb.Letter, letter=letter),
            crews=EVERYBODY if letter == "c" else (ONE,),
            open_loop=letter == "a",
            has_writes=letter != "c",
        )
        for letter in ycsb.ORDER
    ),
)
WORKS = (*_FILES, *_VALUES, *_YCSB)
REOPEN = "reopen"
"""What opening a store again takes; done by the harness itself, between others."""
FAMILIES = (*dict.fromkeys(work.family for work in WORKS), REOPEN)
LOADS = {"tree": _FILES[0], "ycsb": _YCSB[0]}
"""What fills the store that works of a data set need."""
BY_ID = {work.id: work for work in WORKS}

__all__ = [
    "BY_ID",
    "EVERYBODY",
    "FAMILIES",
    "LOADS",
    "ONE",
    "PROCESSES",
    "REOPEN",
    "THREADS",
    "VALUE_KIB",
    "WORKS",
    "Session",
    "Sizes",
    "Task",
    "Work",
]
