"""Every work by every contestant in turn, each on a mount of its own, round by round."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from kvfs_bench import caches, processes
from kvfs_bench.inputs import trees
from kvfs_bench.inputs.datasets import Dataset, dataset, empty, scaled, small_files, sorted_names
from kvfs_bench.mount import goals, kvfs, local, peers
from kvfs_bench.mount.contestants import Contestant, Field, Tarball
from kvfs_bench.mount.doing import Doing
from kvfs_bench.mount.meter import Meter
from kvfs_bench.mount.works import FILES, LISTED, LISTED_LARGE, PACKAGE, REPOSITORY, WORKS, Work
from kvfs_bench.processes import TimedOut
from kvfs_bench.readers import compiled
from kvfs_bench.results import Measurement, SuiteResult
from kvfs_bench.suites.context import Context

ROW_S = 8.0
"""A row of which one time is longer is not measured in later rounds."""

_NOTES = [
    "ext4 is the tarball unpacked on the local disk and read before; 'ext4, same footing' an ext4 "
    "image in a file, loop-mounted anew for each work: its pages are in the page cache, as the "
    "engine's are for KVFS, and no inodes, names or file pages of the mount are. What it costs to "
    "read through a loop device (a request to another thread, and a copy) is in its times",
    "the goals are set for scale 1: at another scale they say little",
    "the readers open, read and close every file, one after another, in each contestant's own "
    "directory order unless a list of names is given; the compiled one sums 64-bit words, the one "
    "in Python takes xxh3; both sums are compared with what was generated, in every pass",
    "8 readers are 8 processes that share the files and start together",
    "C server: native/lmdb_server.c, libfuse's low-level interface over the same LMDB records, one "
    "thread, no OPEN, complete listings, no pushing",
    "squashfuse_ll serves an uncompressed image, ratarmount the plain tar with an index that was "
    "made before; in-process is kvfs.files in the reader itself, opened before the clock starts",
    "requests: what the server says it was asked; with ~, the write calls that its process made, "
    "of which a FUSE server makes one for each reply",
    f"a row of which one time is over {ROW_S:g} s is measured once",
    "memory is that of the process behind the mount, of several workers the largest: the kernel's "
    "peak, and the anonymous part at the end of a pass",
]


def run(
    context: Context,
    *,
    engines: Sequence[str],
    works: Sequence[str] = (),
    minutes: float = 25.0,
) -> SuiteResult:
    """Measure.

    :param engines: names of those that KVFS is mounted over.
    :param works: ids of the works; all by default.
    :param minutes: rounds after the first are not begun, or go no further, later than this.
    """
    chosen = [work for work in WORKS if not works or work.id in works]
    run_ = _Run.prepare(context, chosen, engines=engines, deadline=time.monotonic() + 60 * minutes)
    for number in range(context.rounds):
        if not run_.round(number):
            run_.result.notes.append(
                f"ended in round {number + 1}: the {minutes:g} minutes were over"
            )
            break
    run_.result.goals = goals.judge(run_.result)
    return run_.result


@attrs.define(kw_only=True)
class _Run:
    """One run of the suite."""

    context: Context
    result: SuiteResult
    works: list[Work]
    contestants: list[Contestant]
    inputs: dict[str, Tarball]
    reader: Path | None
    importer: Path | None
    deadline: float
    lists: dict[str, Path] = attrs.field(factory=dict)
    given_up: dict[tuple[str, str], str] = attrs.field(factory=dict)
    """(contestant, input), and why nothing more is asked of it there."""

    @classmethod
    def prepare(
        cls, context: Context, works: list[Work], *, engines: Sequence[str], deadline: float
    ) -> _Run:
        """Make the inputs, build the programs, have every contestant build what it needs."""
        place = context.scratch.directory("mount")
        result = SuiteResult(
            suite="mount",
            title="The mount beside the local disk and its peers",
            scale=context.scale,
            rounds=context.rounds,
            references=(local.FOOTING, local.WARM),
            notes=[*_NOTES],
        )
        reader = compiled.build(compiled.READER, place)
        server = compiled.build(compiled.SERVER, place)
        if reader.path is None:
            result.missing["compiled reader"] = reader.problem
            works = [work for work in works if not work.compiled]
        if context.programs.git is None:
            result.missing["git status"] = "apt-get install git"
            works = [work for work in works if work.input != REPOSITORY]
        if not caches.can_drop():
            result.missing["cold"] = "run as root, who may drop the kernel's caches"
            works = [work for work in works if not work.is_cold]
        field = Field(missing=result.missing)
        kvfs.add(field, context.programs.kvfs, place / "kvfs", server, engines=engines)
        disk = local.add(field, place, context.programs.mkfs)
        peers.add(field, context.programs, place, disk)
        run_ = cls(
            context=context,
            result=result,
            works=works,
            contestants=field.contestants,
            inputs=_inputs(context, {work.input for work in works}),
            reader=reader.path,
            importer=None,
            deadline=deadline,
        )
        run_._build(disk, place)
        return run_

    def _build(self, disk: Contestant, place: Path) -> None:
        for key, made in self.inputs.items():
            self.result.datasets[key] = made.describe()
            # The image of squashfs is made of the tree on the disk.
            for contestant in sorted(self.contestants, key=lambda one: one is not disk):
                if any(work.input == key for work in self._works_of(contestant)):
                    self.context.say(f"mount: building {key}: {contestant.name}")
                    try:
                        contestant.build(key, made)
                    except TimedOut as error:
                        self.given_up[contestant.name, key] = str(error)
        if PACKAGE in self.inputs:
            package = self.inputs[PACKAGE]
            assert isinstance(package, trees.Package)
            self.importer = place / "importer.py"
            trees.import_script(package, self.importer)
        if FILES in self.inputs:
            made = self.inputs[FILES]
            assert isinstance(made, Dataset)
            self.lists = {order: place / f"names-{order}" for order in ("sorted", "random")}
            sorted_names(made, self.lists["sorted"])

    def _works_of(self, contestant: Contestant) -> list[Work]:
        return [work for work in self.works if work.id in contestant.works]

    def _doing(self, contestant: Contestant) -> Doing:
        return Doing(
            result=self.result,
            inputs=self.inputs,
            reader=self.reader,
            lists=self.lists,
            importer=self.importer,
            git=self.context.programs.git,
            limit_s=contestant.limit_s,
        )

    def round(self, number: int) -> bool:
        """Every row once; ``False``: the time is over."""
        made = self.inputs.get(FILES)
        if isinstance(made, Dataset):
            made.shuffled(self.lists["random"], seed=number)
        turn = number % len(self.contestants)
        rotated = [*self.contestants[turn:], *self.contestants[:turn]]
        self._rehearse(rotated)
        for work in self.works:
            taking = [one for one in rotated if work.id in one.works]
            self.context.say(f"mount: round {number + 1} of {self.context.rounds}, {work.title}")
            for contestant in taking:
                if number and time.monotonic() > self.deadline:
                    return False
                self._take(work, contestant, number)
        return True

    def _rehearse(self, contestants: Iterable[Contestant]) -> None:
        """Mount everything once and run every program, so that none comes from the disk later."""
        for contestant in contestants:
            works = [work for work in self._works_of(contestant) if not work.is_cold]
            if not works or (contestant.name, works[0].input) in self.given_up:
                continue
            try:
                with contestant.served(works[0].input):
                    pass
            except TimedOut as error:
                self.given_up[contestant.name, works[0].input] = str(error)
            if contestant.name == local.WARM:
                self._run_programs(works, contestant)

    def _run_programs(self, works: list[Work], contestant: Contestant) -> None:
        """Do every work once, untimed; those that differ by nothing but the order only once."""
        for work in works:
            if work.readers == 1 and not work.order and work.input != LISTED_LARGE:
                with contestant.served(work.input) as served:
                    self._doing(contestant).do(work, served, 0)

    def _take(self, work: Work, contestant: Contestant, number: int) -> None:
        """One work by one contestant, on a new mount."""
        rows = [self._measurement(work, contestant, turn) for turn in range(work.passes)]
        why = self.given_up.get((contestant.name, work.input), "")
        if why:
            for row in rows:
                row.remark = row.remark or why
            return
        slowest = max((time_s for row in rows for time_s in row.wall_s), default=0.0)
        if slowest > ROW_S:
            for row in rows:
                done = len(row.wall_s)
                row.remark = f"{done} of {self.context.rounds} rounds: over {ROW_S:g} s"
            return
        try:
            self._make_ready(work, contestant)
            with contestant.served(work.input) as served:
                meter = Meter.of(served)
                for turn, row in enumerate(rows):
                    if meter is not None:
                        meter.start()
                    outcome = self._doing(contestant).do(work, served, turn)
                    row.rounds.append(number)
                    row.wall_s.append(outcome.wall_s)
                    row.cpu_s.append(outcome.cpu_s)
                    if meter is not None:
                        meter.stop(row)
        except TimedOut:
            text = f"did not finish in {contestant.limit_s:g} s"
            self.given_up[contestant.name, work.input] = f"left out: {work.title} {text}"
            for row in rows:
                if number not in row.rounds:
                    row.remark = text

    def _measurement(self, work: Work, contestant: Contestant, turn: int) -> Measurement:
        state = "again" if turn else "fresh"
        if work.is_cold:
            state = "cold"
        elif contestant.is_local:
            state = "warm"
        quantity, unit = self._doing(contestant).quantity(work)
        return self.result.measure(
            work.row(turn), contestant.name, state=state, quantity=quantity, unit=unit
        )

    def _make_ready(self, work: Work, contestant: Contestant) -> None:
        if work.is_cold:
            caches.drop()
            # The kernel's caches hold the programs too, which are not what is measured.
            self._doing(contestant).load_programs(self.context.scratch.directory("nothing"))
        elif not contestant.is_local:
            caches.warm(contestant.sources(work.input))
        else:
            # The kernel may have given up some of it since it was read.
            with contestant.served(work.input) as served:
                if work.action in ("read", "tar", "grep"):
                    caches.warm([served.root])
                processes.shell('find "$1" -size +0 | wc -l', served.root)


def _inputs(context: Context, keys: set[str]) -> dict[str, Tarball]:
    """The inputs that are needed, made where they are not there."""
    where, scale = context.scratch, context.scale
    files = small_files(scale)
    # The archive, the trees on disk and in memory, the engine's file and two images.
    where.require(round(files.archive_bytes * 6) if FILES in keys else 0, "the mount suite")
    found: dict[str, Tarball] = {}
    for key in (FILES, LISTED, LISTED_LARGE, PACKAGE, REPOSITORY):
        if key not in keys:
            continue
        context.say(f"mount: making the input {key}")
        if key == FILES:
            found[key] = dataset(files, where)
        elif key == PACKAGE:
            found[key] = trees.package(where)
        elif key == REPOSITORY:
            assert context.programs.git is not None
            found[key] = trees.repository(context.programs.git, scale, where)
        else:
            count = 50_000 if key == LISTED else 1_000_000
            found[key] = dataset(empty(scaled(count, scale)), where)
    return found
