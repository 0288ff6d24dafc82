"""Every engine in turn: volumes of the sweep, volumes that are predicted, mounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import attrs

from kvfs.errors import KVFSError
from kvfs.testing.servers.base import ServerFailed
from kvfs_bench.kv.clients import EngineFailed
from kvfs_bench.kv.places import Engine
from kvfs_bench.kv.suite import about
from kvfs_bench.processes import TimedOut
from kvfs_bench.programs import Programs
from kvfs_bench.scratch import Scratch
from kvfs_bench.size import design, inputs
from kvfs_bench.size.design import EMPTY, FILES, FITTED, LARGER, REAL, SHARES, Shape
from kvfs_bench.size.inputs import Input
from kvfs_bench.size.result import Measured, SizeResult, percent, size_text
from kvfs_bench.size.serving import Serving, reason_against
from kvfs_bench.size.turn import Turn, place_of

_BYTES_OF_A_FILE = 16 << 10
"""So many bytes take about as long as a file."""
_SERVED_SHARE = 0.1
"""Of the files of the largest point: the volume that is mounted."""

_NOTES = [
    "every volume is a tarball that was really ingested, by a process of its own, into a store "
    "that nobody used before; an engine with a server gets a new server for each",
    "disk: blocks of all files of engine or server, logs included, when the volume has been "
    "closed. Removing is what an eviction does",
    "memory of the ingest: the highest in the process that has the volume; anonymous is heap and "
    "stacks, sampled 50 times a second, the total is the kernel's own peak. Mapped files are given "
    "back by the kernel when it needs them",
    "memory of the mount: the process of kvfs mount and its workers (PSS) after a listing",
    "contents do not compress, but those of the standard library do: an engine that compresses "
    "takes less than predicted for it",
    "fitted by least squares of errors relative to growth, no coefficient below 0; terms without "
    "which predictions are as good are left out. The error is that of predicting each point from "
    "all the others: typical (root mean square), and the worst",
]


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be measured."""

    engines: Sequence[Engine]
    missing: dict[str, str]
    scale: float
    rounds: int
    seconds: float
    """About how long an engine may take in a round, starts of its server not counted; one that is
    slower gets fewer files."""
    seed: int
    mounts: bool = True


def run(plan: Plan, programs: Programs, scratch: Scratch, say: Callable[[str], None]) -> SizeResult:
    """Measure, and fit."""
    files = max(round(FILES * plan.scale), design.FILES_MIN)
    shapes = [*design.fitted(files, plan.seed), design.larger(files, plan.seed)]
    sizes = [inputs.archive_bytes(shape) for shape in shapes]
    # All archives, and the largest volume with its logs and what compacting needs beside it.
    scratch.require(plan.rounds * sum(sizes) + 5 * max(sizes), "the sweep of sizes")
    result = SizeResult(
        scale=plan.scale,
        rounds=plan.rounds,
        seed=plan.seed,
        seconds=plan.seconds,
        not_run=dict(plan.missing),
        notes=[*_NOTES],
    )
    say("size: packing the standard library")
    real = inputs.standard_library(scratch)
    left = percent(inputs.compressibility(real))
    result.notes.append(
        f"the standard library here: {real.files:,} files, {size_text(real.content_bytes)}, of "
        f"which zlib leaves {left}"
    )
    for engine in plan.engines:
        try:
            _Sweep(plan, programs, scratch, result, engine, files, real, say).run()
        except (ServerFailed, EngineFailed, TimedOut) as error:
            said = _said(error, programs, scratch)
            if engine.name not in result.engines:
                result.not_run[engine.name] = said
            else:
                result.engines[engine.name]["remark"] = f"ended early: {said}"
    return result


@attrs.define
class _Sweep:
    """One engine."""

    plan: Plan
    programs: Programs
    scratch: Scratch
    result: SizeResult
    engine: Engine
    files: int
    real: Input
    say: Callable[[str], None]

    def run(self) -> None:
        """All rounds."""
        chosen = 0
        for number in range(self.plan.rounds):
            seed = self.plan.seed + number
            empty_s = self._shape(design.empty(seed), EMPTY, number)
            if not chosen:
                chosen = self._choose(empty_s, seed)
                self.result.engines[self.engine.name]["files_max"] = chosen
            for shape in design.fitted(chosen, seed):
                self._shape(shape, FITTED, number)
            self._shape(design.larger(chosen, seed), LARGER, number)
            self._measure(self.real, REAL, "standard library", number)
            if self.plan.mounts:
                self._mounts(chosen, seed, number)

    def _choose(self, empty_s: float, seed: int) -> int:
        """How many files the largest point has: as many as there is time for."""
        pilot = design.pilot(self.files, seed)
        made = inputs.make(pilot, self.scratch)
        start = time.perf_counter()
        with place_of(self.engine, self.scratch) as where:
            Turn(self.result, self.engine, where, made).run(role=FITTED, label="", number=0)
        took = time.perf_counter() - start
        each = max(took - empty_s, 0.0) / _work(pilot)
        found = 0
        for share in SHARES:
            found = max(round(self.files * share), design.FILES_MIN)
            shapes = [*design.fitted(found, seed), design.larger(found, seed)]
            # Starting a server for each does not take longer with more files.
            if sum(each * _work(shape) for shape in shapes) <= self.plan.seconds:
                break
        return found

    def _shape(self, shape: Shape, role: str, number: int) -> float:
        """A point of that shape; how long it took, in seconds."""
        label = (
            f"{shape.files:,} files of {shape.mean_bytes:,} bytes, names of {shape.name_bytes}, "
            f"{shape.per_directory:,} to a directory"
        )
        return self._measure(inputs.make(shape, self.scratch), role, label, number)

    def _measure(self, made: Input, role: str, label: str, number: int) -> float:
        """A point of that tarball; how long it took, in seconds."""
        self.say(f"size: {self.engine.name}, {role}: {label}")
        start = time.perf_counter()
        with place_of(self.engine, self.scratch) as where:
            if self.engine.name not in self.result.engines:
                self.result.engines[self.engine.name] = about(self.engine, where) | {"remark": ""}
            turn = Turn(self.result, self.engine, where, made)
            self._keep(turn.run(role=role, label=label, number=number))
        return time.perf_counter() - start

    def _mounts(self, files: int, seed: int, number: int) -> None:
        if reason := reason_against(self.engine):
            self.result.engines[self.engine.name]["remark"] = reason
            return
        self.say(f"size: {self.engine.name}, mounts")
        shapes = design.fitted(files, seed)
        served = min(shapes, key=lambda shape: abs(shape.files - files * _SERVED_SHARE))
        made = inputs.make(served, self.scratch)
        serving = Serving(
            self.programs, self.result, self.engine, self.scratch, files / FILES, number
        )
        try:
            for point in serving.run(made):
                self._keep(point)
        except KVFSError as error:
            said = _said(error, self.programs, self.scratch)
            self.result.engines[self.engine.name]["remark"] = f"not all mounts measured: {said}"

    def _keep(self, point: Measured) -> None:
        self.result.points.append(point)


def _said(error: Exception, programs: Programs, scratch: Scratch) -> str:
    """What it says, without paths of this machine: they do not belong into a report."""
    text = str(error).replace(str(scratch.work), "SCRATCH")
    return text.replace(programs.kvfs, "kvfs")


def _work(shape: Shape) -> float:
    """How much there is to do, in files."""
    return shape.files * (1 + shape.mean_bytes / _BYTES_OF_A_FILE)
