"""A folder of 100,000 tiny tarballs: what it takes to mount, to list, and to look inside."""

from __future__ import annotations

import os
import random
import shutil

from kvfs_bench import processes
from kvfs_bench.inputs.datasets import TarballFolder, scaled, tarball_folder
from kvfs_bench.results import SuiteResult
from kvfs_bench.suites.contestants import KVFS
from kvfs_bench.suites.context import Context
from kvfs_bench.suites.reading import read

_TARBALLS = 100_000
_LOOKS = 100


def run(context: Context) -> SuiteResult:
    """Mount with no cache, then with the one that is there."""
    tarballs = scaled(_TARBALLS, context.scale)
    context.say(f"catalogue: making {tarballs:,} tarballs")
    folder = tarball_folder(tarballs, context.scratch)
    result = SuiteResult(
        suite="catalogue",
        title="A folder of many tarballs",
        scale=context.scale,
        rounds=context.rounds,
        datasets={"folder": {"tarballs": tarballs, "object_bytes": tarballs * 2048}},
        notes=[
            "kvfs mount: the command as typed, until it returns, its own start included; the mount "
            "answers from then on",
            "look inside: open and read one file in tarballs that were never touched, which "
            "fetches each of them",
        ],
    )
    kvfs = KVFS(context.programs, context.scratch.directory("catalogue"))
    kvfs.source = folder.source
    _rehearse(context, kvfs)
    for number in range(context.rounds):
        context.say(f"catalogue: round {number + 1} of {context.rounds}")
        kvfs.drop_cache()
        os.sync()
        # What listing needs: the directory and the inodes.
        processes.shell('find "$1" -size +0 | wc -l', folder.source)
        for state in ("first", "second"):
            _mount(context, result, folder, kvfs, state, seed=number)
    shutil.rmtree(folder.source)
    return result


def _rehearse(context: Context, kvfs: KVFS) -> None:
    """Run all programs once, over an empty folder, so that none comes from the disk later."""
    wanted, kvfs.source = kvfs.source, context.scratch.directory("empty")
    kvfs.mount_in_background()
    kvfs.unmount()
    kvfs.source = wanted


def _mount(
    context: Context,
    result: SuiteResult,
    folder: TarballFolder,
    kvfs: KVFS,
    state: str,
    *,
    seed: int,
) -> None:
    mounting = result.measure(
        f"kvfs mount, {state} time",
        "kvfs mount",
        state=state,
        durability="power",
        quantity=folder.tarballs,
        unit="tarballs",
    )
    ran, pid = kvfs.mount_in_background()
    try:
        mounting.wall_s.append(ran.wall_s)
        mounting.server_cpu_s.append(processes.cpu_s(pid))
        mounting.keep_peak(processes.peak_of(pid))
        _list(result, folder, kvfs, state, pid)
        _look_inside(context, result, folder, kvfs, state, seed=seed, pid=pid)
    finally:
        kvfs.unmount()


def _list(result: SuiteResult, folder: TarballFolder, kvfs: KVFS, state: str, pid: int) -> None:
    for title, script, extra in (
        ("ls", 'ls "$1" | wc -l', 0),
        ("ls -f, again", 'ls -f "$1" | wc -l', 2),
    ):
        measurement = result.measure(
            f"{title}, {state} time",
            "kvfs mount",
            state=state,
            quantity=folder.tarballs,
            unit="entries",
        )
        before = processes.cpu_s(pid)
        processes.reset_peak(pid)
        ran = processes.shell(script, kvfs.target)
        measurement.keep_peak(processes.peak_of(pid))
        measurement.wall_s.append(ran.wall_s)
        measurement.cpu_s.append(ran.user_s + ran.system_s)
        measurement.server_cpu_s.append(processes.cpu_s(pid) - before)
        result.check(f"counts: {script}", int(ran.output), folder.tarballs + extra)


def _look_inside(
    context: Context,
    result: SuiteResult,
    folder: TarballFolder,
    kvfs: KVFS,
    state: str,
    *,
    seed: int,
    pid: int,
) -> None:
    # Half of the tarballs are for the first mount, half for the second, so that none was fetched.
    half = max(folder.tarballs // 2, 1)
    first = half if state == "second" and folder.tarballs > 1 else 0
    count = min(_LOOKS, half)
    numbers = [first + number for number in random.Random(seed).sample(range(half), count)]
    names = context.scratch.work / "names"
    names.write_bytes(b"".join([f"{folder.name(number)}/file\0".encode() for number in numbers]))
    measurement = result.measure(
        f"look inside {count} tarballs, {state} time",
        "kvfs mount",
        state=state,
        durability="power",
        quantity=count,
        unit="tarballs",
    )
    before = processes.cpu_s(pid)
    processes.reset_peak(pid)
    found = read(["list", kvfs.target, "1", names])
    measurement.keep_peak(processes.peak_of(pid))
    result.check("counts: of files read", found["files"], count)
    result.check("digests of everything read:", found["digest"], folder.digest(numbers))
    measurement.wall_s.append(found["wall_s"])
    measurement.cpu_s.append(found["user_s"] + found["system_s"])
    measurement.server_cpu_s.append(processes.cpu_s(pid) - before)
