"""The whole check: passes in an order in which each relies on what the ones before it mended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import attrs

from kvfs.checking import contents, names
from kvfs.checking.links import Links
from kvfs.checking.mending import fixing, make_directory
from kvfs.checking.problems import Kind, Problem
from kvfs.checking.reading import Tree, read_node
from kvfs.errors import Unsupported
from kvfs.files import Contents, NameHash
from kvfs.files.change import Change, Refused
from kvfs.files.nodes import Node
from kvfs.files.records import ROOT_INODE, inode_key
from kvfs.kv.driver import KVDriver
from kvfs.metrics import Progress
from kvfs.volume import Volume
from kvfs.volume.writing import Writing

ROUNDS_MAX = 8
"""What one round mends may show the next one more; what is wrong after so many stays."""
_MOUNT = "fsck"


@attrs.frozen(kw_only=True)
class Report:
    """What came of a check."""

    found: Counter[Kind]
    """How many problems of each kind."""
    left: int
    """How many of them are still there."""

    @property
    def is_clean(self) -> bool:
        """Was nothing wrong?"""
        return not self.found


def check(
    volume: Volume,
    told: Callable[[Problem], object],
    *,
    repair: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Look at every record of the writable tree of a volume.

    :param told: called with each problem, before it is mended.
    :param repair: mend what is wrong, and look again until nothing is.  Nobody can write meanwhile.
    :raises AlreadyExists: somebody is writing to it.
    :raises Unsupported: the volume is of tarballs: what is fetched of those is under seals; or, to
        mend it, the engine cannot be written to by several threads.
    """
    if volume.read_only:
        raise Unsupported(f"{volume.name}: tarballs are checked by their seals, as they are read")
    progress = progress or Progress()
    volume.check_writer()
    if repair:
        return _Repair(volume, told, progress).run()
    found = Counter(_tell(problem, told) for problem in _round(_Reader(volume), progress))
    return Report(found=found, left=found.total())


def problems(volume: Volume, driver: KVDriver | None = None) -> Iterator[Problem]:
    """What is wrong with the writable tree of a volume that nobody writes to.

    :param driver: to read it through, in place of the volume's own.
    """
    reader = _Reader(volume)
    reader.driver = driver or reader.driver
    return _round(reader, Progress())


def _tell(problem: Problem, told: Callable[[Problem], object]) -> Kind:
    told(problem)
    return problem.kind


class _Reader:
    """What a check needs of a volume."""

    def __init__(self, volume: Volume) -> None:
        superblock, settings = volume.superblock, volume.config.volume
        self.driver: KVDriver = volume.state.driver
        self.names = NameHash(superblock.hash_seed, superblock.hash_bits)
        self.contents = Contents(
            inline_bytes=superblock.inline_bytes, extent_bytes=superblock.extent_bytes
        )
        self.extent_bytes = superblock.extent_bytes
        self.owner = (settings.uid, settings.gid)

    def tree(self, saw: Callable[[int], None]) -> Tree:
        """As passes read it."""
        return Tree(
            reader=self.driver,
            names=self.names,
            extent_bytes=self.extent_bytes,
            size_max=self.contents.size_max,
            owner=self.owner,
            saw=saw,
        )

    def new_number(self) -> int:
        """For an inode that is made; only who mends makes some."""
        raise AssertionError("nothing is mended")

    def settle(self) -> None:
        """Have the engine take what was mended so far."""


class _Repair(_Reader):
    """A check that mends what it finds."""

    def __init__(
        self, volume: Volume, told: Callable[[Problem], object], progress: Progress
    ) -> None:
        super().__init__(volume)
        if not volume.state.capability.thread_safe:
            raise Unsupported(f"{volume.state.name} cannot be written to by several threads")
        self._state = volume.state
        self._told = told
        self._progress = progress
        self._writing = Writing(
            volume.state,
            volume.sessions,
            durability=volume.config.volume.durability,
            interval_s=volume.config.volume.write_behind,
            contents=self.contents,
            mount=_MOUNT,
        )
        self.driver = self._writing.store.driver

    def run(self) -> Report:
        found: Counter[Kind] = Counter()
        with closing(self._writing):
            for _ in range(ROUNDS_MAX):
                left = 0
                for problem in _round(self, self._progress):
                    found[_tell(problem, self._told)] += 1
                    left += 1
                    self._mend(problem)
                if not left:
                    break
            self._writing.sync()
        return Report(found=found, left=left)

    def _mend(self, problem: Problem) -> None:
        change = Change(self.driver, self.names, time.time_ns())
        try:
            problem.mend(change)
        except Refused:
            return  # what was mended before has changed what this is about: the next round sees
        if problem.kind is Kind.COUNTER:
            self._state.commit(change.finish())  # past the queue, as numbers are claimed
        else:
            self._writing.store.commit(change.finish(), self._writing.durability)

    def new_number(self) -> int:
        return self._writing.new_number()

    def settle(self) -> None:
        self._writing.sync()


def _round(reader: _Reader, progress: Progress) -> Iterator[Problem]:
    tree = reader.tree(progress.saw)
    yield from _root(reader)
    for phase, passed in (
        ("inodes and contents", contents.problems(tree)),
        ("names", names.problems(tree)),
        ("links", Links(tree, reader.new_number).problems()),
    ):
        reader.settle()
        progress.begin(phase)
        yield from passed
    reader.settle()


def _root(reader: _Reader) -> Iterator[Problem]:
    node = read_node(reader.driver.get(inode_key(ROOT_INODE)))
    if node is None or not node.is_directory:
        text = "there is no root directory: made anew"
        mend = make_directory(ROOT_INODE, reader.owner, mode=0o755)
        yield Problem(Kind.ROOT, ROOT_INODE, text, mend)
    elif node.parent != ROOT_INODE:
        text = f"the root is said to be in {node.parent}: written anew"
        yield Problem(Kind.ROOT, ROOT_INODE, text, fixing(ROOT_INODE, _point_to_root))


def _point_to_root(node: Node) -> None:
    node.parent, node.slot = ROOT_INODE, 0


__all__ = ["Report", "check", "problems"]
