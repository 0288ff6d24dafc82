"""One operation on a writable tree: what it read, and what it is to write, as one guarded batch."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from kvfs.errors import Corrupt, KVFSError
from kvfs.files.names import NameHash, locate, remains_of
from kvfs.files.nodes import Node
from kvfs.files.overlay import GONE, Overlay, scan_extents
from kvfs.files.records import (
    ATTR,
    FIRST_SLOT,
    LAST_SLOT,
    NAME_BYTES_MAX,
    NAMESPACE_VALID_S,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    dirent_key,
    extent_key,
    inode_key,
    pack_dirent,
)
from kvfs.kv import Batch, Buffer, Readable

FEW = 64
"""So many records are named one by one; more are removed as a range."""
_NO_ATTRIBUTES = bytes(ATTR.size)


class Refused(KVFSError):
    """What POSIX says is not to be done.

    :param number: the errno that says why.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.errno = number


def name_record(slot: int, name: bytes, inode: int, mode: int) -> bytes:
    """The record of a name.  Attributes change often, so they are in the inode's record only."""
    return pack_dirent(
        _NO_ATTRIBUTES,
        inode,
        mode,
        slot,
        name,
        valid_s=NAMESPACE_VALID_S,
        flags=DirentFlag.SHARED,
    )


class Change:
    """Reads records for one operation, and gathers what it writes.

    What is read is guarded: if somebody changes it before the batch is committed, the batch is
    refused, and the operation is to be done anew.  Reads show what the change itself writes.
    What is written goes above, where the view is an :class:`~kvfs.files.overlay.Overlay`.
    """

    def __init__(self, view: Readable | Overlay, names: NameHash, now_ns: int) -> None:
        """:param view: of the present."""
        self.view = view
        self._overlay = view if isinstance(view, Overlay) else None
        self._upper = view.upper if isinstance(view, Overlay) else view
        self.now_ns = now_ns
        self.batch = Batch()
        self._names = names
        self._nodes: dict[int, Node] = {}
        self._risen: set[int] = set()
        """Inodes that stood below until now."""
        self._discarded: set[bytes] = set()

    # -- records -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """A record that the operation depends on."""
        batch = self.batch
        if key in batch.puts:
            return bytes(batch.puts[key])
        if key in batch.deletes:
            return None
        if key in batch.guards:
            record = batch.guards[key]
        else:
            found = self._upper.get(key)
            record = batch.guards[key] = None if found is None else bytes(found)
        if self._overlay is None:
            return record
        # What is below does not change.
        shown = self._overlay.shown(key, record)
        return None if shown is None else bytes(shown)

    def peek(self, key: bytes) -> Buffer | None:
        """A record that changes together with a guarded one only; valid until the next read."""
        batch = self.batch
        if key in batch.puts:
            return batch.puts[key]
        return None if key in batch.deletes else self.view.get(key)

    def holds(self) -> bool:
        """Is all that it depends on there still?"""
        guards = self.batch.guards
        return [*self._upper.get_many([*guards])] == [*guards.values()]

    @property
    def is_laid_over(self) -> bool:
        """Is there something below that stays as it is?"""
        return self._overlay is not None

    def extents(
        self, node: Node, first: int, stop: int | None = None
    ) -> Iterator[tuple[int, Buffer]]:
        """(number, value) of the extents that a file had before, from ``first`` up to ``stop``."""
        return scan_extents(self.view, node.inode, node.cut, first, stop)

    def extent(self, node: Node, number: int) -> Buffer:
        """An extent of a file, or nothing; valid until the next read."""
        key = extent_key(node.inode, number)
        if self._overlay is None or node.cut is None or number < node.cut:
            return self.peek(key) or b""
        batch = self.batch
        if key in batch.puts:
            return batch.puts[key]
        return b"" if key in batch.deletes else self._upper.get(key) or b""

    def cut(self, node: Node, number: int) -> None:
        """Let a file have no extents from ``number`` on; they need not be named."""
        if self._overlay is not None:
            node.cut = number if node.cut is None else min(node.cut, number)

    def discard(self, key: bytes) -> None:
        """Remove a record that nothing leads to any more, wherever it is."""
        self._discarded.add(key)
        self.batch.delete(key)

    def discard_range(self, start: bytes, stop: bytes) -> None:
        """Remove all records between, which nothing leads to any more."""
        found = [bytes(key) for key, _ in self._upper.scan(start, stop, limit=FEW + 1)]
        if len(found) > FEW:
            self.batch.delete_range(start, stop)
            return
        for key in found:
            self.discard(key)

    def put(self, key: bytes, value: Buffer) -> None:
        """Store a record."""
        self.batch.put(key, value)

    def delete(self, key: bytes) -> None:
        """Remove a record."""
        self.batch.delete(key)

    # -- inodes ------------------------------------------------------------------------------------

    def node(self, inode: int) -> Node:
        """An inode.

        :raises Refused: there is none any more.
        """
        node = self._nodes.get(inode)
        if node is None:
            record = self.get(inode_key(inode))
            if record is None:
                raise Refused(errno.ESTALE, f"there is no inode {inode:#x} any more")
            node = self._nodes[inode] = Node.unpack(record)
            if self.batch.guards.get(inode_key(inode)) is None:
                self._risen.add(inode)
        return node

    def directory(self, inode: int) -> Node:
        """A directory that names can be made in.

        :raises Refused: it is none, or was removed.
        """
        node = self.node(inode)
        if not node.is_directory:
            raise Refused(errno.ENOTDIR, f"inode {inode:#x} is not a directory")
        if node.attributes.nlink == 0:
            raise Refused(errno.ENOENT, f"the directory {inode:#x} was removed")
        return node

    def store(self, node: Node) -> None:
        """Have an inode stored as it is when the change is committed."""
        self._nodes[node.inode] = node
        self.batch.put(inode_key(node.inode), b"")  # in its place: filled in by finish()

    def finish(self) -> Batch:
        """The batch, complete."""
        batch = self.batch
        for inode, node in self._nodes.items():
            key = inode_key(inode)
            if key in batch.puts:
                if inode in self._risen:
                    self._rise(node)
                batch.puts[key] = node.pack()
        if self._overlay is not None:
            self._lay(self._overlay)
        return batch

    def _rise(self, node: Node) -> None:
        """An inode that was below is to stand above: its name leads there for its attributes."""
        node.flags &= ~InodeFlag.IMPLIED.value
        key = dirent_key(node.parent, node.slot)
        if node.attributes.nlink == 0 or key in self.batch.puts or key in self.batch.deletes:
            return
        record = self.get(key)
        if record is None:
            raise Corrupt(f"inode {node.inode:#x} points back to a dirent that is not there")
        if not record[-1] & DirentFlag.SHARED:
            dirent = DirentRecord.unpack(record)
            if dirent.inode != node.inode:
                raise Corrupt(f"inode {node.inode:#x} points back to the name of another")
            self.put_name(node.parent, node.slot, dirent.name, node)

    def _lay(self, overlay: Overlay) -> None:
        """Have the batch say what is to stand above."""
        batch = self.batch
        for key, value in batch.puts.items():
            batch.puts[key] = overlay.stored(key, value)
        for key in batch.deletes - self._discarded:
            if overlay.hides(key):
                batch.put(key, GONE)

    # -- names -------------------------------------------------------------------------------------

    def find(self, parent: int, name: bytes) -> tuple[int, int | None]:
        """The slot of a name, and the inode that it leads to; ``None``: the slot is free.

        :raises Refused: the name is too long.
        """
        if len(name) > NAME_BYTES_MAX:
            raise Refused(errno.ENAMETOOLONG, f"a name of {len(name)} bytes")
        slot, record = locate(self.get, parent, self._names.slot(name), name)
        return slot, None if record is None else int.from_bytes(record[:8], "little")

    def existing(self, parent: int, name: bytes) -> tuple[int, Node]:
        """The slot of a name, and what it leads to.

        :raises Refused: there is no such name.
        """
        slot, inode = self.find(parent, name)
        if inode is None:
            raise Refused(errno.ENOENT, f"there is no {name!r} in directory {parent:#x}")
        return slot, self.node(inode)

    def put_name(self, parent: int, slot: int, name: bytes, node: Node) -> None:
        """Have a name lead to a node."""
        record = name_record(slot, name, node.inode, node.attributes.mode)
        self.put(dirent_key(parent, slot), record)

    def remove_name(self, parent: int, slot: int) -> None:
        """Remove a name."""
        key = dirent_key(parent, slot)
        remains = remains_of(self.get, parent, slot)
        if remains is None:
            self.delete(key)
        else:
            self.put(key, remains)

    def is_empty(self, directory: Node) -> bool:
        """Has a directory no entries?  Whoever makes one changes its inode, which is guarded."""
        entries = self.view.scan(
            dirent_key(directory.inode, FIRST_SLOT), dirent_key(directory.inode, LAST_SLOT)
        )
        batch = self.batch
        return all(
            record[-1] & DirentFlag.REMOVED or bytes(key) in batch.deletes
            for key, record in entries
        )


__all__ = ["Change", "Refused", "name_record"]
