"""The second pass: every name leads somewhere, and is where it is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from kvfs.checking.mending import dropping, settle
from kvfs.checking.problems import Kind, Mend, Problem
from kvfs.checking.reading import Record, Space, Tree, read_dirent
from kvfs.files.change import Change, name_record
from kvfs.files.names import locate
from kvfs.files.nodes import Node
from kvfs.files.records import (
    DIRENT_KEY,
    LAST_SLOT,
    NAME_BYTES_MAX,
    PROBES_MAX,
    REMOVED_DIRENT,
    DirentFlag,
    DirentRecord,
    dirent_key,
    inode_key,
    link_key,
)
from kvfs.kv import Buffer

_WINDOW = 512


def problems(tree: Tree) -> Iterator[Problem]:
    """What is wrong with names, as seen from their directories."""
    with closing(Space(tree, b"D")) as space:
        records = space.each()
        while window := [record for _, record in islice(records, _WINDOW)]:
            dirents = [read_dirent(record.value) for record in window]
            wanted = {dirent.inode for dirent in dirents if dirent is not None}
            nodes = tree.nodes({inode for inode in wanted if tree.holds(inode)})
            for record, dirent in zip(window, dirents, strict=True):
                if dirent is None:
                    yield from _unreadable(tree, record)
                else:
                    found = nodes.get(dirent.inode, (None, False))
                    yield from _name(tree, record, dirent, *found)


def _unreadable(tree: Tree, record: Record) -> Iterator[Problem]:
    key, raw, _ = record
    _, parent, slot = DIRENT_KEY.unpack(key)
    if bytes(raw) == REMOVED_DIRENT:
        return
    text = f"the record of a name at slot {slot:#x} cannot be read"
    if tree.lower is not None and tree.lower.get(key) is not None:
        yield Problem(Kind.DIRENT, parent, f"{text}: as it was fetched again", dropping(key))
    else:
        yield Problem(Kind.DIRENT, parent, f"{text}: removed", _removal(parent, slot, raw))


def _name(
    tree: Tree, record: Record, dirent: DirentRecord, node: Node | None, node_is_written: bool
) -> Iterator[Problem]:
    key, raw, is_written = record
    _, parent, slot = DIRENT_KEY.unpack(key)
    name, inode = dirent.name, dirent.inode
    remove = _removal(parent, slot, raw)
    if not 0 < len(name) <= NAME_BYTES_MAX or name in (b".", b"..") or set(name) & set(b"/\0"):
        yield Problem(Kind.NAME, parent, f"{name!r} in it is no file name: removed", remove)
        return
    if node is None and is_written and tree.holds(inode) and tree.fetched(inode) is not None:
        text = f"its record is not there, and {name!r} in {parent:#x} leads to it"
        again = dropping(inode_key(inode))
        yield Problem(Kind.LOST_INODE, inode, f"{text}: as it was fetched again", again)
        return
    if node is None or inode == tree.root:
        what = "the root" if inode == tree.root else f"inode {inode:#x}, which is not there"
        yield Problem(Kind.DANGLING, parent, f"{name!r} in it leads to {what}: removed", remove)
        return
    home = tree.names.slot(name)
    if home != slot:
        right, other = None, None
        if home < slot < home + PROBES_MAX and slot < LAST_SLOT:
            right, other = locate(tree.reader.get, parent, home, name)
        if right != slot:
            if other is not None:
                text = f"{name!r} is in it twice: the second removed"
                yield Problem(Kind.NAME, parent, text, remove)
            else:
                text = f"{name!r} is at slot {slot:#x}, where nobody looks for it: moved"
                yield Problem(Kind.SLOT, parent, text, _move(parent, slot, raw, name, inode))
            return
    if not _fits(record, slot, dirent, node, node_is_written):
        text = f"the record of {name!r} in it does not fit its inode {inode:#x}: written anew"
        yield Problem(Kind.DIRENT, parent, text, _rewriting(parent, slot, raw, name, inode))
    if (node.parent, node.slot) != (parent, slot):
        yield from _other_name(tree, parent, slot, name, node, inode)


def _fits(
    record: Record, slot: int, dirent: DirentRecord, node: Node, node_is_written: bool
) -> bool:
    """Does a name say of what it leads to what is so?"""
    if record.is_written:
        made = name_record(slot, dirent.name, node.inode, node.attributes.mode)
        return bytes(record.value) == made
    # As it was fetched it is right, unless it has attributes, and those have changed.
    return not node_is_written or bool(dirent.flags & DirentFlag.SHARED)


def _other_name(
    tree: Tree, parent: int, slot: int, name: bytes, node: Node, inode: int
) -> Iterator[Problem]:
    """A name that its inode does not point back to."""
    mend = settle(inode, parent, slot)
    has_first = tree.is_name_of(inode, node.parent, node.slot)
    listed = tree.reader.get(link_key(inode, parent, slot)) is not None
    if node.is_directory and has_first:
        text = f"the directory {inode:#x} has a second name, {name!r} in it: removed"
        yield Problem(Kind.SECOND_NAME, parent, text, mend)
    elif not has_first and (node.is_directory or not listed):
        text = f"points back to no name, and {name!r} in {parent:#x} is one: set"
        yield Problem(Kind.BACK_POINTER, inode, text, mend)
    elif has_first and not listed:
        text = f"has the further name {name!r} in {parent:#x}, without a record of that: made"
        yield Problem(Kind.LINK, inode, text, mend)


def _still(change: Change, parent: int, slot: int, raw: Buffer) -> bool:
    return change.get(dirent_key(parent, slot)) == bytes(raw)


def _removal(parent: int, slot: int, raw: Buffer) -> Mend:
    record = bytes(raw)

    def mend(change: Change) -> None:
        if _still(change, parent, slot, record):
            change.remove_name(parent, slot)

    return mend


def _rewriting(parent: int, slot: int, raw: Buffer, name: bytes, inode: int) -> Mend:
    record = bytes(raw)

    def mend(change: Change) -> None:
        if _still(change, parent, slot, record):
            change.put_name(parent, slot, name, change.node(inode))

    return mend


def _move(parent: int, slot: int, raw: Buffer, name: bytes, inode: int) -> Mend:
    record = bytes(raw)

    def mend(change: Change) -> None:
        if not _still(change, parent, slot, record):
            return
        change.remove_name(parent, slot)
        right, taken = change.find(parent, name)
        if taken is not None:
            return  # there is such a name where it should be: this one is not needed
        node = change.node(inode)
        change.put_name(parent, right, name, node)
        if (node.parent, node.slot) == (parent, slot):
            node.slot = right
            change.store(node)
        elif change.get(link_key(inode, parent, slot)) is not None:
            change.delete(link_key(inode, parent, slot))
            change.put(link_key(inode, parent, right), b"")

    return mend


__all__ = ["problems"]
