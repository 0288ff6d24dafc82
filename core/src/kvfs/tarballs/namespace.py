"""The directories above the tarballs: the catalogue and its dirents brought in line with the store.

The listing comes sorted, so one pass with a stack of directories is enough, and memory does not
grow with the number of objects.
"""

from __future__ import annotations

import logging
import re
import stat
from contextlib import AbstractContextManager, suppress
from itertools import islice
from typing import Protocol

import attrs

from kvfs.backing import BackingStore, ObjectInfo
from kvfs.errors import Conflict
from kvfs.files import Attributes, NameHash, locate
from kvfs.files.names import remains_of
from kvfs.files.records import (
    ID_MAX,
    LAST_SLOT,
    NAME_BYTES_MAX,
    NAMESPACE_VALID_S,
    NUMBER_MAX,
    ROOT_INODE,
    VOLUME_ID,
    DirentFlag,
    DirentRecord,
    InodeRecord,
    catalogue_key,
    dirent_key,
    generation_of,
    inode_key,
    inode_of,
    pack_dirent,
    pack_inode,
    tarball_of,
    volume_key,
)
from kvfs.kv import Batch, Buffer, KVStore, Readable, ReadView
from kvfs.tarballs.catalogue import CHANGED_UNDER, HALF_DONE, Catalogue, State, Tarball
from kvfs.tarballs.observers import Entry, Observers

log = logging.getLogger(__name__)

_SUFFIX = re.compile(r"\.(tar(\.(gz|zst|zstd|xz|bz2))?|tgz|tzst|txz|tbz2?)$", re.IGNORECASE)
_NEXT = volume_key("next")
_GENERATION = volume_key("namespace")
"""Counts the changes made here: of two processes that refresh at once, one has to look again."""
_STEP = 10_000
"""Objects taken over in one batch; each batch is a wait for the disk."""
_OPS_AHEAD = 24
"""The most operations that one object, or one directory above it, adds to a batch; two of them for
each directory whose entries change, when that is dated."""
_BYTES_AHEAD = 128 << 10
"""More than one object adds: names are bounded, and the catalogue's record is a few times that."""
_DATING_OPS = 2
_DATING_BYTES = 1 << 10


def display_name(object_name: str) -> str | None:
    """The path at which a tarball appears; ``None`` for an object that is no tarball.

    None is either what makes no path: some stores take any string for a name.
    """
    suffix = _SUFFIX.search(object_name)
    if suffix is None or "\0" in object_name:
        return None
    name = object_name[: suffix.start()]
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return None
    return name


class Stored(Protocol):
    """Who is responsible for what is stored of tarballs; :class:`kvfs.tarballs.life.Life` is."""

    def recover(self, tarball: int, record: Tarball) -> Tarball:
        """Roll back what a killed process left half done; returns the record then."""
        ...

    def replace(self, tarball: int, record: Tarball, found: ObjectInfo) -> bool:
        """Put another version of the object in the place of one that is stored.

        :returns: ``False``: it must stay for now.
        """
        ...

    def withdrawn(self, tarball: int, record: Tarball) -> AbstractContextManager[Tarball | None]:
        """Within, nothing of the tarball is stored; gives its record, or ``None``: it must stay."""
        ...


@attrs.define
class RefreshReport:
    """What a listing of the backing store changed."""

    tarballs: int = 0
    added: int = 0
    replaced: int = 0
    removed: int = 0
    ignored: int = 0
    """Objects that are no tarballs."""
    deferred: int = 0
    """Changed or removed tarballs left for the next time, because they are being fetched, or left
    as they are, because they were written to here."""


