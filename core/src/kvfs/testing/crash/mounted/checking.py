"""What a kill may leave: the beginning of one order of all operations, fsync's promises in it."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import attrs

from kvfs.testing.crash.mounted.load import SYNCS, Op, Plan, Tree

Shown = Mapping[str, bytes | None]
"""Paths, and the contents of files; ``None`` for a directory."""


class Violation(AssertionError):
    """What must not be."""


@attrs.frozen
class Life:
    """What one process of the load has said."""

    seed: str
    ops: list[Op]
    """All that were begun."""
    begun: list[float]
    done: list[float]
    """The last one may not have been."""
    failed: list[float]
    """When the last one failed, if it did."""
    beginning: Tree = attrs.field(factory=Tree)
    """What was there before."""

    @classmethod
    def read(cls, seed: str, log: Path, beginning: Tree) -> Self:
        """Its log, up to a line that is not whole."""
        times: dict[str, list[float]] = {"begin": [], "done": [], "failed": []}
        *lines, _ = log.read_text().split("\n") if log.exists() else [""]
        for line in lines:
            word, _, at = line.split()
            times[word].append(float(at))
        plan = iter(Plan(seed, beginning.copy()))
        ops = [next(plan) for _ in times["begin"]]
        return cls(seed, ops, times["begin"], times["done"], times["failed"], beginning)

    def done_by(self, at: float) -> int:
        """How many operations had been done by then."""
        return bisect_right(self.done, at)

    def synced(self) -> float:
        """When the last sync began that has been done; 0: none was."""
        return max(
            (
                at
                for op, at, _ in zip(self.ops, self.begun, self.done, strict=False)
                if _is_sync(op)
            ),
            default=0.0,
        )

    def candidates(self, found: Shown, killed_at: float) -> Iterator[int]:
        """After how many operations it looked like this.

        One that was under way at the kill may have been done by who took over, without those that
        were lost before it.
        """
        was_under_way = self.done_by(killed_at) < len(self.ops)
        file = self._last_file() if was_under_way else None
        tree = self.beginning.copy()
        for number in range(len(self.ops) + 1):
            if tree.shown() == found or (
                was_under_way and self._with_last(tree, number, file) == found
            ):
                yield number
            if number < len(self.ops):
                tree.apply(self.ops[number])

    def _last_file(self) -> int | None:
        """The file that the last operation was on, if it was on one and not on names alone."""
        last = self.ops[-1]
        if last.kind not in ("write", "truncate", "link"):
            return None
        return self.after(len(self.ops) - 1).paths[last.path]

    def _with_last(self, tree: Tree, number: int, file: int | None) -> Shown | None:
        """As after so many operations, which made the tree, and the last one behind them."""
        if number + 1 >= len(self.ops):
            return None
        copy, last = tree.copy(), self.ops[-1]
        did = copy.apply(last) if file is None else copy.apply_to(file, last)
        return copy.shown() if did else None

    def after(self, number: int) -> Tree:
        """What it had made after so many operations."""
        tree = self.beginning.copy()
        for op in self.ops[:number]:
            tree.apply(op)
        return tree


def _is_sync(op: Op) -> bool:
    return op.kind in SYNCS


@attrs.frozen
class Loss:
    """What a kill has taken away."""

    operations: int
    """That had been done, as far as that can be told."""
    age_s: float
    """How long before the kill the oldest of them had been done."""


def check(
    lives: Sequence[Life], found: Sequence[Shown], *, killed_at: float, window_s: float
) -> Loss:
    """See that what was found may be what the kill has left.

    :param window_s: nothing that was done so long before the kill may be lost.
    :raises Violation: it may not.
    """
    possible = []
    for life, shown in zip(lives, found, strict=True):
        numbers = [*life.candidates(shown, killed_at)]
        if not numbers:
            raise Violation(f"{life.seed}: it never looked like this: {_nearest(life, shown)}")
        for least, why in (
            (life.done_by(life.synced()), "that fsync has promised"),
            (life.done_by(killed_at - window_s), f"older than {window_s} s"),
        ):
            if numbers[-1] < least:
                raise Violation(
                    f"{life.seed}: {numbers[-1]} operations are there, and not {least} {why}: "
                    f"{life.ops[numbers[-1]]} is lost"
                )
        possible.append(numbers)
    _check_order(lives, possible)
    return _loss(lives, possible, killed_at)


def _check_order(lives: Sequence[Life], possible: Sequence[Sequence[int]]) -> None:
    """Whatever had been done before something began that is there, is there as well."""
    for there, numbers in zip(lives, possible, strict=True):
        # The last operation may have been done anew, after all else.
        last = min(numbers[0], len(there.ops) - 1)
        if last < 1:
            continue
        began = there.begun[last - 1]
        for life, others in zip(lives, possible, strict=True):
            if others[-1] < life.done_by(began):
                raise Violation(
                    f"{there.ops[last - 1]} of {there.seed} is there, and "
                    f"{life.ops[others[-1]]} of {life.seed}, done before that began, is not"
                )


def _loss(lives: Sequence[Life], possible: Sequence[Sequence[int]], killed_at: float) -> Loss:
    operations, age_s = 0, 0.0
    for life, numbers in zip(lives, possible, strict=True):
        lost = life.done_by(killed_at) - numbers[-1]
        if lost > 0:
            operations += lost
            age_s = max(age_s, killed_at - life.done[numbers[-1]])
    return Loss(operations, age_s)


def _nearest(life: Life, found: Shown) -> str:
    """In what it differs from what it looked like most."""
    best: list[str] | None = None
    at = 0
    tree = life.beginning.copy()
    for number in range(len(life.ops) + 1):
        shown = tree.shown()
        differing = [
            path
            for path in {*shown, *found}
            if path not in shown or path not in found or shown[path] != found[path]
        ]
        if best is None or len(differing) <= len(best):
            best, at = differing, number
        if number < len(life.ops):
            tree.apply(life.ops[number])
    shown = life.after(at).shown()
    told = [f"{path} {_say(found, path)}, not {_say(shown, path)}" for path in sorted(best or ())]
    near = [str(op) for op in life.ops[max(at - 3, 0) : at + 3]]
    return f"after {at} of {len(life.ops)} operations ({', '.join(near)}): {'; '.join(told)}"


def _say(shown: Shown, path: str) -> str:
    if path not in shown:
        return "is absent"
    content = shown[path]
    return "is a directory" if content is None else f"has {len(content)} bytes {content[:8]!r}"


def look(base: Path) -> dict[str, bytes | None]:
    """What is below a directory, each attribute in agreement with the rest.

    :raises Violation: sizes or link counts say something else than names and contents do.
    """
    found: dict[str, bytes | None] = {}
    names: dict[int, list[Path]] = {}
    for path in [base, *sorted(base.rglob("*"))]:
        status = path.lstat()
        if path.is_dir():
            below = sum(each.is_dir() for each in path.iterdir())
            _agree(path, "links", status.st_nlink, 2 + below)
        names.setdefault(status.st_ino, []).append(path)
        if path == base:
            continue
        content = None if path.is_dir() else _contents(path)
        if content is not None:
            _agree(path, "bytes", status.st_size, len(content))
        found[str(path.relative_to(base))] = content
    for same in names.values():
        if not same[0].is_dir():
            _agree(same[0], "links", same[0].lstat().st_nlink, len(same))
    return found


def _contents(path: Path) -> bytes:
    """As the volume has them: the kernel keeps pages of what is lost as long as it likes."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()


def _agree(path: Path, what: str, said: int, counted: int) -> None:
    if said != counted:
        raise Violation(f"{path}: it says that it has {said} {what}, and has {counted}")


__all__ = ["Life", "Loss", "Shown", "Violation", "check", "look"]
