"""The third pass: every inode has the names that it speaks of, and the root is above all."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice

from kvfs.checking.mending import (
    NewInode,
    dropping,
    further_names,
    leads_to,
    recount,
    removal,
    rescue,
)
from kvfs.checking.problems import Kind, Mend, Problem
from kvfs.checking.reading import Space, Tree, read_dirent, read_node
from kvfs.files.change import Change
from kvfs.files.nodes import LINKS_MAX, Node
from kvfs.files.records import (
    LINK_KEY,
    NAME_IN_RECORD,
    dirent_key,
    link_key,
    unlinked_key,
)

_WINDOW = 512
_TYPE_IN_RECORD = NAME_IN_RECORD - 4
_TO_DIRECTORY = 4
"""As dirents have it: ``S_IFDIR >> 12``."""
_UNKNOWN, _ON_THE_WAY, _SEEN = range(3)


class Links:
    """One pass, and the directories that it came by."""

    def __init__(self, tree: Tree, new_inode: NewInode) -> None:
        self._tree = tree
        self._new_inode = new_inode
        self._directories = array("Q")
        """In order."""
        self._parents = array("Q")

    def problems(self) -> Iterator[Problem]:
        """What is wrong with inodes, as seen from them; loops last."""
        tree = self._tree
        with ExitStack() as stack:
            inodes, self._links, self._unlinked, self._dirents = (
                stack.enter_context(Space(tree, letter)) for letter in (b"I", b"H", b"U", b"D")
            )
            records = inodes.each()
            while window := [
                (inode, read_node(record.value)) for inode, record in islice(records, _WINDOW)
            ]:
                nodes = [(inode, node) for inode, node in window if node is not None]
                dirents = tree.dirents([(node.parent, node.slot) for _, node in nodes])
                for (inode, node), dirent in zip(nodes, dirents, strict=True):
                    is_named = dirent is not None and dirent.inode == inode
                    yield from self._inode(inode, node, is_named)
        yield from self._loops()

    def _inode(self, inode: int, node: Node, is_named: bool) -> Iterator[Problem]:
        first = (node.parent, node.slot)
        further = 0
        for key, *_ in self._links.of(inode):
            _, _, parent, slot = LINK_KEY.unpack(key)
            is_one = (parent, slot) != first and self._tree.is_name_of(inode, parent, slot)
            if is_one and not node.is_directory:
                further += 1
            else:
                text = f"speaks of a further name at slot {slot:#x} of {parent:#x}: there is none"
                yield Problem(Kind.LINK, inode, text, removal(key))
        unlinked = any(True for _ in self._unlinked.of(inode))
        entries = below = 0
        for _, raw, _ in self._dirents.of(inode):
            dirent = read_dirent(raw)
            if dirent is not None:
                entries += 1
                below += raw[_TYPE_IN_RECORD] == _TO_DIRECTORY
        if inode == self._tree.root:
            is_named = True
        elif not is_named and further:
            text = f"points back to no name of it, and has {further} others: one of them taken"
            yield Problem(Kind.BACK_POINTER, inode, text, _take_other(inode))
        elif not is_named:
            yield from self._nameless(inode, node, unlinked, entries if node.is_directory else 0)
            return
        if unlinked:
            text = "is said to be unlinked, and has a name: not said any more"
            yield Problem(Kind.UNLINKED, inode, text, removal(unlinked_key(inode)))
        expected = is_named + further
        if node.is_directory:
            expected = 2 + below
            self._directories.append(inode)
            self._parents.append(node.parent)
        found = node.attributes.nlink
        if found != expected and not (node.is_directory and (found == 1 or expected > LINKS_MAX)):
            text = f"link count is {found}, should be {expected}: set"
            yield Problem(Kind.LINK_COUNT, inode, text, recount(inode))

    def _nameless(self, inode: int, node: Node, unlinked: bool, entries: int) -> Iterator[Problem]:
        if unlinked and not entries:
            if node.attributes.nlink:
                text = f"is unlinked, with a link count of {node.attributes.nlink}: set to 0"
                yield Problem(Kind.LINK_COUNT, inode, text, recount(inode))
            return
        what = f"the directory, with {entries} names in it," if node.is_directory else "it"
        if self._tree.is_hidden_name(inode, node.parent, node.slot):
            text = f"{what} has a name that is said to be removed: as it was fetched again"
            name = dirent_key(node.parent, node.slot)
            yield Problem(Kind.ORPHAN, inode, text, dropping(name))
            return
        text = f"{what} has no name: put into lost+found"
        yield Problem(Kind.ORPHAN, inode, text, self._rescue(inode))

    def _rescue(self, inode: int) -> Mend:
        return rescue(inode, self._tree.root, self._tree.owner, self._new_inode)

    # -- loops -------------------------------------------------------------------------------------

    def _loops(self) -> Iterator[Problem]:
        """Directories from which no way leads up to the root."""
        directories, parents = self._directories, self._parents
        states = bytearray(len(directories))
        for start in range(len(directories)):
            way = []
            at: int | None = start
            while at is not None and states[at] == _UNKNOWN:
                states[at] = _ON_THE_WAY
                way.append(at)
                # The root ends the way; so does what has no name, and was named for that.
                at = None if directories[at] == self._tree.root else self._find(parents[at])
            if at is not None and states[at] == _ON_THE_WAY:
                inode = directories[at]
                size = len(way) - way.index(at)
                yield Problem(
                    Kind.LOOP,
                    inode,
                    f"is one of {size} directories that are in one another, and not in the root: "
                    "put into lost+found",
                    self._rescue(inode),
                )
            for each in way:
                states[each] = _SEEN

    def _find(self, inode: int) -> int | None:
        at = bisect_left(self._directories, inode)
        return at if at < len(self._directories) and self._directories[at] == inode else None


def _take_other(inode: int) -> Mend:
    """Have an inode point back to one of its further names."""

    def mend(change: Change) -> None:
        node = change.node(inode)
        for parent, slot in further_names(change, inode):
            if leads_to(change, inode, parent, slot):
                node.parent, node.slot = parent, slot
                change.delete(link_key(inode, parent, slot))
                change.store(node)
                return

    return mend


__all__ = ["Links"]