class Namespace:
    """Keeps the tree above the tarballs.  Used by one thread at a time."""

    def __init__(
        self,
        state: KVStore,
        catalogue: Catalogue,
        *,
        names: NameHash,
        owner: tuple[int, int],
        now_ns: int,
        observers: Observers,
    ) -> None:
        self._state = state
        self._catalogue = catalogue
        self._names = names
        self._owner = owner
        self._now_ns = now_ns
        self._observers = observers
        self._batch = Batch()
        self._bytes = 0
        capability = state.capability
        self._ops_max = min(4 * _STEP, capability.batch_ops_max or 4 * _STEP) - _OPS_AHEAD
        self._bytes_max = (capability.batch_bytes_max or 1 << 40) - _BYTES_AHEAD
        self._view: Readable = state.driver
        self._stack: list[tuple[str, int]] = [("", ROOT_INODE)]
        self._changed: set[int] = set()
        self._entries: list[Entry] = []
        # Read before all else, so that what is read later is no older.
        self._generation = state.get(_GENERATION)
        self._next = int(state.get(_NEXT) or ROOT_INODE + 1)

    def create_root(self, *, nlink: int) -> None:
        """Write the root directory of a new volume, unless another process was first.

        :param nlink: its link count: 2 where subdirectories are counted, 1 where they are not.
        """
        attr = attrs.evolve(self._attributes(ROOT_INODE, self._now_ns), nlink=nlink).pack()
        record = pack_inode(attr, ROOT_INODE, 0, valid_s=NAMESPACE_VALID_S)
        with suppress(Conflict):
            self._state.create(inode_key(ROOT_INODE), record)

    def refresh(self, backing: BackingStore, stored: Stored) -> RefreshReport:
        """List the store and take over what is new, changed and gone.

        :raises Conflict: somebody else changed the namespace or a tarball meanwhile: begin again.
        """
        report = RefreshReport()
        # One bit for every possible id: two megabytes, however many tarballs there are.
        seen = bytearray((ID_MAX >> 3) + 1)
        objects = (info for info in backing.list() if not info.name.startswith(".kvfs/"))
        while chunk := list(islice(objects, _STEP)):
            with self._state.snapshot() as self._view:
                self._take(chunk, report, seen, stored)
            self._flush()
        for tarball, record in self._catalogue.without(seen):
            with stored.withdrawn(tarball, record) as withdrawn:
                if withdrawn is None:
                    if record.dirty:
                        log.warning("%s: %s", record.object, CHANGED_UNDER)
                    report.deferred += 1
                    continue
                self._remove(tarball, withdrawn)
                report.removed += 1
                if withdrawn.state is not State.ABSENT or self._is_full():
                    self._flush()
        self._flush()
        if report.removed:
            self._prune()
        return report

    def _take(
        self,
        chunk: list[ObjectInfo],
        report: RefreshReport,
        seen: bytearray,
        stored: Stored,
    ) -> None:
        for info in chunk:
            self._make_room()
            shown = display_name(info.name)
            if shown is None:
                report.ignored += 1
                continue
            tarball, record = self._catalogue.locate(info.name, self._get)
            seen[tarball >> 3] |= 1 << (tarball & 7)
            report.tarballs += 1
            if record is None:
                report.added += self._add(tarball, info, shown)
                continue
            if record.state in HALF_DONE:
                record = stored.recover(tarball, record)
            if record.version == info.version:
                continue
            if record.dirty:
                log.warning("%s: %s", record.object, CHANGED_UNDER)
                report.deferred += 1
                continue
            if record.state is State.ABSENT:
                self._replace(tarball, record, info)
            elif stored.replace(tarball, record, info):
                self._changed.add(record.parent)
            else:
                report.deferred += 1
                continue
            report.replaced += 1

    def _add(self, tarball: int, info: ObjectInfo, shown: str) -> bool:
        # No character takes more than four bytes, so most names need no closer look.
        if len(shown) > NAME_BYTES_MAX // 4 and any(
            len(_encoded(part)) > NAME_BYTES_MAX for part in shown.split("/")
        ):
            log.warning("%s is not shown: a name in it is longer than 255 bytes", info.name)
            return False
        try:
            parent = self._directory(shown.rpartition("/")[0])
            slot, name = self._free_name(parent, tarball, (shown, info.name))
        except _NoPlace as error:
            log.warning("%s is not shown: %s", info.name, error)
            return False
        removed = self._get(catalogue_key(tarball))
        record = Tarball(
            object=info.name,
            size=info.size,
            mtime_ns=info.mtime_ns,
            version=info.version,
            parent=parent,
            slot=slot,
            epoch=0 if removed is None else Tarball.unpack(bytes(removed)).epoch + 1,
        )
        self._put(catalogue_key(tarball), record.pack())
        self._put_root(tarball, record, name)
        return True

    def _free_name(
        self, parent: int, tarball: int, candidates: tuple[str, ...]
    ) -> tuple[int, bytes]:
        """Slot and name for a tarball in a directory: the first that no other has.

        ``a`` for ``a.tar``; if that is taken, by ``a.tar.gz`` or the directory ``a``, ``a.tar``.
        """
        for candidate in candidates:
            if (place := self._place(parent, candidate)) is not None:
                return place
        if (place := self._place(parent, f"{candidates[-1]}~{tarball:06x}")) is not None:
            return place
        raise _NoPlace("all names that it could have are taken, or too long")

    def _place(self, parent: int, path: str) -> tuple[int, bytes] | None:
        """Slot and name for the last part of ``path``, if it can be had."""
        name = _encoded(path.rpartition("/")[2])
        slot, present = locate(self._get, parent, self._names.slot(name), name)
        return (slot, name) if present is None and len(name) <= NAME_BYTES_MAX else None

    def _replace(self, tarball: int, record: Tarball, info: ObjectInfo) -> None:
        """Another version of a tarball of which nothing is stored."""
        current = self._get(dirent_key(record.parent, record.slot))
        assert current is not None, "a record of the catalogue has a dirent"
        fresh = attrs.evolve(record.at(info), error="")
        self._catalogue.guard(self._batch, tarball, record)
        self._put(catalogue_key(tarball), fresh.pack())
        self._batch.delete(inode_key(record.root(tarball)))
        self._put_root(tarball, fresh, DirentRecord.unpack(current).name)

    def _remove(self, tarball: int, record: Tarball) -> None:
        batch = self._batch
        self._catalogue.guard(batch, tarball, record)
        batch.delete(inode_key(record.root(tarball)))
        self._put(catalogue_key(tarball), record.gone().pack())
        name = DirentRecord.unpack(self._dirent(record.parent, record.slot)).name
        self._remove_dirent(record.parent, record.slot, name)

    def _dirent(self, parent: int, slot: int) -> bytes:
        raw = self._state.get(dirent_key(parent, slot))
        assert raw is not None, "an inode, and a record of the catalogue, has a dirent"
        return raw

    def _remove_dirent(self, parent: int, slot: int, name: bytes) -> None:
        self._changed.add(parent)
        self._entries.append((parent, name))
        key = dirent_key(parent, slot)
        remains = remains_of(self._state.get, parent, slot)
        if remains is None:
            self._batch.delete(key)
        else:
            self._batch.put(key, remains)

    def _prune(self) -> None:
        """Remove directories above the tarballs in which nothing is left, from the leaves up."""
        low, high = inode_key(ROOT_INODE + 1), inode_key(inode_of(VOLUME_ID + 1, 0))
        found = True
        while found:
            found = False
            for _, raw in self._state.scan(low, high):
                record = InodeRecord.unpack(raw)
                inode = record.attributes.inode
                if not self._is_empty(inode):
                    continue
                found = True
                self._batch.delete(inode_key(inode))
                self._batch.delete_range(dirent_key(inode, 0), dirent_key(inode, LAST_SLOT))
                name = DirentRecord.unpack(self._dirent(record.parent, record.slot)).name
                self._remove_dirent(record.parent, record.slot, name)
                if self._is_full():
                    self._flush()
            self._flush()

    def _is_empty(self, directory: int) -> bool:
        entries = self._state.scan(dirent_key(directory, 0), dirent_key(directory, LAST_SLOT))
        return all(raw[-1] & DirentFlag.REMOVED for _, raw in entries)

    # -- directories above the tarballs ------------------------------------------------------------

    def _directory(self, path: str) -> int:
        """The inode of a directory above the tarballs, made if need be."""
        while self._stack[-1][0] and not (path + "/").startswith(self._stack[-1][0] + "/"):
            self._stack.pop()
        known, inode = self._stack[-1]
        rest = path[len(known) :].strip("/")
        for part in rest.split("/") if rest else ():
            self._make_room()
            name = _encoded(part)
            slot, record = locate(self._get, inode, self._names.slot(name), name)
            known = f"{known}/{part}" if known else part
            found = VOLUME_ID if record is None else DirentRecord.unpack(record).inode
            if tarball_of(found) != VOLUME_ID:
                assert record is not None
                self._move_aside(tarball_of(found), inode, DirentRecord.unpack(record).name)
                record = None
            inode = self._new_directory(inode, slot, name) if record is None else found
            self._stack.append((known, inode))
        return inode

    def _move_aside(self, tarball: int, parent: int, shown: bytes) -> None:
        """Let a tarball have its longer name, because a directory needs the shorter one."""
        key = catalogue_key(tarball)
        raw = self._get(key)
        assert raw is not None, "the root of a tarball belongs to a record of the catalogue"
        record = Tarball.unpack(bytes(raw))
        raw_inode = self._get(inode_key(record.root(tarball)))
        assert raw_inode is not None, "a dirent is written with its inode"
        if record.state in HALF_DONE or record.dirty:
            raise _NoPlace(
                f"{record.object}, which is being fetched or written to, has the name of its "
                "directory"
            )
        slot, name = self._free_name(parent, tarball, (record.object,))
        if key not in self._batch.puts:
            self._batch.guard(key, bytes(raw))
        self._put(key, attrs.evolve(record, slot=slot).pack())
        root = InodeRecord.unpack(raw_inode)
        generation = generation_of(record.epoch)
        self._put_entry(root.attributes, root.flags, parent, slot, name, generation=generation)
        self._changed.add(parent)
        self._entries += [(parent, shown), (parent, name)]

    def _new_directory(self, parent: int, slot: int, name: bytes) -> int:
        inode = self._next
        if inode > NUMBER_MAX:
            raise _NoPlace("the volume has no number for one more directory")
        self._next += 1
        self._batch.put(_NEXT, str(self._next).encode())
        self._put_directory(inode, parent, slot, name, self._now_ns)
        return inode

    def _put_root(self, tarball: int, record: Tarball, name: bytes) -> None:
        """The root of a tarball of which nothing is stored yet."""
        self._put_directory(
            record.root(tarball),
            record.parent,
            record.slot,
            name,
            record.mtime_ns,
            generation=generation_of(record.epoch),
        )

    def _put_directory(
        self, inode: int, parent: int, slot: int, name: bytes, mtime: int, *, generation: int = 0
    ) -> None:
        attributes = self._attributes(inode, mtime)
        self._put_entry(attributes, 0, parent, slot, name, generation=generation)
        self._changed.add(parent)
        self._entries.append((parent, name))

    def _put_entry(
        self,
        attributes: Attributes,
        flags: int,
        parent: int,
        slot: int,
        name: bytes,
        *,
        generation: int = 0,
    ) -> None:
        attr, valid_s = attributes.pack(), NAMESPACE_VALID_S
        inode, mode = attributes.inode, attributes.mode
        dirent = pack_dirent(attr, inode, mode, slot, name, valid_s=valid_s, generation=generation)
        self._put(dirent_key(parent, slot), dirent)
        self._put_inode(attr, inode, flags, parent, slot)

    def _put_inode(self, attr: bytes, inode: int, flags: int, parent: int, slot: int) -> None:
        record = pack_inode(attr, parent, slot, valid_s=NAMESPACE_VALID_S, flags=flags)
        self._put(inode_key(inode), record)

    def _attributes(self, inode: int, mtime_ns: int) -> Attributes:
        uid, gid = self._owner
        # A link count of one means "not counted" to programs that walk trees, as on btrfs.
        return Attributes(
            inode=inode,
            mode=stat.S_IFDIR | 0o755,
            size=4096,
            nlink=1,
            uid=uid,
            gid=gid,
            mtime_ns=mtime_ns,
            atime_ns=mtime_ns,
            ctime_ns=mtime_ns,
        )

    def _get(self, key: bytes) -> Buffer | None:
        """A record as the next commit will leave it."""
        return self._batch.puts.get(key) or self._view.get(key)

    def _put(self, key: bytes, value: bytes) -> None:
        self._batch.put(key, value)
        self._bytes += len(key) + len(value)

    def _is_full(self) -> bool:
        """Might the next object make the batch more than the engine takes?"""
        dated = len(self._changed)
        return (
            self._batch.ops + _DATING_OPS * dated > self._ops_max
            or self._bytes + _DATING_BYTES * dated > self._bytes_max
        )

    def _make_room(self) -> None:
        """Commit what is there if it is much: what is read from then on is as it is by then."""
        if self._is_full():
            self._flush()
            if isinstance(self._view, ReadView):
                self._view.refresh()

    def _touch_changed(self) -> list[int]:
        """Date the directories whose entries changed: by that the kernel knows an old listing."""
        changed = [*self._changed]
        for inode in self._changed:
            if inode_key(inode) in self._batch.deletes:
                continue
            raw = self._batch.puts.get(inode_key(inode)) or self._state.get(inode_key(inode))
            assert raw is not None, "entries are put into directories that exist"
            record = InodeRecord.unpack(raw)
            attributes = attrs.evolve(
                record.attributes, mtime_ns=self._now_ns, ctime_ns=self._now_ns
            )
            if inode == ROOT_INODE:
                self._put_inode(attributes.pack(), inode, record.flags, ROOT_INODE, 0)
                continue
            key = dirent_key(record.parent, record.slot)
            dirent = self._batch.puts.get(key) or self._state.get(key)
            assert dirent is not None, "an inode is written with its dirent"
            name = DirentRecord.unpack(dirent).name
            self._put_entry(attributes, record.flags, record.parent, record.slot, name)
        self._changed.clear()
        return changed

    def _flush(self) -> None:
        if self._batch.ops or self._changed:
            directories = self._touch_changed()
            following = str(int(self._generation or 0) + 1).encode()
            self._batch.guard(_GENERATION, self._generation).put(_GENERATION, following)
            self._state.commit(self._batch)
            self._batch.clear()
            self._bytes = 0
            self._generation = following
            entries, self._entries = self._entries, []
            self._observers.tell(entries, directories)


def _encoded(part: str) -> bytes:
    return part.encode("utf-8", "surrogateescape")


class _NoPlace(Exception):
    """A tarball cannot be shown; the message says why."""
