"""The whole check: passes in an order in which each relies on what the ones before it mended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing

import attrs

from kvfs.checking import contents, names, outside
from kvfs.checking.links import Links
from kvfs.checking.mending import fixing, make_directory
from kvfs.checking.problems import Kind, Problem
from kvfs.checking.reading import Tree, read_node
from kvfs.errors import Corrupt, KVFSError
from kvfs.files import Contents, NameHash
from kvfs.files.change import Change, Refused
from kvfs.files.nodes import Node
from kvfs.files.overlay import Overlay
from kvfs.files.records import inode_key
from kvfs.kv.driver import KVDriver
from kvfs.metrics import Progress
from kvfs.tarballs.catalogue import Catalogue, Tarball
from kvfs.volume import Volume

ROUNDS_MAX = 8
"""What one round mends may show the next one more; what is wrong after so many stays."""
_MOUNT = "fsck"
_PAST_THE_QUEUE = (Kind.COUNTER, Kind.WRITTEN)
"""Is mended as it is changed otherwise: what is queued does not touch it."""


@attrs.frozen(kw_only=True)
class Report:
    """What came of a check."""

    found: Counter[Kind]
    """How many problems of each kind."""
    left: int
    """How many of them are still there."""
    tarballs: int
    """How many tarballs were looked at."""

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
    """Look at every record that was written: of the volume without a store, or of its tarballs.

    A tarball that was written to is fetched if need be.  All others are under their seals.

    :param told: called with each problem, before it is mended.
    :param repair: mend what is wrong, and look again until nothing is.  Nobody can write meanwhile.
    :raises AlreadyExists: somebody is writing to it.
    :raises Unsupported: to mend it, the engine cannot be written to by several threads.
    """
    progress = progress or Progress()
    volume.check_writer(alone=True)
    if repair:
        return _Repair(volume, told, progress).run()
    reader = _Reader(volume)
    found = Counter(_tell(tree, problem, told) for tree, problem in _round(reader, progress))
    return Report(found=found, left=found.total(), tarballs=len(reader.looked_at))


def problems(volume: Volume, driver: KVDriver | None = None) -> Iterator[Problem]:
    """What is wrong with what was written to a volume that nobody writes to.

    :param driver: to read the state store through, in place of the volume's own.
    """
    reader = _Reader(volume)
    reader.driver = driver or reader.driver
    return (_located(tree, problem) for tree, problem in _round(reader, Progress()))


def _located(tree: Tree, problem: Problem) -> Problem:
    path = None if problem.inode is None else tree.path_of(problem.inode)
    return attrs.evolve(problem, path=path)


def _tell(tree: Tree, problem: Problem, told: Callable[[Problem], object]) -> Kind:
    told(_located(tree, problem))
    return problem.kind


class _Reader:
    """What a check needs of a volume."""

    def __init__(self, volume: Volume) -> None:
        superblock, settings = volume.superblock, volume.config.volume
        self.volume = volume
        self.catalogue = Catalogue(volume.state)
        self.driver: KVDriver = volume.state.driver
        self.names = NameHash(superblock.hash_seed, superblock.hash_bits)
        self.contents = Contents(
            inline_bytes=superblock.inline_bytes, extent_bytes=superblock.extent_bytes
        )
        self.extent_bytes = superblock.extent_bytes
        self.owner = (settings.uid, settings.gid)
        self.looked_at: set[int] = set()
        """Tarballs."""
        self.not_checked: set[int] = set()
        """Tarballs that cannot be looked at."""

    def tree(self, saw: Callable[[int], None], tarball: int = 0) -> Tree:
        """As passes read it: that of the volume itself, or that of a tarball that was fetched."""
        tree = Tree(
            reader=self.driver,
            names=self.names,
            extent_bytes=self.extent_bytes,
            size_max=self.contents.size_max,
            owner=self.owner,
            saw=saw,
        )
        record = self.catalogue.get(tarball) if tarball else None
        if record is None:
            return tree
        return attrs.evolve(
            tree,
            reader=Overlay(self.driver, self.volume.sealed.driver),
            root=record.root(tarball),
            place=(record.parent, record.slot),
        )

    def fetch(self, tarball: int, record: Tarball) -> Iterator[Problem]:
        """Have a tarball be there to be looked at; or a problem."""
        try:
            self.volume.tarballs.fetch(tarball)
        except KVFSError as error:
            self.not_checked.add(tarball)
            text = f"{record.object} cannot be fetched, {error}: not checked"
            yield Problem(Kind.NOT_CHECKED, record.root(tarball), text, None)

    def new_inode(self, tree: int) -> int:
        """For what is made; only who mends makes some."""
        raise AssertionError("nothing is mended")

    def settle(self) -> None:
        """Have the engine take what was mended so far."""


class _Repair(_Reader):
    """A check that mends what it finds."""

    def __init__(
        self, volume: Volume, told: Callable[[Problem], object], progress: Progress
    ) -> None:
        super().__init__(volume)
        self._told = told
        self._progress = progress
        self._writing = volume.claim_writing(_MOUNT)
        self.driver = self._writing.store.driver

    def run(self) -> Report:
        found: Counter[Kind] = Counter()
        with closing(self._writing):
            for _ in range(ROUNDS_MAX):
                left = 0
                for tree, problem in _round(self, self._progress):
                    found[_tell(tree, problem, self._told)] += 1
                    if problem.mend is not None:
                        left += 1
                        self._mend(tree, problem)
                if not left:
                    break
            self._writing.sync()
        left += len(self.not_checked)
        return Report(found=found, left=left, tarballs=len(self.looked_at))

    def _mend(self, tree: Tree, problem: Problem) -> None:
        assert problem.mend is not None
        change = Change(tree.reader, self.names, time.time_ns())
        try:
            problem.mend(change)
            batch = change.finish()
        except (Refused, Corrupt):
            return  # what was mended before has changed what this is about: the next round sees
        if problem.kind in _PAST_THE_QUEUE:
            self.volume.state.commit(batch)
        else:
            self._writing.store.commit(batch, self._writing.durability)

    def new_inode(self, tree: int) -> int:
        return self._writing.new_inode(tree)

    def settle(self) -> None:
        self._writing.sync()


def _round(reader: _Reader, progress: Progress) -> Iterator[tuple[Tree, Problem]]:
    """Every problem, with the tree that it is of."""
    progress.begin("records of no tree")
    own = reader.tree(progress.saw)
    has_tarballs = not reader.volume.is_scratch
    written = dict(outside.written(own, reader.catalogue)) if has_tarballs else {}
    trees = [record.tree(tarball) for tarball, record in written.items()]
    for problem in outside.problems(own, reader.catalogue, trees, has_tarballs=has_tarballs):
        yield own, problem
    if not has_tarballs:
        yield from _tree_round(reader, progress, own)
    for tarball in written:
        record = reader.catalogue.get(tarball)
        if record is None or not record.dirty or tarball in reader.not_checked:
            continue
        for problem in reader.fetch(tarball, record):
            yield own, problem
        if tarball not in reader.not_checked:
            reader.looked_at.add(tarball)
            tree = reader.tree(progress.saw, tarball)
            yield from _tree_round(reader, progress, tree, f" of {record.object}")


def _tree_round(
    reader: _Reader, progress: Progress, tree: Tree, of_what: str = ""
) -> Iterator[tuple[Tree, Problem]]:
    for problem in _root(tree):
        yield tree, problem
    for phase, passed in (
        ("inodes and contents", contents.problems(tree)),
        ("names", names.problems(tree)),
        ("links", Links(tree, reader.new_inode).problems()),
    ):
        reader.settle()
        progress.begin(phase + of_what)
        for problem in passed:
            yield tree, problem
    reader.settle()


def _root(tree: Tree) -> Iterator[Problem]:
    root = tree.root
    node = read_node(tree.reader.get(inode_key(root)))
    if node is None or not node.is_directory:
        text = "there is no root directory: made anew"
        mend = make_directory(root, tree.owner, mode=0o755, place=tree.place)
        yield Problem(Kind.ROOT, root, text, mend)
    elif (node.parent, node.slot) != tree.place:
        text = f"the root is said to be in {node.parent:#x}: written anew"
        yield Problem(Kind.ROOT, root, text, fixing(root, _pointing_to(tree.place)))


def _pointing_to(place: tuple[int, int]) -> Callable[[Node], None]:
    def fix(node: Node) -> None:
        node.parent, node.slot = place

    return fix


__all__ = ["Report", "check", "problems"]
