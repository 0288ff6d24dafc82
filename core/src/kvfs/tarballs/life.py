"""What is stored of tarballs, and the steps of their lives in which it is taken away.

Concurrency: any thread may call anything; of several who try a step, in this process or others,
one succeeds.
"""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from kvfs.backing import ObjectInfo
from kvfs.capability import Durability
from kvfs.errors import Conflict
from kvfs.files import Attributes
from kvfs.files.records import (
    NAMESPACE_VALID_S,
    DirentFlag,
    DirentRecord,
    dirent_key,
    generation_of,
    inode_key,
    pack_dirent,
    pack_inode,
    tarball_ranges,
)
from kvfs.kv import Batch, KVStore
from kvfs.tarballs import fence, holders
from kvfs.tarballs.catalogue import HALF_DONE, Catalogue, State, Tarball
from kvfs.tarballs.observers import Observers

log = logging.getLogger(__name__)

_CLEARED = b"DIAEHOP"
"""Dirents go before inodes, and those before what hangs on them: as long as one that is found
leads on to another, that one is there too."""


@attrs.define
class Life:
    """Takes tarballs away, and has their names lead to other versions."""

    catalogue: Catalogue
    observers: Observers
    _state: KVStore
    _sealed: KVStore
    _owner: tuple[int, int]
    """Of directories that no tarball describes."""
    is_alive: Callable[[str], bool]
    """Is who is named as the holder of a tarball still at work?"""

    def taken(self, tarball: int, record: Tarball, state: State, holder: str) -> Tarball:
        """The record with somebody at work on the tarball, under a term later than any before."""
        term = max(record.term, fence.standing(self._sealed, tarball)) + 1
        return attrs.evolve(record, state=state, holder=holder, term=term)

    # -- the root of a tarball ---------------------------------------------------------------------

    def begin_epoch(self, tarball: int, old: Tarball, new: Tarball) -> None:
        """Replace a record, and have the tarball's name lead to the inodes of the new epoch.

        :raises Conflict: the record is not ``old`` any more; nothing was changed.
        """
        batch = Batch().delete(inode_key(old.root(tarball)))
        root = attrs.evolve(self.implied_directory(new), inode=new.root(tarball))
        name = self.put_root(batch, new, root)
        self.catalogue.change(tarball, old, new, batch)
        self.observers.tell([(new.parent, name)], [new.parent])

    def put_root(self, batch: Batch, record: Tarball, root: Attributes, flags: int = 0) -> bytes:
        """Add a tarball's root, dirent and inode, to ``batch``; returns its name."""
        raw = self._state.get(dirent_key(record.parent, record.slot))
        if raw is None:
            raise Conflict(f"{record.object} was removed meanwhile")
        name = DirentRecord.unpack(raw).name
        attr, parent, slot = root.pack(), record.parent, record.slot
        dirent = pack_dirent(
            attr,
            root.inode,
            root.mode,
            slot,
            name,
            valid_s=NAMESPACE_VALID_S,
            generation=generation_of(record.epoch),
        )
        batch.put(dirent_key(parent, slot), dirent)
        inode = pack_inode(attr, parent, slot, valid_s=NAMESPACE_VALID_S, flags=flags)
        batch.put(inode_key(root.inode), inode)
        return name

    def share_root(self, batch: Batch, record: Tarball) -> None:
        """Have the name of a tarball lead to its root for the attributes, which may change now."""
        key = dirent_key(record.parent, record.slot)
        raw = self._state.get(key)
        if raw is None:
            raise Conflict(f"{record.object} was removed meanwhile")
        batch.put(key, raw[:-1] + bytes((raw[-1] | DirentFlag.SHARED,)))

    def implied_directory(self, record: Tarball) -> Attributes:
        """The attributes of directories that a tarball has and does not describe."""
        uid, gid = self._owner
        return Attributes(
            inode=0,
            mode=stat.S_IFDIR | 0o755,
            size=4096,
            blocks=8,
            uid=uid,
            gid=gid,
            mtime_ns=record.mtime_ns,
            atime_ns=record.mtime_ns,
            ctime_ns=record.mtime_ns,
        )

    # -- taking away -------------------------------------------------------------------------------

    def roll_back(self, tarball: int, record: Tarball, *, why: str = "") -> Tarball:
        """Remove all of a tarball from the sealed store; returns its record, absent again.

        :param why: kept in the record, for whoever asks why it is not there.
        :raises Conflict: somebody else changed its state first.
        """
        with holders.undertaking() as holder:
            # Of several who find a dead one's work, one takes it over: the others would otherwise
            # remove what is ingested next.
            evicting = self.taken(tarball, record, State.EVICTING, holder)
            self.catalogue.change(tarball, record, evicting)
            self.clear(tarball, evicting.term)
            absent = attrs.evolve(evicting.forgotten(), error=why)
            self.catalogue.change(tarball, evicting, absent)
        return absent

    def evict(self, tarball: int) -> bool:
        """Give up what is stored of a sealed tarball; whoever asks next has it fetched again.

        What kernels and programs hold of it stays true: it is the same version, under the same
        inode numbers.

        :returns: ``False``: it is not sealed, or was written to, and nothing was done.
        """
        record = self.catalogue.get(tarball)
        if record is None or record.state is not State.SEALED or record.dirty:
            return False
        try:
            self.roll_back(tarball, record)
        except Conflict:
            return False
        return True

    def replace(self, tarball: int, record: Tarball, found: ObjectInfo) -> bool:
        """Have the name of a tarball lead to another version of its object, at once.

        Of the old version nothing is found by name from then on; who has it open still reads what
        is there, or is told that it is stale.

        :returns: ``False``: somebody is at work on it, or it was written to; nothing was done.
        """
        if record.dirty or (record.state in HALF_DONE and self.is_alive(record.holder)):
            return False
        with holders.undertaking() as holder:
            evicting = self.taken(tarball, record.at(found), State.EVICTING, holder)
            try:
                self.begin_epoch(tarball, record, evicting)
                self.clear(tarball, evicting.term)
                self.catalogue.change(tarball, evicting, evicting.forgotten())
            except Conflict:
                return False
        return True

    @contextmanager
    def withdrawn(self, tarball: int, record: Tarball) -> Iterator[Tarball | None]:
        """Within, nothing of a tarball is stored, and nobody begins to fetch it.

        :returns: its record meanwhile, for the caller to replace by that of a removed one;
            ``None``: somebody else is at work on it, or it was written to; nothing was done.
        """
        if record.dirty:
            yield None
            return
        if record.state is State.ABSENT:
            yield record
            return
        with holders.undertaking() as holder:
            withdrawn = None
            if record.state not in HALF_DONE or not self.is_alive(record.holder):
                evicting = self.taken(tarball, record, State.EVICTING, holder)
                try:
                    self.catalogue.change(tarball, record, evicting)
                    self.clear(tarball, evicting.term)
                except Conflict:
                    pass
                else:
                    withdrawn = evicting
            yield withdrawn

    def clear(self, tarball: int, term: int) -> None:
        """Shut out who was at work on a tarball, and remove all its records, of whatever version.

        :param term: that of the caller, who is named in the catalogue.
        :raises Conflict: somebody else took over.
        """
        fence.raise_fence(self._sealed, tarball, term)
        guards = fence.guards(tarball, term)
        durability = min(self._sealed.capability.durability, Durability.PROCESS)
        ranges = {start[:1]: (start, stop) for start, stop in tarball_ranges(tarball)}
        for letter in _CLEARED:
            start, stop = ranges[bytes((letter,))]
            self._sealed.clear_range(start, stop, guards=guards, durability=durability)

    def recover(self, tarball: int, record: Tarball) -> Tarball:
        """Roll back what a dead process left half done; returns the record as it is then."""
        if record.state not in HALF_DONE or self.is_alive(record.holder):
            return record
        log.warning("%s was left %s; it is rolled back", record.object, record.state)
        return self.roll_back(tarball, record)
