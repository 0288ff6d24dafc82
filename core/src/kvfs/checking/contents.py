"""The first pass: every record by itself, and what hangs on each inode."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

from kvfs.checking.mending import fixing, make_directory, make_file, removal, removal_of_names
from kvfs.checking.problems import Kind, Mend, Problem
from kvfs.checking.reading import LAYOUTS, Space, Tree, read_dirent, read_node
from kvfs.files import acl
from kvfs.files.change import Change, Refused
from kvfs.files.contents import blocks_of
from kvfs.files.nodes import Node
from kvfs.files.records import (
    EXTENT_KEY,
    INODE_KEY,
    ROOT_INODE,
    InodeFlag,
    extent_key,
    inode_key,
    volume_key,
)
from kvfs.kv import Buffer, prefix_end

_NEXT = volume_key("next")
_MODE_MAX = 0o177777
_FLAGS = int(InodeFlag.EXTENTS | InodeFlag.XATTRS | InodeFlag.IMPLIED)
"""A number: the complement of a flag would be of known flags only."""


def problems(tree: Tree) -> Iterator[Problem]:
    """What is wrong with inodes, extents, extended attributes and keys."""
    yield from _between_spaces(tree)
    with ExitStack() as stack:
        spaces = {letter: stack.enter_context(Space(tree, letter)) for letter in LAYOUTS}
        yield from _Contents(tree, spaces).problems()


def _between_spaces(tree: Tree) -> Iterator[Problem]:
    letters = sorted((*LAYOUTS, b"V"))
    bounds: list[tuple[bytes, bytes | None]] = [(b"", letters[0])]
    bounds += [(prefix_end(low) or b"", high) for low, high in pairwise(letters)]
    bounds.append((prefix_end(letters[-1]) or b"", None))
    for low, high in bounds:
        if low != high:
            for key, _ in tree.scan(low, high):
                yield _stray(key)


def _stray(key: bytes) -> Problem:
    text = f"the record {key.hex()} has no meaning here: removed"
    return Problem(Kind.STRAY, None, text, removal(key))


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
        highest = ROOT_INODE
        while True:
            heads = [space.head for space in self._spaces.values() if space.head is not None]
            for space in self._spaces.values():
                for key in space.strays:
                    yield _stray(key)
                space.strays.clear()
            if not heads:
                break
            yield from self._inode(highest := min(heads))
            for space in self._spaces.values():
                space.pass_over(highest)
        yield from self._counter(highest)

    def _counter(self, highest: int) -> Iterator[Problem]:
        raw = self._tree.reader.get(_NEXT)
        try:
            following = int(raw or ROOT_INODE + 1)
        except ValueError:
            following = 0
        if following <= highest:
            yield Problem(
                Kind.COUNTER,
                None,
                f"the next inode number is {following}, and there is {highest} already: set to "
                f"{highest + 1}",
                lambda change: change.put(_NEXT, str(highest + 1).encode()),
            )

    def _inode(self, inode: int) -> Iterator[Problem]:
        raw = next((value for _, value in self._inodes.of(inode)), None)
        node = read_node(raw)
        if raw is not None and node is None:
            yield Problem(
                Kind.INODE,
                inode,
                "its record cannot be read: removed",
                removal(inode_key(inode)),
            )
        if node is None or raw is None:
            yield from self._without_record(inode)
            return
        found = False
        for problem in self._record(inode, node):
            found = True
            yield problem
        if not found and node.pack() != raw:
            text = "its record has bytes that mean nothing: written anew"
            yield Problem(Kind.INODE, inode, text, fixing(inode, lambda node: None))
        yield from self._extents_of(inode, node)
        yield from self._xattrs_of(inode, node)
        for key, _ in self._dirents.of(inode):
            if not node.is_directory:
                text = f"is no directory, and has the name {key.hex()} in it: removed"
                yield Problem(Kind.LOST_INODE, inode, text, removal(key))

    # -- an inode that is there --------------------------------------------------------------------

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
                _cutting_to_contents(inode, self._tree.extent_bytes),
            )
        is_link = stat.S_ISLNK(attributes.mode)
        length = len(node.content)
        if is_link or (node.is_regular and not node.has_extents):
            if length != attributes.size and not self._lacks_flag(inode, node):
                yield Problem(
                    Kind.CONTENT,
                    inode,
                    f"has {length} bytes, its size says {attributes.size}: size set to {length}",
                    fixing(inode, _measure),
                )
            elif node.is_regular and length and attributes.blocks != blocks_of(length):
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
            for key, _ in extents:
                text = f"has no extents, and there is {key.hex()}: removed"
                yield Problem(Kind.EXTENT, inode, text, removal(key))
            return
        size, limit, blocks = node.attributes.size, self._tree.extent_bytes, 0
        for key, value in extents:
            number = EXTENT_KEY.unpack(key)[2]
            room = min(limit, size - number * limit)
            if room <= 0:
                text = f"extent {number} lies behind the end at {size}: removed"
                yield Problem(Kind.EXTENT, inode, text, removal(key))
                continue
            if len(value) > room:
                text = f"extent {number} has {len(value)} bytes, for {room} there is room: cut"
                yield Problem(Kind.EXTENT, inode, text, _cut(key, room))
            blocks += blocks_of(min(len(value), room))
        if node.attributes.blocks != blocks:
            text = f"blocks is {node.attributes.blocks}, the extents take {blocks}" + (
                " (one may be missing)" if node.attributes.blocks > blocks else ""
            )
            yield Problem(
                Kind.BLOCKS,
                inode,
                f"{text}: set",
                fixing(inode, lambda node: setattr(node.attributes, "blocks", blocks)),
            )

    def _xattrs_of(self, inode: int, node: Node) -> Iterator[Problem]:
        some = False
        for key, value in self._xattrs.of(inode):
            some = True
            name = key[INODE_KEY.size :]
            if name in (acl.ACCESS, acl.DEFAULT) and not _is_acl(value):
                text = f"its ACL {name.decode()} cannot be read: removed"
                yield Problem(Kind.XATTR, inode, text, removal(key))
        if some and not node.has_xattrs:
            text = "has extended attributes, its flags do not say so: set"
            yield Problem(Kind.XATTR, inode, text, fixing(inode, _flag_xattrs))

    # -- an inode that is not ----------------------------------------------------------------------

    def _without_record(self, inode: int) -> Iterator[Problem]:
        live = removed = 0
        for _, raw in self._dirents.of(inode):
            if read_dirent(raw) is None:
                removed += 1
            else:
                live += 1
        size = blocks = 0
        for key, extent in self._extents.of(inode):
            if live:
                text = f"is a directory, and has the extent {key.hex()}: removed"
                yield Problem(Kind.EXTENT, inode, text, removal(key))
            size = EXTENT_KEY.unpack(key)[2] * self._tree.extent_bytes + len(extent)
            blocks += blocks_of(len(extent))
        if live:
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
            for key, _ in space.of(inode):
                text = f"is not there, and has {what}, {key.hex()}: removed"
                yield Problem(kind, inode, text, removal(key))


def _measure(node: Node) -> None:
    attributes = node.attributes
    attributes.size = len(node.content)
    attributes.blocks = blocks_of(attributes.size) if node.is_regular else 0


def _mask_mode(node: Node) -> None:
    node.attributes.mode &= _MODE_MAX


def _flag_extents(node: Node) -> None:
    node.flags |= InodeFlag.EXTENTS


def _flag_xattrs(node: Node) -> None:
    node.flags |= InodeFlag.XATTRS


def _cut(key: bytes, length: int) -> Mend:
    def mend(change: Change) -> None:
        change.put(key, (change.get(key) or b"")[:length])

    return mend


def _cutting_to_contents(inode: int, extent_bytes: int) -> Mend:
    def mend(change: Change) -> None:
        node = change.node(inode)
        node.attributes.size = 0
        for key, value in change.view.scan(extent_key(inode, 0), extent_key(inode + 1, 0)):
            number = EXTENT_KEY.unpack(bytes(key))[2]
            node.attributes.size = number * extent_bytes + min(len(value), extent_bytes)
        change.store(node)

    return mend


def _is_acl(value: Buffer) -> bool:
    try:
        acl.ACL.unpack(bytes(value))
    except Refused:
        return False
    return True


__all__ = ["problems"]
