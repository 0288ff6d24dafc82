"""The runner: have a mount written to, kill what serves it, and look at what is left."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NoReturn

import attrs

from kvfs.checking import problems
from kvfs.tarballs.catalogue import State
from kvfs.testing.crash.mounted import load
from kvfs.testing.crash.mounted.checking import Life, Shown, Violation, check, look
from kvfs.testing.crash.runner import CrashFailed
from kvfs.testing.mounts import PATIENCE_S, Mounted, Site, wait_for_end
from kvfs.testing.written import inconsistencies
from kvfs.volume import Volume, from_file

PROCESSES = 3
LOAD_S = 0.7
"""The load is killed over after so many seconds at most."""
WINDOW_S = 2.0
"""What had been done so long before a kill is there; the loss window is 0.05 s and one commit,
on a machine that does nothing else."""
OLD_S = 0.6
"""A worker that was killed younger counts as one that dies by itself."""
SETTLED_S = 10.0
"""So long the kernel may show what it knew of what is lost: it believes it for a second."""
KEPT = 8
"""So many earlier loads stay in the volume, and are looked at again at the end."""


Inside = Literal["scratch", "tarball"]


class Victim(Enum):
    """What is killed."""

    WORKER = "worker"
    """The mount comes back by itself."""
    SUPERVISOR = "supervisor"
    """The mount comes back with the next ``kvfs mount``."""
    BOTH = "both"


@attrs.define
class Report:
    """What a run did."""

    driver: str
    durability: str
    seed: int
    inside: str = "scratch"
    kills: int = 0
    killed: dict[str, int] = attrs.field(factory=dict)
    operations: int = 0
    """That had been begun."""
    synced: int = 0
    """Kills after which fsync had promised something."""
    lost: int = 0
    """Operations that had been done, and promised by nobody, and are gone."""
    lost_age_s: float = 0.0
    """How long before a kill the oldest of them had been done."""
    seconds: float = 0.0


@attrs.frozen
class _Kept:
    """A load that is over, and what it has left."""

    place: Path
    found: list[Shown]


@attrs.define(kw_only=True)
class MountedCrash:
    """One volume, and what is done to it.

    :param site: where it is mounted.
    :param kv: the table ``[kv]``.
    :param durability: of the volume: ``process`` or ``power``.
    :param seed: of what is written, what is killed and when.  Timing is the machine's.
    :param work: an empty directory outside of the mount, for the logs of the load.
    :param inside: where it is written: to a volume without a store, or to tarballs of one that has
        one.  Each load is then the first to touch its tarball.
    """

    site: Site
    kv: Mapping[str, Any]
    durability: str
    seed: int
    work: Path
    inside: Inside = "scratch"
    report: Report = attrs.field(init=False)
    _config: Path = attrs.field(init=False)
    _folder: Path = attrs.field(init=False)
    """Of the tarballs."""
    _mounted: Mounted = attrs.field(init=False)
    _random: random.Random = attrs.field(init=False)
    _victims: list[Victim] = attrs.field(factory=list, init=False)
    _kept: deque[_Kept] = attrs.field(factory=deque, init=False)

    def __attrs_post_init__(self) -> None:
        self.report = Report(str(self.kv["driver"]), self.durability, self.seed, self.inside)
        backing: dict[str, Any] = {"driver": "scratch"}
        volume: dict[str, Any] = {"durability": self.durability}
        self._folder = self.site.path / "folder"
        if self.inside == "tarball":
            backing = {"driver": "posix", "path": str(self._folder)}
            volume["writable"] = True
        self._config = self.site.config(backing, kv=dict(self.kv), volume=volume)
        self._random = random.Random(self.seed)

    def run(self, kills: int, *, progress: Callable[[Report], None] = lambda _: None) -> Report:
        """Kill so many times, then unmount, mount and look at what is kept.

        :param progress: called after each kill.
        :raises CrashFailed: what is left must not be.
        """
        began = time.monotonic()
        if self.inside == "tarball":
            self._make_tarballs(kills)
        self._mounted = self.site.mount(self._config)
        while self.report.kills < kills:
            try:
                self._round(self.report.kills)
            except Violation as violation:
                self._fail(str(violation))
            self.report.kills += 1
            self.report.seconds = round(time.monotonic() - began, 1)
            progress(self.report)
        self._mounted.umount()
        self._mounted = self.site.mount(self._config)
        for kept in self._kept:
            if self._found(kept.place) != kept.found:
                self._fail(f"{kept.place} is not as it was")
        self._mounted.umount()
        try:
            self._check_records()
        except Violation as violation:
            self._fail(str(violation))
        return self.report

    def _make_tarballs(self, count: int) -> None:
        """One for each load, with the beginning of each of its processes."""
        tree = self.site.path / "tree"
        for process in range(PROCESSES):
            self._beginning().make(tree / str(process))
        self._folder.mkdir()
        archive = self.site.path / "load.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(tree, ".")
        for number in range(count):
            (self._folder / f"load-{number}.tar").hardlink_to(archive)

    @property
    def _begins(self) -> str:
        return "full" if self.inside == "tarball" else "empty"

    def _beginning(self) -> load.Tree:
        return load.BEGINNINGS[self._begins]()

    # -- one kill ----------------------------------------------------------------------------------

    def _round(self, number: int) -> None:
        place = self._mounted.path / f"load-{number}"
        logs, stop = self.work / f"load-{number}", self.work / f"stop-{number}"
        self._prepare(place)
        logs.mkdir()
        seeds = [f"{self.seed}/{number}/{process}" for process in range(PROCESSES)]
        processes = [
            self._start(seed, place / str(each), logs / str(each), stop)
            for each, seed in enumerate(seeds)
        ]
        try:
            self._await_load(logs)
            killed_at = self._kill(stop)
            codes = [process.wait(PATIENCE_S) for process in processes]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        lives = [
            Life.read(seed, logs / str(each), self._beginning()) for each, seed in enumerate(seeds)
        ]
        for life, code in zip(lives, codes, strict=True):
            # One that was under way when the kill came may fail; none before.
            if code not in (0, 1) or (life.failed and life.failed[0] < killed_at):
                raise Violation(f"{life.seed}: {life.ops[-1:]} failed: see {logs}")
        self._verify(lives, place, killed_at)
        shutil.rmtree(logs)
        stop.unlink()

    def _prepare(self, place: Path) -> None:
        """Directories that are there for sure, and no more of the earlier ones than is kept."""
        while len(self._kept) > KEPT:
            old = self._kept.popleft().place
            for process in range(PROCESSES):
                shutil.rmtree(old / str(process))
            if self.inside == "scratch":
                old.rmdir()
        if self.inside == "tarball":
            return  # they are there, and nothing may be the first to be written but the load
        for process in range(PROCESSES):
            (place / str(process)).mkdir(parents=True)
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    def _start(self, seed: str, base: Path, log: Path, stop: Path) -> subprocess.Popen[bytes]:
        with log.with_suffix(".errors").open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-S", "-E", load.__file__, seed, base, log, stop, self._begins],
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )

    def _await_load(self, logs: Path) -> None:
        """Until all are at work, and then for a while that nobody can foretell."""
        deadline = time.monotonic() + PATIENCE_S
        while not all((logs / str(process)).exists() for process in range(PROCESSES)):
            if time.monotonic() > deadline:
                raise Violation(f"the load does not begin: see {logs}")
            time.sleep(0.01)
        young_s = max((OLD_S - _age_s(pid) for pid in self._workers()), default=0.0)
        time.sleep(max(young_s, 0.0) + self._random.random() * LOAD_S)

    def _kill(self, stop: Path) -> float:
        """Kill what is next; returns when."""
        if not self._victims:
            self._victims = [Victim.WORKER, *self._random.sample([*Victim], len(Victim))]
        victim = self._victims.pop()
        pids = self._workers() if victim is not Victim.SUPERVISOR else []
        if victim is not Victim.WORKER or not pids:
            pids = [self._mounted.pid, *pids]
            victim = victim if len(pids) > 1 else Victim.SUPERVISOR
        descriptors = [os.pidfd_open(pid) for pid in pids]
        stop.touch()  # whoever has begun an operation ends it, if the kill lets them
        killed_at = time.monotonic()
        for descriptor in descriptors:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for descriptor in descriptors:
            wait_for_end(descriptor)
            os.close(descriptor)
        name = victim.value
        self.report.killed[name] = self.report.killed.get(name, 0) + 1
        if victim is Victim.BOTH:
            self._check_records(in_use=_Everything())  # nobody is there to write
        if victim is not Victim.WORKER:
            # At once: a worker whose supervisor is dead may go on for a moment.
            self._mounted = self.site.mount(self._config)
        return killed_at

    def _check_records(self, in_use: Container[int] = ()) -> None:
        """What ``kvfs fsck`` says about what is left, before anybody writes on.

        :param in_use: inodes of tarballs that may be there without a name.
        """
        with Volume(from_file(self._config)) as volume:
            found = [str(problem) for problem in problems(volume)]
            for tarball, record in volume.tarballs.catalogue:
                if record.dirty and record.state is State.SEALED:
                    root = record.root(tarball)
                    found += inconsistencies(volume.state, in_use, sealed=volume.sealed, root=root)
        if found:
            raise Violation(f"fsck: {'; '.join(found)}")

    def _workers(self) -> list[int]:
        path = Path(f"/proc/{self._mounted.pid}/task/{self._mounted.pid}/children")
        return [int(pid) for pid in path.read_text().split()]

    # -- what is left ------------------------------------------------------------------------------

    def _found(self, place: Path) -> list[Shown]:
        return [look(place / str(process)) for process in range(PROCESSES)]

    def _verify(self, lives: Sequence[Life], place: Path, killed_at: float) -> None:
        """See that it is right, as soon as the kernel has forgotten what is lost."""
        deadline = time.monotonic() + SETTLED_S
        while True:
            try:
                found = self._found(place)
                loss = check(lives, found, killed_at=killed_at, window_s=WINDOW_S)
                break
            except (Violation, OSError) as error:
                if time.monotonic() > deadline:
                    raise Violation(str(error)) from error
                time.sleep(0.05)
        report = self.report
        report.operations += sum(len(life.ops) for life in lives)
        report.synced += any(life.synced() for life in lives)
        report.lost += loss.operations
        report.lost_age_s = round(max(report.lost_age_s, loss.age_s), 3)
        self._kept.append(_Kept(place, found))

    def _fail(self, what: str) -> NoReturn:
        raise CrashFailed(
            f"{json.dumps(attrs.asdict(self.report))}: {what}\nlogs of the load: {self.work}; "
            f"that of the mount:\n{self._mounted.log()[-3000:]}"
        )


class _Everything:
    """Contains whatever is asked for."""

    def __contains__(self, item: object) -> bool:
        return True


def _age_s(pid: int) -> float:
    """How long a process has been there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return 0.0
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


__all__ = ["Inside", "MountedCrash", "Report", "Victim"]
