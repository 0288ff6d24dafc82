"""The two sides of the files machine: how an operation is done on both, and both are compared."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable

from hypothesis.stateful import RuleBasedStateMachine

from kvfs.files import Refused, WritableFiles
from kvfs.files.records import tarball_of
from kvfs.testing.files_model import FilesModel, ModelNode, Touched
from kvfs.volume import Volume

TICK_NS = 1000
"""Between two operations; one that changes an inode twice may count nanoseconds up meanwhile."""

ANYWAY = 35
"""An entry is picked from those that there are by numbers below; else there may be none."""


class BothSides(RuleBasedStateMachine):
    """A volume that nobody else uses, and what it should hold.

    :param top: the tarball that is changed; empty: the volume is a scratch volume.
    """

    def __init__(
        self, open_volume: Callable[[], Volume], *, reopens: bool, top: bytes = b""
    ) -> None:
        super().__init__()
        self._open_volume = open_volume
        self._reopens = reopens
        self._top = top
        self._model = FilesModel()
        self._held: dict[ModelNode, int] = {}
        self._open()
        inode = self._files.open_path(top).inode
        if top:  # which may say what its top directory is like
            self._volume.tarballs.fetch(tarball_of(inode))
        self._take_in(self._model.root, inode, {})
        self._model.now_ns = max(time.time_ns(), self._model.now_ns) // TICK_NS * TICK_NS

    def _take_in(self, node: ModelNode, inode: int, known: dict[int, ModelNode]) -> None:
        """Take for right what is there at the beginning."""
        made = self._files.stat(inode)
        node.inode, node.mode, node.rdev = inode, made.mode, made.rdev
        node.uid, node.gid = made.uid, made.gid
        node.atime_ns, node.mtime_ns, node.ctime_ns = made.atime_ns, made.mtime_ns, made.ctime_ns
        for name in self._files.listxattr(inode):
            node.xattrs[name] = bytes(self._files.getxattr(inode, name) or b"")
        if stat.S_ISREG(made.mode):
            node.content += b"".join(self._files.read(inode, 0, made.size))
        elif stat.S_ISLNK(made.mode):
            node.content += self._files.readlink(inode)
        # In an order that is the same each time: hypothesis has to find the same when it replays.
        for entry in sorted(self._files.entries(inode)) if node.is_directory else ():
            number = entry.attributes.inode
            self._files.forget(number, 1)
            below = known.get(number)
            if below is None:
                below = ModelNode(mode=entry.attributes.mode, uid=0, gid=0, born_ns=0)
                below.parent = node if below.is_directory else None
                known[number] = below
                self._take_in(below, number, known)
            below.names += 1
            node.entries[entry.name] = below

    def _open(self) -> None:
        self._volume = self._open_volume()
        self._volume.begin_writing("machine")
        files = self._volume.files(wait=True)
        assert isinstance(files, WritableFiles)
        files._clock = lambda: self._model.now_ns
        self._files = files
        self._held = {self._model.root: 0}

    # -- how things are done, and compared ---------------------------------------------------------

    def _node(self, pick: int) -> ModelNode:
        held = [*self._held]
        return held[-1 - pick % len(held)]

    def _directory(self, pick: int) -> ModelNode:
        held = [node for node in self._held if node.is_directory]
        return held[-1 - pick % len(held)]

    def _entry(self, where: tuple[int, int, bytes]) -> tuple[ModelNode, bytes]:
        pick, which, name = where
        filled = [node for node in self._held if node.entries]
        if which >= ANYWAY or not filled:
            return self._directory(pick), name
        directory = filled[-1 - pick % len(filled)]
        names = [*directory.entries]
        return directory, names[which % len(names)]

    def _file(self, pick: int) -> ModelNode | None:
        held = [node for node in self._held if stat.S_ISREG(node.mode)]
        return held[-1 - pick % len(held)] if held else None

    def _offset(self, place: tuple[bool, int, int]) -> int:
        in_extents, units, more = place
        superblock = self._volume.superblock
        unit = superblock.extent_bytes if in_extents else superblock.inline_bytes
        return max(unit * units + more, 0)

    def _do(self, real: Callable[[], object], model: Callable[[], Touched]) -> None:
        """Do something on both sides."""
        self._model.now_ns += TICK_NS
        expected = actual = 0
        touched: Touched = ()
        try:
            touched = model()
        except OSError as error:
            expected = error.errno or 0
        try:
            result = real()
        except Refused as error:
            actual = error.errno or 0
        assert errno.errorcode.get(actual) == errno.errorcode.get(expected)
        if actual:
            return
        if isinstance(result, bytes):  # an entry: the kernel has one more
            node = touched[0]
            number = int.from_bytes(result[:8], "little")
            assert node.inode in (0, number), "an inode number changed, or was given twice"
            node.inode = number
            self._held[node] = self._held.get(node, 0) + 1
        for node in touched:
            # What has no name and is not held is gone.
            if node.names or node in self._held:
                self._compare(node)

    def _compare(self, node: ModelNode) -> None:
        found = self._files.stat(node.inode)
        assert found.inode == node.inode
        assert (oct(found.mode), found.nlink, found.uid, found.gid, found.size, found.rdev) == (
            oct(node.mode), node.nlink, node.uid, node.gid, node.size, node.rdev,
        )  # fmt: skip
        for name in ("atime_ns", "mtime_ns", "ctime_ns"):
            assert getattr(found, name) // TICK_NS == getattr(node, name) // TICK_NS, name
        xattrs = {name: self._files.getxattr(node.inode, name) for name in self._xattrs(node)}
        assert {name: bytes(value or b"-") for name, value in xattrs.items()} == {
            name: value or b"-" for name, value in node.xattrs.items()
        }
        if node.is_directory:
            assert self._listed(node) == {name: n.inode for name, n in node.entries.items()}
        elif stat.S_ISLNK(node.mode):
            assert bytes(self._files.readlink(node.inode)) == node.content
        elif stat.S_ISREG(node.mode):
            self._compare_contents(node)
        if node.names:
            self._compare_path(node)

    def _xattrs(self, node: ModelNode) -> list[bytes]:
        names = self._files.listxattr(node.inode)
        assert len(set(names)) == len(names)
        return names

    def _listed(self, directory: ModelNode) -> dict[bytes, int]:
        listed = [*self._files.entries(directory.inode)]
        for _, attributes in listed:
            assert attributes == self._files.stat(attributes.inode)
            self._files.forget(attributes.inode, 1)
        entries = [(entry.name, entry.attributes.inode) for entry in listed]
        assert len({name for name, _ in entries}) == len(entries)
        return dict(entries)

    def _compare_contents(self, node: ModelNode) -> None:
        size, content = len(node.content), node.content
        assert b"".join(self._files.read(node.inode, 0, size + 1)) == content
        middle = size // 2
        assert b"".join(self._files.read(node.inode, middle, 10)) == content[middle : middle + 10]
        at = 0
        while at < size:  # what is said to be a hole is one
            data = self._data_from(node, at)
            assert data >= at
            assert not any(content[at:data])
            at = size if data == size else self._files.seek(node.inode, data, os.SEEK_HOLE)
            assert at > data or at == size

    def _data_from(self, node: ModelNode, offset: int) -> int:
        """Where the next data begins; at the end if there is none."""
        try:
            return self._files.seek(node.inode, offset, os.SEEK_DATA)
        except Refused as error:
            if error.errno != errno.ENXIO:
                raise
            return len(node.content)

    def _compare_path(self, node: ModelNode) -> None:
        at = self._model.root
        path = self._files.path_of(node.inode)
        *above, last = path.removeprefix(self._top).removeprefix(b"/").split(b"/")
        if node is at:
            assert (above, last) == ([], b"")
            return
        for name in above:
            at = at.entries[name]
        assert at.entries[last] is node

    def _compare_tree(self, directory: ModelNode) -> None:
        self._compare(directory)
        for node in directory.entries.values():
            if node.is_directory:
                self._compare_tree(node)
            else:
                self._compare(node)

    def _close(self) -> None:
        self._files.close()
        self._volume.close()


__all__ = ["BothSides"]
