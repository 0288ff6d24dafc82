"""The directories above the tarballs: the catalogue and its dirents brought in line with the store.

The listing comes sorted, so one pass with a stack of directories is enough, and memory does not
grow with the number of objects.
"""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Callable
from itertools import islice

import attrs

from kvfs.backing import BackingStore, ObjectInfo
from kvfs.files import Attributes, NameHash, locate
from kvfs.files.records import (
    ID_MAX,
    LAST_SLOT,
    NAME_BYTES_MAX,
    NAMESPACE_VALID_S,
    REMOVED_DIRENT,
    ROOT_INODE,
    ROOT_NUMBER,
    VOLUME_ID,
    DirentFlag,
    DirentRecord,
    InodeRecord,
    catalogue_key,
    dirent_key,
    inode_key,
    inode_of,
    pack_dirent,
    pack_inode,
    tarball_of,
    volume_key,
)
from kvfs.kv import Batch, Buffer, KVStore, Readable
from kvfs.tarballs.catalogue import HALF_DONE, Catalogue, State, Tarball

log = logging.getLogger(__name__)

_SUFFIX = re.compile(r"\.(tar(\.(gz|zst|zstd|xz|bz2))?|tgz|tzst|txz|tbz2?)$", re.IGNORECASE)
_NEXT = volume_key("next")
_GENERATION = volume_key("namespace")
"""Counts the changes made here: of two processes that refresh at once, one has to look again."""
_STEP = 10_000
"""Objects taken over in one batch; each batch is a wait for the disk."""


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


