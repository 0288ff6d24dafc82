"""The tree of one tarball while it is being built: names, inodes, links, and what replaces what.

The rules are those of GNU tar unpacking into an empty directory: the last member of a name wins,
directories that are not listed are made, a name below a symbolic link goes where the link leads as
long as that is inside the tarball.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping

import attrs

from kvfs.capability import Durability
from kvfs.errors import Corrupt
from kvfs.files import Attributes, ChainTooLong, NameHash, locate
from kvfs.files.records import (
    CONTENT_IN_INODE,
    FIRST_MADE_NUMBER,
    FIRST_SLOT,
    FOREVER_S,
    LAST_SLOT,
    LINK_KEY,
    ROOT_NUMBER,
    DirentFlag,
    DirentRecord,
    InodeFlag,
    InodeRecord,
    dirent_key,
    extent_key,
    generation_of,
    inode_key,
    inode_of,
    link_key,
    pack_dirent,
    pack_inode,
    xattr_key,
)
from kvfs.kv import Batch, Buffer, KVStore, ReadView, prefix_end
from kvfs.tarballs.paths import Refused

DIRECTORIES_CACHED = 16_384
"""Directories, and spellings of their paths, kept in memory; past that they are written back and
the cache is begun anew."""
SPELLING_BYTES_MAX = 1024
"""Longer paths are walked every time: a hostile archive spells one directory in endless ways."""
SYMLINKS_MAX = 40
BATCH_OPS_MAX = 20_000
_FILTER_BITS = 26
_FILTER_MASK = (1 << _FILTER_BITS) - 1
_GOLDEN = 0x9E3779B97F4A7C15


@attrs.define(kw_only=True)
class Directory:
    """A directory that members are being put into."""

    name: bytes
    parent: int
    slot: int
    attributes: Attributes
    listed: bool
    """Its attributes come from a member of its own, not from a name below it."""
    xattrs: bool = False
    unsaved: bool = False

    @property
    def inode(self) -> int:
        """Its inode number."""
        return self.attributes.inode


class TreeBuilder:
    """Builds the records of one tarball, batch by batch.  Used by one thread.

    :param epoch: which version of the tarball it is.
    :param guards: of every batch.
    :param default: owner, mode and times of directories that the tarball implies but does not list.
    :param on_flush: called after every batch that was committed.
    """

    def __init__(
        self,
        sealed: KVStore,
        tarball: int,
        *,
        epoch: int,
        guards: Mapping[bytes, bytes | None],
        names: NameHash,
        default: Attributes,
        on_flush: Callable[[], None],
    ) -> None:
        self.batch = Batch()
        self._guards = guards
        self._sealed = sealed
        self._first = inode_of(tarball, 0, epoch)
        self._generation = generation_of(epoch)
        self._home = names.slot
        self._default = default
        self._on_flush = on_flush
        self._view: ReadView | None = None
        self._number = ROOT_NUMBER
        capability = sealed.capability
        # A member takes up to four operations besides its extents, which flush for themselves.
        self._ops_max = min(BATCH_OPS_MAX, (capability.batch_ops_max or 1 << 30) - 8)
        self._bytes_max = min(
            capability.commit_bytes_best, (capability.batch_bytes_max or 1 << 40) // 2
        )
        self._durability = min(capability.durability, Durability.PROCESS)
        self.bytes = 0
        # One bit for every (directory, slot) taken, by hash, of fixed size: nearly every new name
        # is known to be new without asking the engine, whatever a question costs there.
        self._taken = bytearray(1 << _FILTER_BITS - 3)
        root = attrs.evolve(default, inode=self._first + ROOT_NUMBER, nlink=2)
        self._root = Directory(name=b"", parent=0, slot=0, attributes=root, listed=False)
        self._directories: dict[tuple[int, bytes], Directory] = {}
        self._by_name: dict[bytes, Directory] = {}

    # -- batches ---------------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Is it time to flush?"""
        batch = self.batch
        return (
            self.bytes >= self._bytes_max or len(batch.puts) + len(batch.deletes) >= self._ops_max
        )

    def flush(self) -> None:
        """Commit what is there.

        :raises Conflict: a guard does not hold.
        """
        if self._view is not None:
            self._view.close()
            self._view = None
        if self.batch.ops:
            self.batch.guards.update(self._guards)
            self._sealed.commit(self.batch, self._durability)
            self.batch.clear()
            self.bytes = 0
            self._on_flush()

    def close(self) -> None:
        """Let go of the engine; what was not flushed is forgotten."""
        if self._view is not None:
            self._view.close()
            self._view = None

    def _get(self, key: bytes) -> Buffer | None:
        """A record as the next commit will leave it."""
        value = self.batch.puts.get(key)
        if value is not None:
            return value
        if key in self.batch.deletes:
            return None
        if self._view is None:
            self._view = self._sealed.snapshot()
        return self._view.get(key)

    def _put(self, key: bytes, value: bytes) -> None:
        self.batch.put(key, value)
        self.bytes += len(key) + len(value)

    # -- names -----------------------------------------------------------------------------------

    def _place(self, parent: int, name: bytes) -> tuple[int, Buffer | None]:
        """Where ``name`` goes, and the record that is there already."""
        slot = self._home(name)
        mark = (slot ^ parent * _GOLDEN) & _FILTER_MASK
        if not self._taken[mark >> 3] & 1 << (mark & 7):
            self._taken[mark >> 3] |= 1 << (mark & 7)
            return slot, None
        slot, record = self._locate(parent, slot, name)
        if record is None:
            mark = (slot ^ parent * _GOLDEN) & _FILTER_MASK
            self._taken[mark >> 3] |= 1 << (mark & 7)
        return slot, record

    def _locate(self, parent: int, home: int, name: bytes) -> tuple[int, Buffer | None]:
        try:
            return locate(self._get, parent, home, name)
        except ChainTooLong as error:
            raise Refused(str(error)) from error

    def parent_of(self, name: bytes) -> Directory:
        """The directory for members whose name starts with ``name``/ (as it stands in the header).

        :raises Refused: the name is not safe, or leads through something that is no directory.
        """
        if len(self._directories) >= DIRECTORIES_CACHED or len(self._by_name) >= DIRECTORIES_CACHED:
            # Only here, between two members, nobody holds a directory that would be left behind.
            self._save_directories()
        found = self._by_name.get(name)
        if found is None:
            parts = [part for part in name.split(b"/") if part not in (b"", b".")]
            found = self._walk(self._root, parts, create=True, links=0)
            if len(name) <= SPELLING_BYTES_MAX:
                self._by_name[name] = found
        return found

    def _walk(self, start: Directory, parts: list[bytes], *, create: bool, links: int) -> Directory:
        current = start
        for depth, part in enumerate(parts):
            known = self._directories.get((current.inode, part))
            if known is None:
                known = self._step(current, part, create=create, links=links)
            if known is None:
                raise Refused(f"there is no directory {b'/'.join(parts[: depth + 1])!r}")
            current = known
        return current

    def _step(
        self, parent: Directory, name: bytes, *, create: bool, links: int
    ) -> Directory | None:
        slot, record = self._place(parent.inode, name)
        if record is None:
            if not create:
                return None
            if self.is_full:
                self.flush()
            return self._new_directory(parent, name, slot, self._default, listed=False)
        dirent = DirentRecord.unpack(record)
        mode = dirent.attributes.mode
        if stat.S_ISDIR(mode):
            raw = self._get(inode_key(dirent.inode))
            assert raw is not None, "a dirent is written with its inode"
            inode = InodeRecord.unpack(raw)
            directory = Directory(
                name=name,
                parent=parent.inode,
                slot=slot,
                attributes=inode.attributes,
                listed=not inode.flags & InodeFlag.IMPLIED,
                xattrs=bool(inode.flags & InodeFlag.XATTRS),
            )
            self._directories[parent.inode, name] = directory
            return directory
        if stat.S_ISLNK(mode):
            return self._follow(parent, name, dirent.inode, links)
        raise Refused(f"{name!r} in its path is not a directory")

    def _follow(self, parent: Directory, name: bytes, inode: int, links: int) -> Directory:
        record = self._get(inode_key(inode))
        assert record is not None, "a dirent is written with its inode"
        target = bytes(record[CONTENT_IN_INODE:])
        steps = [step for step in target.split(b"/") if step not in (b"", b".")]
        if target.startswith(b"/") or b".." in steps or links >= SYMLINKS_MAX:
            raise Refused(
                f"it lies below the symbolic link {name!r} -> {target!r}, which leads out"
            )
        return self._walk(parent, steps, create=False, links=links + 1)

    # -- directories -----------------------------------------------------------------------------

    def _save_directories(self) -> None:
        for directory in self._directories.values():
            if directory.unsaved:
                if self.is_full:
                    self.flush()
                self._write_directory(directory)
        self._directories.clear()
        self._by_name.clear()

    def _write_directory(self, directory: Directory) -> None:
        attributes = directory.attributes
        attr = attributes.pack()
        flags = 0 if directory.listed else InodeFlag.IMPLIED
        if directory.xattrs:
            flags |= InodeFlag.XATTRS
        self._put(
            dirent_key(directory.parent, directory.slot),
            pack_dirent(
                attr,
                attributes.inode,
                attributes.mode,
                directory.slot,
                directory.name,
                valid_s=FOREVER_S,
                generation=self._generation,
            ),
        )
        self._put(
            inode_key(attributes.inode),
            pack_inode(attr, directory.parent, directory.slot, valid_s=FOREVER_S, flags=flags),
        )
        directory.unsaved = False

    def _new_directory(
        self, parent: Directory, name: bytes, slot: int, attributes: Attributes, *, listed: bool
    ) -> Directory:
        directory = Directory(
            name=name,
            parent=parent.inode,
            slot=slot,
            attributes=attrs.evolve(attributes, inode=self.new_inode(), nlink=2),
            listed=listed,
        )
        self._write_directory(directory)
        self._directories[parent.inode, name] = directory
        parent.attributes.nlink += 1
        parent.unsaved = True
        return directory

    def add_directory(
        self, parent: Directory | None, name: bytes, attributes: Attributes
    ) -> Directory:
        """A directory that is listed; ``parent`` is ``None`` for the root of the tarball.

        :raises Refused: something else of that name cannot make way.
        """
        if parent is None:
            directory = self._root
        else:
            slot, record = self._place(parent.inode, name)
            if record is not None and not DirentRecord.unpack(record).attributes.is_directory:
                self._drop(DirentRecord.unpack(record), parent, slot)
                record = None
            if record is None:
                return self._new_directory(parent, name, slot, attributes, listed=True)
            known = self._directories.get((parent.inode, name))
            if known is None:
                known = self._step(parent, name, create=False, links=0)
                assert known is not None
            directory = known
        old = directory.attributes
        directory.attributes = attrs.evolve(attributes, inode=old.inode, nlink=old.nlink)
        directory.listed = directory.unsaved = True
        return directory

    # -- everything else -------------------------------------------------------------------------

    def new_inode(self) -> int:
        """The next inode number, in tar order.

        :raises Refused: all numbers are used up.
        """
        if self._number >= FIRST_MADE_NUMBER - 1:
            most = FIRST_MADE_NUMBER - 1
            raise Refused(f"a tarball holds at most {most:,} members and directories")
        self._number += 1
        return self._first + self._number

    def add(
        self,
        parent: Directory,
        name: bytes,
        attr: bytes,
        inode: int,
        mode: int,
        *,
        content: Buffer = b"",
        flags: int = 0,
    ) -> None:
        """Anything but a directory; what was there under the name is replaced.

        :param attr: a packed ``fuse_attr``.
        :raises Refused: a directory with contents is in the way.
        """
        directory = parent.attributes.inode
        slot, record = self._place(directory, name)
        if record is not None:
            self._drop(DirentRecord.unpack(record), parent, slot)
        puts = self.batch.puts
        dirent = pack_dirent(
            attr, inode, mode, slot, name, valid_s=FOREVER_S, generation=self._generation
        )
        value = pack_inode(attr, directory, slot, valid_s=FOREVER_S, flags=flags, content=content)
        puts[dirent_key(directory, slot)] = dirent
        puts[inode_key(inode)] = value
        self.bytes += len(dirent) + len(value)

    def target_of(self, target: bytes) -> tuple[Directory, int, bytes, DirentRecord]:
        """What a hard link leads to: its directory, slot, name and dirent.

        :raises Refused: there is no such member, or it is a directory.
        """
        head, _, base = target.rstrip(b"/").rpartition(b"/")
        parts = [part for part in head.split(b"/") if part not in (b"", b".")]
        if b".." in (*parts, base):
            raise Refused(f"its hard link target {target!r} contains '..'")
        home = self._walk(self._root, parts, create=False, links=0)
        target_slot, record = self._locate(home.inode, self._home(base), base)
        if record is None:
            raise Refused(f"its hard link target {target!r} is not in the tarball before it")
        dirent = DirentRecord.unpack(record)
        if dirent.attributes.is_directory:
            raise Refused(f"its hard link target {target!r} is a directory")
        return home, target_slot, base, dirent

    def link(self, parent: Directory, name: bytes, target: bytes) -> None:
        """A hard link to a member that came before.

        :raises Refused: see :meth:`target_of`.
        """
        home, target_slot, base, dirent = self.target_of(target)
        slot, present = self._place(parent.inode, name)
        if present is not None:
            if DirentRecord.unpack(present).inode == dirent.inode:
                return
            self._drop(DirentRecord.unpack(present), parent, slot)
        raw = self._get(inode_key(dirent.inode))
        assert raw is not None, "a dirent is written with its inode"
        inode = InodeRecord.unpack(raw)
        inode.attributes.nlink += 1
        attr = inode.attributes.pack()
        self._put_inode(inode, attr, raw)
        if not dirent.flags & DirentFlag.SHARED:
            self._put_shared(attr, inode, home.inode, target_slot, base)
        self._put_shared(attr, inode, parent.inode, slot, name)
        self._put(link_key(dirent.inode, parent.inode, slot), b"")

    def _put_inode(self, inode: InodeRecord, attr: bytes, raw: Buffer) -> None:
        self._put(
            inode_key(inode.attributes.inode),
            pack_inode(
                attr,
                inode.parent,
                inode.slot,
                valid_s=FOREVER_S,
                flags=inode.flags,
                content=raw[CONTENT_IN_INODE:],
            ),
        )

    def _put_shared(
        self, attr: bytes, inode: InodeRecord, parent: int, slot: int, name: bytes
    ) -> None:
        attributes = inode.attributes
        self._put(
            dirent_key(parent, slot),
            pack_dirent(
                attr,
                attributes.inode,
                attributes.mode,
                slot,
                name,
                valid_s=FOREVER_S,
                flags=DirentFlag.SHARED,
                generation=self._generation,
            ),
        )

    # -- what is replaced ------------------------------------------------------------------------

    def _drop(self, dirent: DirentRecord, parent: Directory, slot: int) -> None:
        """Take away what a name stood for; the caller writes the name's new record."""
        self._by_name.clear()
        if dirent.attributes.is_directory:
            self._drop_directory(dirent, parent)
            return
        raw = self._get(inode_key(dirent.inode))
        assert raw is not None, "a dirent is written with its inode"
        inode = InodeRecord.unpack(raw)
        if inode.attributes.nlink > 1:
            self._drop_link(inode, bytes(raw), parent.inode, slot)
            return
        if inode.flags:
            self.abandon(dirent.inode)
        self.batch.delete(inode_key(dirent.inode))

    def abandon(self, inode: int) -> None:
        """Take away the extents and extended attributes of an inode that is not to be."""
        # Ranges go before puts within a batch, so what was put must have been committed.
        self.flush()
        self._delete_range(extent_key(inode, 0)[:-4])
        self._delete_range(xattr_key(inode, b""))

    def _delete_range(self, prefix: bytes) -> None:
        self.batch.delete_range(prefix, prefix_end(prefix) or b"\xff")

    def _drop_link(self, inode: InodeRecord, raw: bytes, parent: int, slot: int) -> None:
        number = inode.attributes.inode
        inode.attributes.nlink -= 1
        if (inode.parent, inode.slot) == (parent, slot):
            self.flush()
            low = LINK_KEY.pack(b"H", number, 0, 0)[:9]
            with self._sealed.snapshot() as view:
                other = next((bytes(key) for key, _ in view.scan(low, prefix_end(low))), None)
            if other is None:
                raise Corrupt(f"inode {number:#x} has no other name, against its link count")
            _, _, new_parent, new_slot = LINK_KEY.unpack(other)
            inode = attrs.evolve(inode, parent=new_parent, slot=new_slot)
            self.batch.delete(other)
        else:
            self.batch.delete(link_key(number, parent, slot))
        self._put_inode(inode, inode.attributes.pack(), raw)

    def _drop_directory(self, dirent: DirentRecord, parent: Directory) -> None:
        self.flush()
        low = dirent_key(dirent.inode, FIRST_SLOT)
        with self._sealed.snapshot() as view:
            if next(view.scan(low, dirent_key(dirent.inode, LAST_SLOT), limit=1), None):
                raise Refused("a directory that is not empty has its name")
        self._directories.pop((parent.inode, dirent.name), None)
        self.batch.delete(inode_key(dirent.inode))
        self._delete_range(xattr_key(dirent.inode, b""))
        parent.attributes.nlink -= 1
        parent.unsaved = True

    def finish(self) -> Directory:
        """Write what is still only in memory; returns the root of the tarball."""
        self._save_directories()
        return self._root
