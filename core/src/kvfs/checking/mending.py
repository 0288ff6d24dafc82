"""Putting things right, one batch each."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator

from kvfs.checking.problems import Mend
from kvfs.checking.reading import read_dirent, read_node
from kvfs.files.change import Change
from kvfs.files.contents import blocks_of
from kvfs.files.naming import DIRECTORY_BYTES
from kvfs.files.nodes import LINKS_MAX, Node
from kvfs.files.records import (
    FIRST_SLOT,
    LAST_SLOT,
    LINK_KEY,
    NUMBER_BITS,
    Attributes,
    InodeFlag,
    dirent_key,
    inode_key,
    link_key,
    unlinked_key,
)
from kvfs.kv import prefix_end

LOST_AND_FOUND = b"lost+found"

NewInode = Callable[[int], int]
"""A number, for an inode of a tree, that no other ever had."""


def removal(key: bytes) -> Mend:
    """Let one record not be there any more."""
    return lambda change: change.delete(key)


def dropping(key: bytes) -> Mend:
    """Remove what was written under a key; what was fetched under it, if anything, shows again."""
    return lambda change: change.discard(key)


def fixing(inode: int, fix: Callable[[Node], None]) -> Mend:
    """Change one inode."""

    def mend(change: Change) -> None:
        node = change.node(inode)
        fix(node)
        # What a damaged record calls itself, or says that it has, is not to be written again.
        node.attributes.inode = inode
        node.flags &= int(InodeFlag.EXTENTS | InodeFlag.XATTRS | InodeFlag.IMPLIED)
        change.store(node)

    return mend


def removal_of_names(inode: int) -> Mend:
    """Remove everything in a directory that is not there."""

    low = dirent_key(inode, 0)
    return lambda change: change.discard_range(low, prefix_end(low[:9]) or low)


# -- made anew -------------------------------------------------------------------------------------


def make_directory(
    inode: int, owner: tuple[int, int], *, mode: int = 0o700, place: tuple[int, int] = (0, 0)
) -> Mend:
    """Make the record of a directory.

    :param place: of its name; a name that leads to it is found later.
    """

    def mend(change: Change) -> None:
        node = _new(change, inode, stat.S_IFDIR | mode, owner)
        node.attributes.size = DIRECTORY_BYTES
        node.parent, node.slot = place
        node.attributes.nlink = count_links(change, node)
        change.store(node)

    return mend


def make_file(inode: int, size: int, blocks: int, owner: tuple[int, int]) -> Mend:
    """Make the record of a file whose contents are there."""

    def mend(change: Change) -> None:
        node = _new(change, inode, stat.S_IFREG | 0o600, owner)
        node.flags |= InodeFlag.EXTENTS
        node.attributes.size = size
        node.attributes.blocks = blocks
        change.store(node)

    return mend


def fit_to_contents(inode: int, extent_bytes: int, size_min: int = 0) -> Mend:
    """Have a file be as large as the extents that there are.

    :param size_min: it is not to be smaller.
    """

    def mend(change: Change) -> None:
        node = change.node(inode)
        attributes = node.attributes
        attributes.size, attributes.blocks = size_min, 0
        for number, extent in change.extents(node, 0):
            length = min(len(extent), extent_bytes)
            attributes.size = max(attributes.size, number * extent_bytes + length)
            attributes.blocks += blocks_of(length)
        node.flags |= InodeFlag.EXTENTS
        node.content = b""
        change.store(node)

    return mend


def cut_off(inode: int, number: int) -> Mend:
    """Let a file not have what was fetched of it from an extent on."""

    def mend(change: Change) -> None:
        node = change.node(inode)
        change.cut(node, number)
        change.store(node)

    return mend


def _new(change: Change, inode: int, mode: int, owner: tuple[int, int]) -> Node:
    now_ns = change.now_ns
    attributes = Attributes(
        inode=inode,
        mode=mode,
        uid=owner[0],
        gid=owner[1],
        mtime_ns=now_ns,
        atime_ns=now_ns,
        ctime_ns=now_ns,
    )
    return Node(attributes=attributes, parent=0, slot=0, flags=InodeFlag.XATTRS)


# -- names -----------------------------------------------------------------------------------------


def leads_to(change: Change, inode: int, parent: int, slot: int) -> bool:
    """Is there a name of that inode?"""
    dirent = read_dirent(change.get(dirent_key(parent, slot)))
    return dirent is not None and dirent.inode == inode


def further_names(change: Change, inode: int) -> Iterator[tuple[int, int]]:
    """Where the names are that ``H`` records speak of."""
    prefix = link_key(inode, 0, 0)[:9]
    for key, _ in change.view.scan(prefix, prefix_end(prefix)):
        _, _, parent, slot = LINK_KEY.unpack(bytes(key))
        yield parent, slot


def count_links(change: Change, node: Node) -> int:
    """The link count that an inode should have."""
    if node.is_directory:
        low, high = dirent_key(node.inode, FIRST_SLOT), dirent_key(node.inode, LAST_SLOT)
        found = (read_dirent(raw) for _, raw in change.view.scan(low, high))
        below = sum(each is not None and _is_directory(change, each.inode) for each in found)
        return 2 + below if 2 + below <= LINKS_MAX else 1
    first = (node.parent, node.slot)
    names = {first, *further_names(change, node.inode)}
    return sum(leads_to(change, node.inode, *name) for name in names)


def _is_directory(change: Change, inode: int) -> bool:
    node = read_node(change.view.get(inode_key(inode)))
    return node is not None and node.is_directory


def recount(inode: int) -> Mend:
    """Set the link count."""

    def mend(change: Change) -> None:
        node = change.node(inode)
        node.attributes.nlink = count_links(change, node)
        change.store(node)

    return mend


def settle(inode: int, parent: int, slot: int) -> Mend:
    """Have an inode know of a name that leads to it; a directory keeps the one it has."""

    def mend(change: Change) -> None:
        node = change.node(inode)
        if (node.parent, node.slot) == (parent, slot) or not leads_to(change, inode, parent, slot):
            return
        if not leads_to(change, inode, node.parent, node.slot):
            node.parent, node.slot = parent, slot
            change.delete(link_key(inode, parent, slot))
            change.store(node)
        elif node.is_directory:
            change.remove_name(parent, slot)
        else:
            change.put(link_key(inode, parent, slot), b"")

    return mend


# -- lost and found --------------------------------------------------------------------------------


def rescue(inode: int, root: int, owner: tuple[int, int], new_inode: NewInode) -> Mend:
    """Give an inode a name in ``lost+found``, in place of the one that it points back to.

    :param root: of its tree.
    """

    def mend(change: Change) -> None:
        lost = _lost_and_found(change, inode, root, owner, new_inode)
        node = change.node(inode)
        if leads_to(change, inode, node.parent, node.slot):
            change.remove_name(node.parent, node.slot)
            above = read_node(change.get(inode_key(node.parent)))
            if node.is_directory and above is not None and node.parent != inode:
                above = change.node(node.parent)
                above.lose_subdirectory()
                change.store(above)
        name = b"#%d" % inode
        slot, taken = change.find(lost.inode, name)
        while taken is not None:
            name += b"~"
            slot, taken = change.find(lost.inode, name)
        change.put_name(lost.inode, slot, name, node)
        change.delete(unlinked_key(inode))
        node.parent, node.slot = lost.inode, slot
        node.attributes.nlink = count_links(change, node) if node.is_directory else 1
        if node.is_directory:
            lost.gain_subdirectory()
        lost.modified(change.now_ns)
        change.store(node)
        change.store(lost)

    return mend


def _lost_and_found(
    change: Change, rescued: int, root: int, owner: tuple[int, int], new_inode: NewInode
) -> Node:
    """The directory; made if there is none that can be used."""
    name = LOST_AND_FOUND
    while True:
        slot, inode = change.find(root, name)
        if inode is None:
            break
        node = read_node(change.get(inode_key(inode)))
        if node is not None and node.is_directory and inode != rescued:
            return change.node(inode)
        name += b"~"
    top = change.node(root)
    made = _new(change, new_inode(root >> NUMBER_BITS), stat.S_IFDIR | 0o700, owner)
    made.attributes.size = DIRECTORY_BYTES
    made.attributes.nlink = 2
    made.parent, made.slot = root, slot
    top.gain_subdirectory()
    top.modified(change.now_ns)
    change.put_name(root, slot, name, made)
    change.store(made)
    change.store(top)
    return made


__all__ = [
    "LOST_AND_FOUND",
    "NewInode",
    "count_links",
    "cut_off",
    "dropping",
    "fit_to_contents",
    "fixing",
    "further_names",
    "leads_to",
    "make_directory",
    "make_file",
    "recount",
    "removal",
    "removal_of_names",
    "rescue",
    "settle",
]