Drop = Callable[[int, Tarball], Tarball | None]
"""Removes what is stored of a tarball; its record then, or ``None`` if it must stay."""


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
    """Changed or removed tarballs left as they are, because somebody is using them."""


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
    ) -> None:
        self._state = state
        self._catalogue = catalogue
        self._names = names
        self._owner = owner
        self._now_ns = now_ns
        self._batch = Batch()
        self._view: Readable = state.driver
        self._stack: list[tuple[str, int]] = [("", ROOT_INODE)]
        self._changed: set[int] = set()
        # Read before all else, so that what is read later is no older.
        self._generation = state.get(_GENERATION)
        self._next = int(state.get(_NEXT) or ROOT_INODE + 1)

    def create_root(self) -> None:
        """Write the root directory of a new volume."""
        attr = self._attributes(ROOT_INODE, self._now_ns).pack()
        record = pack_inode(attr, ROOT_INODE, 0, valid_s=NAMESPACE_VALID_S)
        self._state.put(inode_key(ROOT_INODE), record)

    def refresh(
        self,
        backing: BackingStore,
        *,
        recover: Callable[[int, Tarball], Tarball],
        drop: Drop | None,
    ) -> RefreshReport:
        """List the store and take over what is new, changed and gone.

        :param recover: rolls back what a killed process left half done; returns the record then.
        :param drop: removes what is stored of a tarball, unless it is in use; ``None``: only what
            is new is taken over.
        :raises Conflict: somebody else changed the namespace or a tarball meanwhile: begin again.
        """
        report = RefreshReport()
        # One bit for every possible id: two megabytes, however many tarballs there are.
        seen = bytearray((ID_MAX >> 3) + 1)
        objects = (info for info in backing.list() if not info.name.startswith(".kvfs/"))
        while chunk := list(islice(objects, _STEP)):
            with self._state.snapshot() as self._view:
                self._take(chunk, report, seen, recover, drop)
            self._flush()
        if drop is not None:
            for tarball, record in self._catalogue.without(seen):
                self._remove(tarball, record, report, drop)
                if self._batch.ops >= _STEP:
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
        recover: Callable[[int, Tarball], Tarball],
        drop: Drop | None,
    ) -> None:
        for info in chunk:
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
                record = recover(tarball, record)
            if record.version != info.version:
                self._replace(tarball, record, info, report, drop)

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
        record = Tarball(
            object=info.name,
            size=info.size,
            mtime_ns=info.mtime_ns,
            version=info.version,
            parent=parent,
            slot=slot,
        )
        self._batch.put(catalogue_key(tarball), record.pack())
        self._put_directory(inode_of(tarball, ROOT_NUMBER), parent, slot, name, info.mtime_ns)
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

    def _replace(
        self,
        tarball: int,
        record: Tarball,
        info: ObjectInfo,
        report: RefreshReport,
        drop: Drop | None,
    ) -> None:
        dropped = None if drop is None else drop(tarball, record)
        if dropped is None:
            report.deferred += 1
            return
        fresh = attrs.evolve(dropped, size=info.size, mtime_ns=info.mtime_ns, version=info.version)
        current = self._get(dirent_key(record.parent, record.slot))
        assert current is not None, "a record of the catalogue has a dirent"
        self._catalogue.guard(self._batch, tarball, dropped)
        self._batch.put(catalogue_key(tarball), fresh.pack())
        self._put_directory(
            inode_of(tarball, ROOT_NUMBER),
            record.parent,
            record.slot,
            DirentRecord.unpack(current).name,
            info.mtime_ns,
        )
        report.replaced += 1

    def _remove(
        self,
        tarball: int,
        record: Tarball,
        report: RefreshReport,
        drop: Drop,
    ) -> None:
        dropped = drop(tarball, record)
        if dropped is None:
            report.deferred += 1
            return
        batch = self._batch
        self._catalogue.guard(batch, tarball, dropped)
        batch.delete(inode_key(inode_of(tarball, ROOT_NUMBER)))
        # Chains of colliding ids and names end at the first gap, so none may be torn into them.
        if self._catalogue.get(tarball % ID_MAX + 1) is None:
            batch.delete(catalogue_key(tarball))
        else:
            gone = attrs.evolve(dropped, object="", state=State.REMOVED)
            batch.put(catalogue_key(tarball), gone.pack())
        self._remove_dirent(dropped.parent, dropped.slot)
        report.removed += 1

    def _remove_dirent(self, parent: int, slot: int) -> None:
        self._changed.add(parent)
        if self._state.get(dirent_key(parent, slot + 1)) is None:
            self._batch.delete(dirent_key(parent, slot))
        else:
            self._batch.put(dirent_key(parent, slot), REMOVED_DIRENT)

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
                self._remove_dirent(record.parent, record.slot)
                if self._batch.ops >= _STEP:
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
            name = _encoded(part)
            slot, record = locate(self._get, inode, self._names.slot(name), name)
            known = f"{known}/{part}" if known else part
            found = VOLUME_ID if record is None else DirentRecord.unpack(record).inode
            if tarball_of(found) != VOLUME_ID:
                self._move_aside(tarball_of(found), inode)
                record = None
            inode = self._new_directory(inode, slot, name) if record is None else found
            self._stack.append((known, inode))
        return inode

    def _move_aside(self, tarball: int, parent: int) -> None:
        """Let a tarball have its longer name, because a directory needs the shorter one."""
        key, inode = catalogue_key(tarball), inode_of(tarball, ROOT_NUMBER)
        raw, raw_inode = self._get(key), self._get(inode_key(inode))
        assert raw is not None, "the root of a tarball belongs to a record of the catalogue"
        assert raw_inode is not None, "a dirent is written with its inode"
        record = Tarball.unpack(bytes(raw))
        if record.state in HALF_DONE:
            raise _NoPlace(
                f"{record.object}, which is being fetched, has the name of its directory"
            )
        slot, name = self._free_name(parent, tarball, (record.object,))
        if key not in self._batch.puts:
            self._batch.guard(key, bytes(raw))
        self._batch.put(key, attrs.evolve(record, slot=slot).pack())
        root = InodeRecord.unpack(raw_inode)
        self._put_entry(root.attributes, root.flags, parent, slot, name)
        self._changed.add(parent)

    def _new_directory(self, parent: int, slot: int, name: bytes) -> int:
        inode = self._next
        self._next += 1
        self._batch.put(_NEXT, str(self._next).encode())
        self._put_directory(inode, parent, slot, name, self._now_ns)
        return inode

    def _put_directory(self, inode: int, parent: int, slot: int, name: bytes, mtime: int) -> None:
        self._put_entry(self._attributes(inode, mtime), 0, parent, slot, name)
        self._changed.add(parent)

    def _put_entry(
        self, attributes: Attributes, flags: int, parent: int, slot: int, name: bytes
    ) -> None:
        attr, valid_s = attributes.pack(), NAMESPACE_VALID_S
        inode, mode = attributes.inode, attributes.mode
        dirent = pack_dirent(attr, inode, mode, slot, name, valid_s=valid_s)
        self._batch.put(dirent_key(parent, slot), dirent)
        self._put_inode(attr, inode, flags, parent, slot)

    def _put_inode(self, attr: bytes, inode: int, flags: int, parent: int, slot: int) -> None:
        record = pack_inode(attr, parent, slot, valid_s=NAMESPACE_VALID_S, flags=flags)
        self._batch.put(inode_key(inode), record)

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

    def _touch_changed(self) -> None:
        """Date the directories whose entries changed: by that the kernel knows an old listing."""
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

    def _flush(self) -> None:
        if self._batch.ops:
            self._touch_changed()
            following = str(int(self._generation or 0) + 1).encode()
            self._batch.guard(_GENERATION, self._generation).put(_GENERATION, following)
            self._state.commit(self._batch)
            self._batch.clear()
            self._generation = following


def _encoded(part: str) -> bytes:
    return part.encode("utf-8", "surrogateescape")


class _NoPlace(Exception):
    """A tarball cannot be shown; the message says why."""
