"""The first pass: every record by itself, and what hangs on each inode."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain

from kvfs.checking.mending import (
    cut_off,
    dropping,
    fit_to_contents,
    fixing,
    make_directory,
    make_file,
    removal,
    removal_of_names,
)
from kvfs.checking.problems import Kind, Mend, Problem
from kvfs.checking.reading import LAYOUTS, Record, Space, Tree, read_dirent, read_node
from kvfs.files import acl
from kvfs.files.change import Change, Refused
from kvfs.files.contents import blocks_of
from kvfs.files.nodes import Node
from kvfs.files.records import (
    EXTENT_KEY,
    INODE_KEY,
    InodeFlag,
    inode_key,
)
from kvfs.kv import Buffer

_MODE_MAX = 0o177777
_FLAGS = int(InodeFlag.EXTENTS | InodeFlag.XATTRS | InodeFlag.IMPLIED)
"""A number: the complement of a flag would be of known flags only."""


def problems(tree: Tree) -> Iterator[Problem]:
    """What is wrong with inodes, extents, extended attributes and keys."""
    with ExitStack() as stack:
        spaces = {letter: stack.enter_context(Space(tree, letter)) for letter in LAYOUTS}
        yield from _Contents(tree, spaces).problems()


def stray(key: bytes) -> Problem:
    """A record that cannot be where it is."""
    text = f"the record {key.hex()} has no meaning here: removed"
    return Problem(Kind.STRAY, None, text, dropping(key))


def _idle(key: bytes) -> Problem:
    text = f"the record {key.hex()} hides something that is not there: removed"
    return Problem(Kind.MARK, None, text, dropping(key))


class _Contents:
    """Goes through all spaces side by side, inode by inode."""

    def __init__(self, tree: Tree, spaces: dict[bytes, Space]) -> None:
        self._tree = tree
        self._spaces = spaces
        self._xattrs, self._dirents, self._extents, self._links, self._inodes, self._unlinked = (
            spaces[letter] for letter in (b"A", b"D", b"E", b"H", b"I", b"U")
        )

    def problems(self) -> Iterator[Problem]:
        """All of them, in the order of inodes."""
        highest = self._tree.root
        while True:
            heads = [space.head for space in self._spaces.values() if space.head is not None]
            for space in self._spaces.values():
                yield from map(stray, space.strays)
                yield from map(_idle, space.idle)
                space.strays.clear()
                space.idle.clear()
            if not heads:
                break
            yield from self._inode(highest := min(heads))
            for space in self._spaces.values():
                space.pass_over(highest)
        yield from self._counter(highest)

    def _counter(self, highest: int) -> Iterator[Problem]:
        tree = self._tree
        key, number = tree.counter, tree.number_of(highest)
        right = max(number + 1, tree.number_min)
        # That of a tarball is there from the first change on.
        missing = tree.number_min if tree.lower is None else 0
        try:
            following = int(tree.upper.get(key) or missing)
        except ValueError:
            following = 0
        if following < right:
            yield Problem(
                Kind.COUNTER,
                tree.root,
                f"the next inode number is {following}, and there is {number} already: set to "
                f"{right}",
                lambda change: change.put(key, b"%d" % right),
            )

    def _inode(self, inode: int) -> Iterator[Problem]:
        record = next(self._inodes.of(inode), None)
        node = None if record is None else read_node(record.value)
        if record is not None and node is None:
            fetched = self._tree.fetched(inode) is not None
            what = "as it was fetched again" if fetched else "removed"
            text = f"its record cannot be read: {what}"
            yield Problem(Kind.INODE, inode, text, dropping(inode_key(inode)))
            if fetched:
                return
        if record is None or node is None:
            yield from self._without_record(inode)
        elif record.is_written:
            yield from self._written(inode, node, record.value)
        else:
            yield from self._as_fetched(inode, node)

    # -- an inode that is there --------------------------------------------------------------------

    def _written(self, inode: int, node: Node, raw: Buffer) -> Iterator[Problem]:
        fetched = self._tree.fetched(inode)
        kind = stat.S_IFMT(node.attributes.mode)
        if fetched is not None and stat.S_IFMT(fetched.attributes.mode) != kind:
            true_kind = stat.S_IFMT(fetched.attributes.mode)
            text = f"is of type {kind:#o}, and was fetched as {true_kind:#o}: set"
            yield Problem(Kind.INODE, inode, text, fixing(inode, _set_type(true_kind)))
            return
        found = False
        for problem in self._record(inode, node):
            found = True
            yield problem
        if not found and node.pack() != raw:
            text = "its record has bytes that mean nothing: written anew"
            yield Problem(Kind.INODE, inode, text, fixing(inode, lambda node: None))
        yield from self._extents_of(inode, node)
        yield from self._xattrs_of(inode, node, self._xattrs.of(inode))
        for key, *_ in self._dirents.of(inode):
            if not node.is_directory:
                text = f"is no directory, and has the name {key.hex()} in it: removed"
                yield Problem(Kind.LOST_INODE, inode, text, removal(key))

    def _as_fetched(self, inode: int, node: Node) -> Iterator[Problem]:
        """One that is right by itself; what was written of it may need another."""
        if not node.is_regular:
            written = (record for record in self._extents.of(inode) if record.is_written)
            yield from self._too_many(inode, written, 0, "has no extents, and there is {}")
        else:
            is_written, blocks = False, 0
            for record in self._extents.of(inode):
                is_written = is_written or record.is_written
                blocks += blocks_of(len(record.value))
            # Some may be hidden, too.
            if is_written or (node.has_extents and blocks != node.attributes.blocks):
                text = "its contents were changed, its record is as it was fetched: fitted to them"
                fit = fit_to_contents(inode, self._tree.extent_bytes, node.attributes.size)
                yield Problem(Kind.LOST_INODE, inode, text, fit)
        xattrs = (record for record in self._xattrs.of(inode) if record.is_written)
        yield from self._xattrs_of(inode, node, xattrs)

    def _record(self, inode: int, node: Node) -> Iterator[Problem]:
        attributes = node.attributes
        if attributes.inode != inode:
            yield Problem(
                Kind.INODE,
                inode,
                f"calls itself {attributes.inode}: written anew",
                fixing(inode, lambda node: setattr(node.attributes, "inode", inode)),
            )
        if attributes.mode > _MODE_MAX:
            text = f"has the mode {attributes.mode:#o}, with bits that mean nothing: taken away"
            yield Problem(Kind.INODE, inode, text, fixing(inode, _mask_mode))
        if node.cut is not None and self._tree.lower is None:
            text = "is cut off from something that was fetched, and nothing was: taken away"
            yield Problem(
                Kind.INODE, inode, text, fixing(inode, lambda node: setattr(node, "cut", None))
            )
        if node.flags & ~_FLAGS or (node.has_extents and not node.is_regular):
            allowed = _FLAGS if node.is_regular else _FLAGS & ~int(InodeFlag.EXTENTS)
            yield Problem(
                Kind.INODE,
                inode,
                f"has flags {node.flags:#x} that it cannot have: taken away",
                fixing(inode, lambda node: setattr(node, "flags", node.flags & allowed)),
            )
        if node.has_extents and attributes.size > self._tree.size_max:
            yield Problem(
                Kind.CONTENT,
                inode,
                f"is larger ({attributes.size} bytes) than a file can be: cut behind its contents",
                fit_to_contents(inode, self._tree.extent_bytes),
            )
        if attributes.blocks and not (node.is_regular or node.is_directory):
            text = f"blocks is {attributes.blocks}, should be 0: set"
            yield Problem(Kind.BLOCKS, inode, text, fixing(inode, _set_blocks(0)))
        is_link = stat.S_ISLNK(attributes.mode)
        length = len(node.content)
        if is_link or (node.is_regular and not node.has_extents):
            if self._lacks_flag(inode, node):
                pass  # its contents are elsewhere
            elif length != attributes.size:
                yield Problem(
                    Kind.CONTENT,
                    inode,
                    f"has {length} bytes, its size says {attributes.size}: size set to {length}",
                    fixing(inode, _measure),
                )
            elif node.is_regular and attributes.blocks != blocks_of(length):
                text = f"blocks is {attributes.blocks}, should be {blocks_of(length)}: set"
                yield Problem(Kind.BLOCKS, inode, text, fixing(inode, _measure))
        elif length:
            text = f"has {length} bytes behind its record that belong to nothing: removed"
            yield Problem(
                Kind.CONTENT, inode, text, fixing(inode, lambda node: setattr(node, "content", b""))
            )

    def _lacks_flag(self, inode: int, node: Node) -> bool:
        """Are there extents for the contents that its record does not know of?"""
        return (
            node.is_regular
            and not node.has_extents
            and not node.content
            and node.attributes.size > 0
            and self._extents.head == inode
        )

    def _extents_of(self, inode: int, node: Node) -> Iterator[Problem]:
        extents = self._extents.of(inode)
        if self._lacks_flag(inode, node):
            text = "its contents are in extents, its flags do not say so: set"
            yield Problem(Kind.EXTENT, inode, text, fixing(inode, _flag_extents))
        elif not (node.is_regular and node.has_extents):
            yield from self._too_many(inode, extents, 0, "has no extents, and there is {}")
            return
        size, limit, blocks = node.attributes.size, self._tree.extent_bytes, 0
        for record in extents:
            key, value, _ = record
            number = EXTENT_KEY.unpack(key)[2]
            room = min(limit, size - number * limit)
            if room <= 0:
                rest = chain((record,), extents)
                text = f"{{}} lies behind the end at {size}"
                yield from self._too_many(inode, rest, -(-size // limit), text)
                break
            if not len(value):
                text = f"extent {number} has no bytes: removed"
                yield Problem(Kind.EXTENT, inode, text, dropping(key))
            elif len(value) > room:
                text = f"extent {number} has {len(value)} bytes, for {room} there is room: cut"
                yield Problem(Kind.EXTENT, inode, text, _cut(key, room))
            blocks += blocks_of(min(len(value), room))
        if node.attributes.blocks != blocks:
            text = f"blocks is {node.attributes.blocks}, the extents take {blocks}" + (
                " (one may be missing)" if node.attributes.blocks > blocks else ""
            )
            yield Problem(Kind.BLOCKS, inode, f"{text}: set", fixing(inode, _set_blocks(blocks)))

    def _too_many(
        self, inode: int, extents: Iterable[Record], end: int, text: str
    ) -> Iterator[Problem]:
        """Extents from number ``end`` on, of a file that has none there."""
        fetched = False
        for record in extents:
            number = EXTENT_KEY.unpack(record.key)[2]
            if record.is_written:
                what = text.format(f"extent {number}")
                yield Problem(Kind.EXTENT, inode, f"{what}: removed", dropping(record.key))
            elif not fetched:
                fetched = True
                what = text.format(f"extent {number} as it was fetched")
                yield Problem(Kind.EXTENT, inode, f"{what}: cut off", cut_off(inode, end))

    @staticmethod
    def _xattrs_of(inode: int, node: Node, xattrs: Iterable[Record]) -> Iterator[Problem]:
        some = False
        for key, value, is_written in xattrs:
            some = True
            name = key[INODE_KEY.size :]
            if is_written and name in (acl.ACCESS, acl.DEFAULT) and not _is_acl(value):
                text = f"its ACL {name.decode()} cannot be read: removed"
                yield Problem(Kind.XATTR, inode, text, dropping(key))
        if some and not node.has_xattrs:
            text = "has extended attributes, its flags do not say so: set"
            yield Problem(Kind.XATTR, inode, text, fixing(inode, _flag_xattrs))

    # -- an inode that is not ----------------------------------------------------------------------

    def _without_record(self, inode: int) -> Iterator[Problem]:
        live = removed = 0
        for _, raw, _ in self._dirents.of(inode):
            if read_dirent(raw) is None:
                removed += 1
            else:
                live += 1
        size = blocks = 0
        for key, extent, _ in self._extents.of(inode):
            if live:
                text = f"is a directory, and has the extent {key.hex()}: removed"
                yield Problem(Kind.EXTENT, inode, text, dropping(key))
            size = EXTENT_KEY.unpack(key)[2] * self._tree.extent_bytes + len(extent)
            blocks += blocks_of(len(extent))
        if (live or size) and self._tree.fetched(inode) is not None:
            yield Problem(
                Kind.LOST_INODE,
                inode,
                "its record says that it was removed, and there is more of it: as it was fetched",
                dropping(inode_key(inode)),
            )
        elif live:
            yield Problem(
                Kind.LOST_INODE,
                inode,
                f"there is no record of a directory with {live} names in it: made anew",
                make_directory(inode, self._tree.owner),
            )
        elif size:
            yield Problem(
                Kind.LOST_INODE,
                inode,
                f"there is no record of a file with {blocks} blocks of contents: made anew",
                make_file(inode, size, blocks, self._tree.owner),
            )
        if live or size:
            return
        if removed:
            text = f"is not there, and has {removed} places of removed names: removed"
            yield Problem(Kind.LOST_INODE, inode, text, removal_of_names(inode))
        for space, kind, what in (
            (self._xattrs, Kind.XATTR, "an extended attribute"),
            (self._links, Kind.LINK, "a further name"),
            (self._unlinked, Kind.UNLINKED, "a remark that it is unlinked"),
        ):
            for key, *_ in space.of(inode):
                text = f"is not there, and has {what}, {key.hex()}: removed"
                yield Problem(kind, inode, text, dropping(key))


def _measure(node: Node) -> None:
    attributes = node.attributes
    attributes.size = len(node.content)
    attributes.blocks = blocks_of(attributes.size) if node.is_regular else 0


def _set_blocks(blocks: int) -> Callable[[Node], None]:
    return lambda node: setattr(node.attributes, "blocks", blocks)


def _mask_mode(node: Node) -> None:
    node.attributes.mode &= _MODE_MAX


def _set_type(kind: int) -> Callable[[Node], None]:
    def fix(node: Node) -> None:
        node.attributes.mode = kind | stat.S_IMODE(node.attributes.mode)

    return fix


def _flag_extents(node: Node) -> None:
    node.flags |= InodeFlag.EXTENTS


def _flag_xattrs(node: Node) -> None:
    node.flags |= InodeFlag.XATTRS


def _cut(key: bytes, length: int) -> Mend:
    def mend(change: Change) -> None:
        change.put(key, (change.get(key) or b"")[:length])

    return mend


def _is_acl(value: Buffer) -> bool:
    try:
        acl.ACL.unpack(bytes(value))
    except Refused:
        return False
    return True


__all__ = ["problems", "stray"]
