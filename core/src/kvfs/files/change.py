"""One operation on a writable tree: what it read, and what it is to write, as one guarded batch."""

from __future__ import annotations

import errno

from kvfs.errors import KVFSError
from kvfs.files.names import NameHash, locate, remains_of
from kvfs.files.nodes import Node
from kvfs.files.records import (
    ATTR,
    FIRST_SLOT,
    LAST_SLOT,
    NAME_BYTES_MAX,
    NAMESPACE_VALID_S,
    DirentFlag,
    dirent_key,
    inode_key,
    pack_dirent,
)
from kvfs.kv import Batch, Buffer, Readable

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
    """

    def __init__(self, view: Readable, names: NameHash, now_ns: int) -> None:
        """:param view: of the present."""
        self.view = view
        self.now_ns = now_ns
        self.batch = Batch()
        self._names = names
        self._nodes: dict[int, Node] = {}

    # -- records -----------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """A record that the operation depends on."""
        batch = self.batch
        if key in batch.puts:
            return bytes(batch.puts[key])
        if key in batch.deletes:
            return None
        if key in batch.guards:
            return batch.guards[key]
        found = self.view.get(key)
        record = None if found is None else bytes(found)
        batch.guards[key] = record
        return record

    def peek(self, key: bytes) -> Buffer | None:
        """A record that changes together with a guarded one only; valid until the next read."""
        batch = self.batch
        if key in batch.puts:
            return batch.puts[key]
        return None if key in batch.deletes else self.view.get(key)

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
                batch.puts[key] = node.pack()
        return batch

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
