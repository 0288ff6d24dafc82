"""Any sequence of operations on a writable tree, against plain Python (hypothesis).

After each operation its result or errno is compared, and what it touched: attributes, listings,
contents, holes, extended attributes.  The machine plays the kernel: it holds inodes by
their number, removed ones too, and lets go of them.  Now and then the volume is closed and opened
again; at the end everything is compared, and nothing may be left in the store besides what can be
reached.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from itertools import count
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvfs.errors import NotFound
from kvfs.files import Caller, Changes
from kvfs.files.attributing import XattrFlag
from kvfs.files.naming import RenameFlag
from kvfs.files.writing import FallocateFlag
from kvfs.testing.files_both import BothSides
from kvfs.testing.files_model import ModelNode
from kvfs.testing.machine import machine_settings
from kvfs.testing.written import inconsistencies
from kvfs.volume import Volume

# Few names, so that calls meet; few of the nodes, and those made last more often.
NAMES = st.sampled_from((*(b"%c" % letter for letter in b"aabbccddef"), b"n" * 255, b"n" * 256))
PICKS = st.integers(0, 40)
# A directory with entries and which of them; now and then any directory, and a name.
ENTRIES = st.tuples(PICKS, PICKS, NAMES)
BITS = st.sampled_from((0o644, 0o600, 0o755, 0o4755, 0o2755, 0o2745, 0o6777, 0o1777, 0))
IDS = st.none() | st.sampled_from((0, 1000, 65_534))
CALLERS = st.builds(
    Caller, st.sampled_from((0, 1000)), st.sampled_from((0, 1000)), st.sampled_from((0, 0o022))
)
TIMES = st.none() | st.sampled_from((-1, 0, 1_234_567_890_123_456_789, (1 << 33) * 10**9 + 1))
# In units of the largest contents within an inode, or of an extent, and so many bytes more.
PLACES = st.tuples(st.booleans(), st.integers(0, 3), st.sampled_from((-1, 0, 1, 7, 600)))
XATTRS = st.sampled_from((b"user.a", b"user.b", b"trusted.c"))
VALUES = st.sampled_from((b"", b"value", b"v" * 3000))
KINDS = st.sampled_from((stat.S_IFREG, stat.S_IFREG, stat.S_IFREG, stat.S_IFIFO, stat.S_IFCHR))


class FilesMachine(BothSides):
    """A volume that nobody else uses, and what it should hold."""

    # -- names -------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        """Some directories, a file of several extents that has two names, and a small one."""
        who, root = Caller(), self._model.root
        self._mkdir(root, b"a", 0o755, who)
        self._mkdir(root, b"b", 0o2755, who)
        one, two = root.entries[b"a"], root.entries[b"b"]
        self._mkdir(one, b"c", 0o755, who)
        for parent in (one, two):
            self._mknod(parent, b"d", stat.S_IFREG | 0o4755, 0, who)
        self._link(one.entries[b"d"], two, b"a")
        self._write(one.entries[b"d"], 0, b"text" * self._volume.superblock.extent_bytes, True)
        self._write(two.entries[b"d"], 0, b"text", True)

    @rule(into=PICKS, name=NAMES, kind=KINDS, bits=BITS, who=CALLERS)
    def mknod(self, into: int, name: bytes, kind: int, bits: int, who: Caller) -> None:
        """A new file, or special file."""
        rdev = 0x1203 if kind == stat.S_IFCHR else 0
        self._mknod(self._directory(into), name, kind | bits, rdev, who)

    def _mknod(self, parent: ModelNode, name: bytes, mode: int, rdev: int, who: Caller) -> None:
        self._do(
            lambda: self._files.mknod(parent.inode, name, mode, rdev, who),
            lambda: self._model.make(
                parent, name, mode, who.uid, who.gid, who.umask, rdev=rdev
            ),
        )  # fmt: skip

    @rule(into=PICKS, name=NAMES, bits=BITS, who=CALLERS)
    def mkdir(self, into: int, name: bytes, bits: int, who: Caller) -> None:
        """A new directory."""
        self._mkdir(self._directory(into), name, bits, who)

    def _mkdir(self, parent: ModelNode, name: bytes, bits: int, who: Caller) -> None:
        mode = stat.S_IFDIR | bits
        self._do(
            lambda: self._files.mkdir(parent.inode, name, bits, who),
            lambda: self._model.make(parent, name, mode, who.uid, who.gid, who.umask),
        )

    @rule(into=PICKS, name=NAMES, to=st.sampled_from((b"a", b"../x", b"t" * 4095)), who=CALLERS)
    def symlink(self, into: int, name: bytes, to: bytes, who: Caller) -> None:
        """A new symbolic link."""
        parent, mode = self._directory(into), stat.S_IFLNK | 0o777
        self._do(
            lambda: self._files.symlink(parent.inode, name, to, who),
            lambda: self._model.make(
                parent, name, mode, who.uid, who.gid, who.umask, target=to
            ),
        )  # fmt: skip

    @rule(into=PICKS, bits=BITS, who=CALLERS)
    def tmpfile(self, into: int, bits: int, who: Caller) -> None:
        """A new file without a name."""
        parent, mode = self._directory(into), stat.S_IFREG | bits
        self._do(
            lambda: self._files.tmpfile(parent.inode, mode, who),
            lambda: self._model.tmpfile(parent, mode, who.uid, who.gid, who.umask),
        )

    @rule(what=PICKS, into=PICKS, name=NAMES)
    def link(self, what: int, into: int, name: bytes) -> None:
        """One more name."""
        self._link(self._node(what), self._directory(into), name)

    def _link(self, node: ModelNode, parent: ModelNode, name: bytes) -> None:
        self._do(
            lambda: self._files.link(node.inode, parent.inode, name),
            lambda: self._model.link(node, parent, name),
        )

    @rule(where=ENTRIES)
    def unlink(self, where: tuple[int, int, bytes]) -> None:
        """One name less."""
        parent, name = self._entry(where)
        self._do(
            lambda: self._files.unlink(parent.inode, name),
            lambda: self._model.unlink(parent, name),
        )

    @rule(where=ENTRIES)
    def rmdir(self, where: tuple[int, int, bytes]) -> None:
        """One directory less."""
        parent, name = self._entry(where)
        self._do(
            lambda: self._files.rmdir(parent.inode, name), lambda: self._model.rmdir(parent, name)
        )

    @rule(where=ENTRIES, into=PICKS, new_name=NAMES, noreplace=st.booleans())
    def rename(
        self, where: tuple[int, int, bytes], into: int, new_name: bytes, noreplace: bool
    ) -> None:
        """Another name."""
        (parent, name), new_parent = self._entry(where), self._directory(into)
        flags = RenameFlag.NOREPLACE if noreplace else 0
        self._do(
            lambda: self._files.rename(parent.inode, name, new_parent.inode, new_name, flags),
            lambda: self._model.rename(parent, name, new_parent, new_name, noreplace=noreplace),
        )

    @rule(where=ENTRIES, other=ENTRIES)
    def exchange(self, where: tuple[int, int, bytes], other: tuple[int, int, bytes]) -> None:
        """Two names change their places."""
        (parent, name), (new_parent, new_name) = self._entry(where), self._entry(other)
        flags = RenameFlag.EXCHANGE
        self._do(
            lambda: self._files.rename(parent.inode, name, new_parent.inode, new_name, flags),
            lambda: self._model.exchange(parent, name, new_parent, new_name),
        )

    # -- attributes --------------------------------------------------------------------------------

    @rule(what=PICKS, bits=BITS)
    def chmod(self, what: int, bits: int) -> None:
        """Other permission bits."""
        node = self._node(what)
        self._do(lambda: self._set(node, Changes(mode=bits)), lambda: self._model.chmod(node, bits))

    @rule(what=PICKS, uid=IDS, gid=IDS)
    def chown(self, what: int, uid: int | None, gid: int | None) -> None:
        """Another owner."""
        node = self._node(what)
        self._do(
            lambda: self._set(node, Changes(uid=uid, gid=gid)),
            lambda: self._model.chown(node, uid, gid),
        )

    @rule(what=PICKS, atime=TIMES, mtime=TIMES)
    def utimens(self, what: int, atime: int | None, mtime: int | None) -> None:
        """Other times."""
        node = self._node(what)
        changes = Changes(
            atime_ns=atime, mtime_ns=mtime, atime_now=atime is None, mtime_now=mtime is None
        )
        self._do(lambda: self._set(node, changes), lambda: self._model.utimens(node, atime, mtime))

    def _set(self, node: ModelNode, changes: Changes) -> None:
        self._files.setattr(node.inode, changes)

    @rule(what=PICKS, name=XATTRS, value=VALUES, create=st.booleans(), replace=st.booleans())
    def setxattr(self, what: int, name: bytes, value: bytes, create: bool, replace: bool) -> None:
        """An extended attribute."""
        node = self._node(what)
        flags = XattrFlag.CREATE * create | XattrFlag.REPLACE * replace
        self._do(
            lambda: self._files.setxattr(node.inode, name, value, flags),
            lambda: self._model.setxattr(node, name, value, create=create, replace=replace),
        )

    @rule(what=PICKS, name=XATTRS)
    def removexattr(self, what: int, name: bytes) -> None:
        """An extended attribute less."""
        node = self._node(what)
        self._do(
            lambda: self._files.removexattr(node.inode, name),
            lambda: self._model.removexattr(node, name),
        )

    # -- contents ----------------------------------------------------------------------------------

    @rule(
        what=PICKS, place=PLACES, length=PLACES, byte=st.integers(1, 255), privileged=st.booleans()
    )
    def write(
        self,
        what: int,
        place: tuple[bool, int, int],
        length: tuple[bool, int, int],
        byte: int,
        privileged: bool,
    ) -> None:
        """Contents, anywhere."""
        data = bytes((byte, 255 - byte, byte)) * (self._offset(length) // 3 + 1)
        self._write(self._file(what) or self._node(what), self._offset(place), data, privileged)

    def _write(self, node: ModelNode, offset: int, data: bytes, privileged: bool) -> None:
        self._do(
            lambda: self._files.write(node.inode, offset, data, drops_privileges=not privileged),
            lambda: self._model.write(node, offset, data, privileged=privileged),
        )

    @rule(what=PICKS, place=PLACES)
    def truncate(self, what: int, place: tuple[bool, int, int]) -> None:
        """Another size."""
        node, size = self._file(what) or self._node(what), self._offset(place)
        self._do(
            lambda: self._set(node, Changes(size=size)), lambda: self._model.truncate(node, size)
        )

    @rule(what=PICKS, place=PLACES, length=PLACES, how=st.sampled_from((0, 1, 3, 16, 17)))
    def fallocate(
        self, what: int, place: tuple[bool, int, int], length: tuple[bool, int, int], how: int
    ) -> None:
        """Room, a hole, zeros."""
        node = self._file(what) or self._node(what)
        offset, size = self._offset(place), self._offset(length) + 1
        self._do(
            lambda: self._files.fallocate(node.inode, how, offset, size),
            lambda: self._model.fallocate(
                node,
                offset,
                size,
                zero=bool(how & (FallocateFlag.PUNCH_HOLE | FallocateFlag.ZERO_RANGE)),
                keep_size=bool(how & FallocateFlag.KEEP_SIZE),
            ),
        )

    @precondition(lambda self: self._file(0) is not None)
    @rule(out_of=PICKS, offset=PLACES, into=PICKS, place=PLACES, length=PLACES)
    def copy_range(
        self,
        out_of: int,
        offset: tuple[bool, int, int],
        into: int,
        place: tuple[bool, int, int],
        length: tuple[bool, int, int],
    ) -> None:
        """Contents of another file."""
        source, node = self._file(out_of), self._file(into)
        assert source is not None
        assert node is not None
        at, to, size = map(self._offset, (offset, place, length))
        self._do(
            lambda: self._files.copy_range(source.inode, at, node.inode, to, size),
            lambda: self._model.copy_range(source, at, node, to, size),
        )

    # -- the kernel, and the end -------------------------------------------------------------------

    @rule(where=ENTRIES)
    def lookup(self, where: tuple[int, int, bytes]) -> None:
        """The kernel is given an entry."""
        directory, name = self._entry(where)
        found, node = self._files.find(directory.inode, name), directory.entries.get(name)
        assert (found and found.inode) == (node and node.inode)
        if node is not None:
            self._held[node] = self._held.get(node, 0) + 1
            self._compare(node)

    @rule(what=PICKS)
    def forget(self, what: int) -> None:
        """The kernel lets go of a node; if it has no name any more, it is gone."""
        node = self._node(what)
        if node is self._model.root:
            return
        self._files.forget(node.inode, self._held.pop(node))
        if not node.names:
            self._check_gone(node)

    def _check_gone(self, node: ModelNode) -> None:
        try:
            self._files.stat(node.inode)
        except NotFound:
            return
        raise AssertionError(f"inode {node.inode:#x} has no name, is not in use, and is there")

    @rule()
    def sync(self) -> None:
        """Everything is to last; what is there stays the same."""
        self._files.sync()

    @precondition(lambda self: self._reopens)
    @rule()
    def reopen(self) -> None:
        """The volume is closed and opened again."""
        self._close()
        self._open()
        self._compare_tree(self._model.root)

    def teardown(self) -> None:
        """Look at everything once more, let go of it, and close."""
        self._compare_tree(self._model.root)
        for node, times in self._held.items():
            self._compare(node)
            if times:
                self._files.forget(node.inode, times)
        writing = self._volume._writing
        assert writing is not None
        sealed = self._volume.sealed if self._top else None
        root = self._model.root.inode
        assert inconsistencies(writing.store, sealed=sealed, root=root) == []
        self._close()


def run_files_machine(
    open_volume: Callable[[str], Volume],
    *,
    reopens: bool,
    top: bytes = b"",
    examples: int = 100,
    steps: int = 40,
) -> None:
    """Try sequences of operations, each on a volume of its own; fails with the shortest wrong one.

    :param open_volume: opens the volume of a name, for one process.
    :param top: the tarball to be changed, as it is shown; empty: they are scratch volumes.
    :param reopens: does a volume that was closed still hold everything when it is opened again?
    :param examples: how many sequences.
    :param steps: the most operations in one.
    """
    numbers = count()

    def make() -> FilesMachine:
        name = f"machine{next(numbers)}"
        return FilesMachine(lambda: open_volume(name), reopens=reopens, top=top)

    machine: Any = make  # any callable that makes one will do, though it is annotated as a type
    run_state_machine_as_test(
        machine,
        settings=machine_settings(examples, steps),
    )


__all__ = ["FilesMachine", "run_files_machine"]
