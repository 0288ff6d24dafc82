"""Reading 100,000 small files through the mount, against ext4 and other read-only mounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from lib import caches, processes
from lib.contestants import KVFS, Contestant, Ext4, Ratarmount, Served, Squashfuse
from lib.datasets import Dataset, dataset, small_files
from lib.reading import Work, rehearse
from lib.results import Measurement, SuiteResult
from lib.suites import Context

_DISK = "ext4, from disk"


@attrs.frozen(kw_only=True)
class _Step:
    """Some works on one mount, one after the other."""

    title: str
    action: Callable[[Measurement, Served], None]
    has_second_pass: bool


def run(context: Context) -> SuiteResult:
    """Every work by every contestant in turn, each on a mount of its own, round by round."""
    shape = small_files(context.scale)
    # The archive, the tree, the engine's file and the image.
    context.scratch.require(round(shape.archive_bytes * 4.7), "the read suite")
    context.say("read: making the input")
    made = dataset(shape, context.scratch)
    result = SuiteResult(
        suite="read",
        title="Reading small files",
        scale=context.scale,
        rounds=context.rounds,
        reference="ext4",
        datasets={"small files": made.describe()},
        missing=context.programs.missing(),
        notes=[
            "the reader is one process in Python: os.scandir, open, read, xxh3, close; each "
            "contestant's own directory order",
            "squashfuse_ll serves an uncompressed image; ratarmount the plain tar with its index",
            "ext4 is the unpacked tree, read once before; its second pass is the same work as its "
            "first",
        ],
    )
    contestants = _contestants(context)
    for contestant in contestants:
        context.say(f"read: building {contestant.name}")
        contestant.build(made)
    for number in range(context.rounds):
        _round(context, result, made, contestants, number)
    return result


def _contestants(context: Context) -> list[Contestant]:
    place = context.scratch.directory("read")
    ext4 = Ext4(place / "ext4")
    chosen: list[Contestant] = [ext4, KVFS(context.programs, place / "kvfs")]
    missing = context.programs.missing()
    if "squashfuse_ll" not in missing:
        chosen.append(Squashfuse(context.programs, place / "squashfs", tree=ext4.tree))
    if "ratarmount" not in missing:
        chosen.append(Ratarmount(context.programs, place / "ratarmount"))
    return chosen


def _steps(work: Work, names: Path, *, seed: int) -> list[_Step]:
    files, digest = work.dataset.shuffled(names, seed=seed)

    def shuffled(measurement: Measurement, served: Served) -> None:
        work.read_list(measurement, served, names, files=files, digest=digest)

    return [
        _Step(title="find", action=work.find, has_second_pass=False),
        _Step(title="find -size", action=work.find_size, has_second_pass=False),
        _Step(title="read all, directory order", action=work.read_in_order, has_second_pass=True),
        _Step(title="read all, random order", action=shuffled, has_second_pass=True),
        _Step(title="tar c", action=work.tar, has_second_pass=False),
    ]


def _round(
    context: Context,
    result: SuiteResult,
    made: Dataset,
    contestants: Sequence[Contestant],
    number: int,
) -> None:
    work = Work(result, made)
    caches.drop()
    for contestant in contestants:
        caches.warm(contestant.sources())
        with contestant.served() as served:
            rehearse(served, made)
    turn = number % len(contestants)
    for step in _steps(work, context.scratch.work / "names", seed=number):
        for contestant in [*contestants[turn:], *contestants[:turn]]:
            context.say(
                f"read: round {number + 1} of {context.rounds}, {step.title}, {contestant.name}"
            )
            _take(result, made, contestant, step)
    if caches.drop():
        # At the end, so that what it drops is missed by nobody.
        reading = result.measure(
            "read all, directory order, first pass", _DISK, state="disk", quantity=made.files
        )
        with contestants[0].served() as served:
            work.read_in_order(reading, served)


def _take(result: SuiteResult, made: Dataset, contestant: Contestant, step: _Step) -> None:
    """One step by one contestant, on a new mount."""
    passes = ("first", "second") if step.has_second_pass else ("first",)
    is_local = isinstance(contestant, Ext4)
    # The kernel may have given up some of it since the round began.
    caches.warm(contestant.sources())
    with contestant.served() as served:
        for turn in passes:
            state = "warm" if is_local else "fresh" if turn == "first" else "again"
            measurement = result.measure(
                f"{step.title}, {turn} pass" if step.has_second_pass else step.title,
                contestant.name,
                state=state,
                quantity=made.files,
            )
            step.action(measurement, served)
        if served.pid is not None:
            measurement.keep_peak(processes.peak_of(served.pid))
