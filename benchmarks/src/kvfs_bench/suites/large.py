"""Large tarballs: what they take to fetch, list and read, and that memory does not grow with them.

Each size is a tarball of its own.  The tree has 1-4 KiB files, 100 to a directory; the flat one has
files of 16-64 bytes in one directory.
"""

from __future__ import annotations

import os

from kvfs_bench import caches
from kvfs_bench.inputs.datasets import Dataset, dataset, flat, forget, scaled, tree
from kvfs_bench.inputs.generate import Shape
from kvfs_bench.processes import MemoryWatch, peak_of
from kvfs_bench.results import SuiteResult
from kvfs_bench.suites.contestants import KVFS
from kvfs_bench.suites.context import Context
from kvfs_bench.suites.reading import Work, rehearse

_RANDOM_READS = 10_000
_SIZES = ((tree, 50_000), (tree, 500_000), (flat, 50_000), (flat, 1_000_000))


def run(context: Context) -> SuiteResult:
    """Measure every size."""
    result = SuiteResult(
        suite="large",
        title="Large tarballs",
        scale=context.scale,
        rounds=context.rounds,
        notes=[
            "kvfs ingest: a process of its own that starts, lists the folder, fetches and ends; "
            "first look: what `ls -f` on the mount waits for, the fetch included",
            "file-backed memory is mapped pages of libraries and of the engine's file, which the "
            "kernel takes back when it needs them; the engine bounds them (resident_bytes_max)",
        ],
    )
    for make, files in _SIZES:
        shape = make(scaled(files, context.scale))
        name = f"{make.__name__} {shape.files:,}"
        context.say(f"large: making {name}")
        _one(context, result, name, shape)
    return result


def _one(context: Context, result: SuiteResult, name: str, shape: Shape) -> None:
    context.scratch.require(round(shape.archive_bytes * 2.5), f"the input {name}")
    made = dataset(shape, context.scratch)
    result.datasets[name] = made.describe()
    kvfs = KVFS(context.programs, context.scratch.directory("large"))
    kvfs.source = made.source
    for number in range(context.rounds):
        context.say(f"large: {name}, round {number + 1} of {context.rounds}")
        _ingest(result, made, kvfs, name)
        _first_look(result, made, kvfs, name)
        _read(context, result, made, kvfs, name)
    kvfs.drop_cache()
    forget(made)


def _ingest(result: SuiteResult, made: Dataset, kvfs: KVFS, name: str) -> None:
    members = made.files + made.directories
    measurement = result.measure(
        f"{name}: ingest",
        "kvfs ingest",
        state="archive warm",
        durability="power, at the end",
        quantity=members,
        unit="members",
    )
    os.sync()
    caches.warm([made.archive])
    ran, memory = kvfs.ingest()
    measurement.wall_s.append(ran.wall_s)
    measurement.cpu_s.append(ran.user_s + ran.system_s)
    measurement.keep_peak(memory)


def _first_look(result: SuiteResult, made: Dataset, kvfs: KVFS, name: str) -> None:
    measurement = result.measure(
        f"{name}: first look (fetch, then ls -f)",
        "kvfs mount",
        state="first look",
        durability="process",
        quantity=made.files + made.directories,
        unit="members",
    )
    kvfs.drop_cache()
    os.sync()
    caches.warm([made.archive])
    with kvfs.served() as served:
        assert served.pid is not None
        with MemoryWatch(served.pid) as watch:
            Work(result, made).ls(measurement, served)
        measurement.keep_peak(watch.peak)


def _read(context: Context, result: SuiteResult, made: Dataset, kvfs: KVFS, name: str) -> None:
    """Over the cache that the first look left; each work on a mount of its own."""
    work = Work(result, made)
    names = context.scratch.work / "names"
    seed = 1000
    files, digest = made.shuffled(names, seed=seed, count=_RANDOM_READS)
    entries = made.directories or made.files
    caches.drop()
    caches.warm(kvfs.sources())
    with kvfs.served() as served:
        rehearse(served, made)
    for title, quantity, unit, action in (
        ("ls -f", entries, "entries", work.ls),
        ("find", made.files + made.directories, "entries", work.find),
        ("random reads", files, "files", None),
    ):
        measurement = result.measure(
            f"{name}: {title}", "kvfs mount", state="fresh", quantity=quantity, unit=unit
        )
        with kvfs.served() as served:
            assert served.pid is not None
            if action is not None:
                action(measurement, served)
            else:
                work.read_list(measurement, served, names, files=files, digest=digest)
            measurement.keep_peak(peak_of(served.pid))
