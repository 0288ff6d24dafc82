"""One history on two file systems: what differs is a defect of one of them."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs

from kvfs.testing import disks
from kvfs.testing.mounts import Site

from .grounds import Ground, Place, Scratch, Sealed
from .histories import NAMES, UIDS, Generator, Step

ACTOR = Path(__file__).with_name("actor.py")
EXT4_BYTES = 256 << 20
_MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 2, 4, 32
_LIBC = ctypes.CDLL(None, use_errno=True)
_OBSERVER = len(UIDS)


class Difference(AssertionError):
    """The two do not agree."""

    def __init__(self, steps: Sequence[Step], said: str) -> None:
        super().__init__(said)
        self.steps = list(steps)
        self.said = said


class World:
    """A file system with actors in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._actors: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        """Start the actors, and one more, who sees everything."""
        for uid in (*UIDS, 0):
            self._actors.append(
                subprocess.Popen(
                    [sys.executable, "-I", str(ACTOR), str(self.path), str(uid)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )

    def stop(self) -> None:
        """End them."""
        for actor in self._actors:
            assert actor.stdin is not None
            assert actor.stdout is not None
            actor.stdin.close()
            actor.wait()
            actor.stdout.close()
        self._actors.clear()

    def ask(self, actor: int, words: Step) -> None:
        """Have an actor do something; :meth:`answer` is to follow."""
        stdin = self._actors[actor].stdin
        assert stdin is not None
        stdin.write(json.dumps(words) + "\n")
        stdin.flush()

    def answer(self, actor: int) -> str:
        """What came of it."""
        stdout = self._actors[actor].stdout
        assert stdout is not None
        line = stdout.readline()
        assert line, f"actor {actor} below {self.path} has died"
        return line

    def shrink(self) -> None:
        """Have the kernel let go of what it knows of this file system and nobody uses."""
        flags = _MS_REMOUNT | _MS_NOSUID | _MS_NODEV
        if _LIBC.mount(b"none", os.fsencode(self.path), None, flags, None):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(self.path))


@attrs.define
class Pair:
    """KVFS and the reference."""

    tested: World
    reference: World
    ground: Ground
    remount: Callable[[], None]
    moves: bool
    """Does the reference show each change in its times?  If not, they can't be compared."""
    _numbers: Iterator[int] = attrs.field(factory=itertools.count)
    _places: list[Place] = attrs.field(factory=list)
    """Those of histories that left something."""

    @property
    def _both(self) -> tuple[World, World]:
        return self.tested, self.reference

    def _ask(self, actor: int, words: Step) -> tuple[str, str]:
        for world in self._both:
            world.ask(actor, words)
        return self.tested.answer(actor), self.reference.answer(actor)

    def _observe(self, directory: str, done: list[Step], why: str) -> dict[str, list[Any]]:
        # ext4 does nothing where an attribute has its value already.
        moves = self.moves and not (done and done[-1]["call"] == "setxattr")
        words = {"call": "observe", "directory": directory, "moves": moves}
        tested, reference = self._ask(_OBSERVER, words)
        if tested != reference:
            raise Difference(done, f"{why}: {_differences(tested, reference)}")
        tree: dict[str, list[Any]] = json.loads(tested)["result"]
        return tree

    def run(
        self,
        steps: Iterator[Step],
        generator: Generator | None = None,
        *,
        number: int | None = None,
    ) -> list[Step]:
        """Do the steps in a place of their own, all of which the kernel knows; returns them.

        :param generator: is told before each what there is.
        :param number: of a history that was in a place of the kind that this one has to be in.
        :raises Difference: after the step at which the two differ.
        """
        number = next(each for each in self._numbers if number is None or (each - number) % 2 == 0)
        place = self.ground.begin(number, self.tested.path, self.reference.path)
        self._places.append(place)
        self._reset(place.work)
        done: list[Step] = []
        self._ask(_OBSERVER, {"call": "warm", "directory": place.top, "names": NAMES})
        tree = self._observe(place.top, done, "at the beginning")
        while True:
            if generator is not None:
                generator.saw(tree, place.below)
            step = next(steps, None)
            if step is None:
                break
            done.append(step)
            if step["call"] == "shrink":
                self.tested.shrink()
            elif step["call"] == "remount":
                self._restart()
                self._reset(place.work)
            else:
                words = {key: value for key, value in step.items() if key != "by"}
                tested, reference = self._ask(step["by"], words)
                if tested != reference:
                    said = f"{step}: {tested.strip()} instead of {reference.strip()}"
                    raise Difference(done, said)
            tree = self._observe(place.top, done, f"after {step}")
        self._reset("")
        self._observe(place.top, done, "at the end")
        return done

    def _reset(self, directory: str) -> None:
        for actor in range(len(UIDS)):
            self._ask(actor, {"call": "reset", "directory": directory})

    def _restart(self) -> None:
        """Mount KVFS anew; of the actors nothing is left."""
        for world in self._both:
            world.stop()
        self.remount()
        for world in self._both:
            world.start()

    def again(self, done: list[Step]) -> None:
        """Mount KVFS anew, and compare what the last history left.

        :raises Difference: it is not what was there before.
        """
        self._restart()
        self._observe(self._places[-1].top, done, "after a remount")

    def clear(self) -> None:
        """Remove what histories left."""
        while self._places:
            self.ground.end(self._places.pop(), self.tested.path, self.reference.path)

    def shortest(self, failure: Difference) -> Difference:
        """A history that fails too, and of which no step can be left out."""
        number = self._places[-1].number
        steps, size = failure.steps, len(failure.steps) // 2
        while size:
            start = 0
            while start < len(steps):
                if self._places[-1].number + 2 >= self.ground.places:
                    return failure  # there is nowhere to try
                fewer = steps[:start] + steps[start + size :]
                try:
                    self.run(iter(fewer), number=number)
                    start += size
                except Difference as found:
                    failure, steps = found, found.steps
            size //= 2
        return failure


def _differences(tested: str, reference: str) -> str:
    """Where two observations are not the same."""
    found, expected = json.loads(tested), json.loads(reference)
    if "result" not in found or "result" not in expected:
        return f"{found} instead of {expected}"
    lines = []
    for path in sorted({*found["result"], *expected["result"]}):
        here, there = found["result"].get(path), expected["result"].get(path)
        if here != there:
            lines.append(f"{path!r} is {here} instead of {there}")
    return "; ".join(lines)


def _shows_changes(directory: Path) -> bool:
    """Is no change so soon after another that it has the same time?  So since Linux 6.13."""
    seen = set()
    for mode in range(100):
        directory.chmod(0o700 | mode & 0o77)
        seen.add(directory.stat().st_ctime_ns)
    directory.chmod(0o755)
    return len(seen) == 100


@contextmanager
def pair_in(site: Site, inside: str, *, places: int) -> Iterator[Pair]:
    """A volume, and an ext4 of the same machine.

    :param inside: where histories take place, one of :data:`.grounds.GROUNDS`.
    :param places: tarballs; a history needs one, and so does each attempt to shorten one.
    """
    image, reference = site.path / "ext4.image", site.path / "ext4"
    # KVFS sets no access times by itself.
    options = "loop,noatime,nodev,nosuid"
    ground: Ground
    if inside == "scratch":
        ground = Scratch()
        volume = site.config({"driver": "scratch", "url": "scratch://dual"})
    else:
        folder = site.path / "folder"
        ground = Sealed(folder, site.path / "archives", places=places)
        backing = {"driver": "posix", "path": str(folder)}
        volume = site.config(backing, volume={"writable": True})
    with ExitStack() as stack:
        stack.enter_context(
            disks.small_ext4(image, reference, size_bytes=EXT4_BYTES, options=options)
        )
        (reference / "lost+found").rmdir()
        mounted = site.mount(volume)
        tested = World(mounted.path)

        def remount() -> None:
            site.mounts[-1].umount()
            site.mount(volume)

        both = (tested, World(reference))
        for world in both:
            stack.callback(world.stop)
            world.start()
        yield Pair(*both, ground, remount, _shows_changes(reference))
