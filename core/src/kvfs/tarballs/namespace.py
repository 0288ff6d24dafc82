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
    NAME_BYTES_MAX,
    NAMESPACE_VALID_S,
    REMOVED_DIRENT,
    ROOT_INODE,
    ROOT_NUMBER,
    VOLUME_ID,
    DirentRecord,
    catalogue_key,
    dirent_key,
    inode_key,
    inode_of,
    pack_dirent,
    pack_inode,
    tarball_of,
    volume_key,
)
from kvfs.kv import Batch, Buffer, KVStore
from kvfs.tarballs.catalogue import Catalogue, State, Tarball

log = logging.getLogger(__name__)

_SUFFIX = re.compile(r"\.(tar(\.(gz|zst|zstd|xz|bz2))?|tgz|tzst|txz|tbz2?)$", re.IGNORECASE)
_NEXT = volume_key("next")
_STEP = 1000


def display_name(object_name: str) -> str | None:
    """What a tarball is called as a directory; ``None`` for an object that is no tarball."""
    name = _SUFFIX.sub("", object_name)
    return None if name == object_name or not name.rpartition("/")[2] else name


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
    """Changed or removed tarballs left as they are, because another process serves them."""


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
        self._stack: list[tuple[str, int]] = [("", ROOT_INODE)]
        self._next = int(state.get(_NEXT) or ROOT_INODE + 1)

    def create_root(self) -> None:
        """Write the root directory of a new volume."""
        self._state.put(inode_key(ROOT_INODE), self._inode(ROOT_INODE, ROOT_INODE, 0, None))

    def refresh(
        self, backing: BackingStore, *, drop: Callable[[int, Tarball], bool] | None
    ) -> RefreshReport:
        """List the store and take over what is new, changed and gone.

        :param drop: removes a tarball's records and says whether it could; ``None``: only what is
            new is taken over.
        """
        report = RefreshReport()
        # One bit for every possible id: two megabytes, however many tarballs there are.
        seen = bytearray((ID_MAX >> 3) + 1)
        objects = (info for info in backing.list() if not info.name.startswith(".kvfs"))
        while chunk := list(islice(objects, _STEP)):
            self._take(chunk, report, seen, drop)
            self._flush()
        if drop is not None:
            for tarball, record in self._catalogue:
                if not seen[tarball >> 3] & 1 << (tarball & 7):
                    self._remove(tarball, record, report, drop)
        return report

    def _take(
        self,
        chunk: list[ObjectInfo],
        report: RefreshReport,
        seen: bytearray,
        drop: Callable[[int, Tarball], bool] | None,
    ) -> None:
        taken: dict[int, str] = {}
        for info in chunk:
            shown = display_name(info.name)
            if shown is None:
                report.ignored += 1
                continue
            tarball, record = self._catalogue.locate(info.name, taken)
            seen[tarball >> 3] |= 1 << (tarball & 7)
            report.tarballs += 1
            if record is None:
                if self._add(tarball, info, shown):
                    taken[tarball] = info.name
                    report.added += 1
            elif record.version != info.version:
                self._replace(tarball, record, info, report, drop)

    def _add(self, tarball: int, info: ObjectInfo, shown: str) -> bool:
        try:
            parent = self._directory(shown.rpartition("/")[0])
            for candidate in (shown, info.name, f"{info.name}~{tarball:06x}"):
                name = candidate.rpartition("/")[2].encode("utf-8", "surrogateescape")
                slot, present = locate(self._get, parent, self._names.slot(name), name)
                if present is None:
                    break
        except _NotADirectory as error:
            log.warning("%s is not shown: %s is a tarball, not a directory", info.name, error)
            return False
        if len(name) > NAME_BYTES_MAX:
            log.warning("%s is not shown: its name is longer than 255 bytes", info.name)
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

    def _replace(
        self,
        tarball: int,
        record: Tarball,
        info: ObjectInfo,
        report: RefreshReport,
        drop: Callable[[int, Tarball], bool] | None,
    ) -> None:
        if drop is None or not drop(tarball, record):
            report.deferred += 1
            return
        fresh = Tarball(
            object=info.name,
            size=info.size,
            mtime_ns=info.mtime_ns,
            version=info.version,
            parent=record.parent,
            slot=record.slot,
        )
        current = self._state.get(dirent_key(record.parent, record.slot))
        assert current is not None, "a record of the catalogue has a dirent"
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
        drop: Callable[[int, Tarball], bool],
    ) -> None:
        if not drop(tarball, record):
            report.deferred += 1
            return
        batch = Batch()
        batch.delete(inode_key(inode_of(tarball, ROOT_NUMBER)))
        # Chains of colliding ids and names end at the first gap, so none may be torn into them.
        if self._catalogue.get(tarball % ID_MAX + 1) is None:
            batch.delete(catalogue_key(tarball))
        else:
            gone = attrs.evolve(record, object="", state=State.REMOVED)
            batch.put(catalogue_key(tarball), gone.pack())
        if self._state.get(dirent_key(record.parent, record.slot + 1)) is None:
            batch.delete(dirent_key(record.parent, record.slot))
        else:
            batch.put(dirent_key(record.parent, record.slot), REMOVED_DIRENT)
        self._state.commit(batch)
        report.removed += 1

    # -- directories above the tarballs ------------------------------------------------------------

    def _directory(self, path: str) -> int:
        """The inode of a directory above the tarballs, made if need be."""
        while self._stack[-1][0] and not (path + "/").startswith(self._stack[-1][0] + "/"):
            self._stack.pop()
        known, inode = self._stack[-1]
        rest = path[len(known) :].strip("/")
        for part in rest.split("/") if rest else ():
            name = part.encode("utf-8", "surrogateescape")
            slot, record = locate(self._get, inode, self._names.slot(name), name)
            known = f"{known}/{part}" if known else part
            if record is None:
                inode = self._new_directory(inode, slot, name)
            else:
                inode = DirentRecord.unpack(record).inode
                if tarball_of(inode) != VOLUME_ID:
                    raise _NotADirectory(known)
            self._stack.append((known, inode))
        return inode

    def _new_directory(self, parent: int, slot: int, name: bytes) -> int:
        inode = self._next
        self._next += 1
        self._batch.put(_NEXT, str(self._next).encode())
        self._put_directory(inode, parent, slot, name, self._now_ns)
        return inode

    def _put_directory(self, inode: int, parent: int, slot: int, name: bytes, mtime: int) -> None:
        attr = self._attributes(inode, mtime)
        dirent = pack_dirent(attr.pack(), inode, attr.mode, slot, name, valid_s=NAMESPACE_VALID_S)
        self._batch.put(dirent_key(parent, slot), dirent)
        self._batch.put(inode_key(inode), self._inode(inode, parent, slot, attr))

    def _inode(self, inode: int, parent: int, slot: int, attr: Attributes | None) -> bytes:
        attr = attr or self._attributes(inode, self._now_ns)
        return pack_inode(attr.pack(), parent, slot, valid_s=NAMESPACE_VALID_S)

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
        return self._batch.puts.get(key) or self._state.get(key)

    def _flush(self) -> None:
        if self._batch.ops:
            self._state.commit(self._batch)
            self._batch.clear()


class _NotADirectory(Exception):
    pass
