"""The volume: opens the drivers, wires the services, owns their life."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from threading import Event, Lock, Thread
from typing import Any

import attrs

from kvfs.backing import BackingStore
from kvfs.backing.scratch import SCRATCH
from kvfs.capability import Durability
from kvfs.closing import Closing
from kvfs.errors import AlreadyExists, Conflict, KVFSError, Unsupported
from kvfs.files import Contents, Files, Following, NameHash, StatFS, WritableFiles
from kvfs.files.records import (
    HASH_BITS,
    NAME_BYTES_MAX,
    ROOT_INODE,
    inode_key,
)
from kvfs.hooks import plugin_manager
from kvfs.kv import Batch, KVStore
from kvfs.metrics import Metrics
from kvfs.tarballs.catalogue import Catalogue, State
from kvfs.tarballs.export import ExportReport
from kvfs.tarballs.namespace import Namespace, RefreshReport
from kvfs.tarballs.observers import Observer
from kvfs.tarballs.report import IngestReport
from kvfs.tarballs.service import Tarballs
from kvfs.volume import demands, writers
from kvfs.volume import superblock as superblocks
from kvfs.volume.exporting import Exporting
from kvfs.volume.locking import Locking
from kvfs.volume.sessions import Sessions
from kvfs.volume.settings import LockScope, VolumeConfig
from kvfs.volume.sharing import SharedWriting
from kvfs.volume.waiting import WaitingFiles, WaitingWritableFiles
from kvfs.volume.writing import Writing

log = logging.getLogger(__name__)

REFRESH_ATTEMPTS = 10
"""A refresh that another one, or the touch of a tarball, gets in the way of is begun anew."""
WRITER_PATIENCE_S = 5.0
"""Whoever writes may be about to end: so long it is waited for."""


class Volume(Closing):
    """An open volume.

    Concurrency: any thread may call any method; what :meth:`files` returns belongs to one thread.
    """

    def __init__(self, config: VolumeConfig, *, hash_bits: int = HASH_BITS) -> None:
        """Open the volume, and make it if there is none.

        :param hash_bits: of a new volume; see :class:`~kvfs.files.NameHash`.
        :raises KVFSError: a driver does not open, or the volume is of another version.
        """
        self.config = config
        self.name = config.volume.name
        self.metrics = Metrics()
        self.hooks = plugin_manager()
        self._refresh_lock = Lock()
        self._closing = Event()
        self._refresher: Thread | None = None
        self._writing: Writing | SharedWriting | None = None
        self._opened: list[Any] = []
        try:
            self._open(hash_bits)
        except BaseException:
            for opened in reversed(self._opened):
                opened.close()
            raise

    def _open(self, hash_bits: int) -> None:
        config = self.config
        self.backing = self._open_backing()
        self.state = self._open_kv("state", config.volume.durability)
        demands.check_settings(config, self.state)
        leased = self.state.capability.is_network
        self.sessions = Sessions(self.state, lease_s=config.volume.lease if leased else None)
        self.superblock = superblock = self._superblock(hash_bits)
        self.sessions.enter()
        try:
            lower = min(config.volume.durability, Durability.PROCESS)
            self.sealed = self._open_kv(superblock.sealed_store, lower)
        except BaseException:
            self.sessions.withdraw()
            raise
        self._names = NameHash(superblock.hash_seed, superblock.hash_bits)
        owner = (config.volume.uid, config.volume.gid)
        self.tarballs = Tarballs(
            self.state,
            self.sealed,
            self.backing,
            names=self._names,
            inline_bytes=superblock.inline_bytes,
            extent_bytes=superblock.extent_bytes,
            settings=config.ingest,
            owner=owner,
            metrics=self.metrics,
            on_ingest=self._on_ingest,
            is_alive=self.sessions.is_alive,
        )
        if self.state.get(inode_key(ROOT_INODE)) is None:
            self._namespace().create_root(nlink=2 if self.is_scratch else 1)

    @property
    def is_scratch(self) -> bool:
        """Are there no tarballs, and never will be?"""
        return self.config.backing.info.name == SCRATCH

    @property
    def read_only(self) -> bool:
        """Is there nothing in it that may be changed?"""
        return not (self.is_scratch or self.config.volume.writable)

    @property
    def is_shared(self) -> bool:
        """May several processes write to it at once?"""
        return self.config.volume.shared and not self.read_only

    def _superblock(self, hash_bits: int) -> superblocks.Superblock:
        """The superblock as it is now; made, or changed after a power cut, by one process."""
        while True:
            try:
                superblock = superblocks.read(self.state)
                if superblock is None:
                    return superblocks.create(self.state, hash_bits=hash_bits)
                if self.sessions.lost_power():
                    return self._begin_anew(superblock)
                return superblock
            except Conflict:
                continue  # Another process was first: see what it made.

    def _open_kv(self, store: str, durability: Durability) -> KVStore:
        choice = self.config.kv
        best = getattr(choice.info.capability, "durability", durability)
        driver = choice.info.load()(choice.settings, store=store, durability=min(durability, best))
        for layer in choice.layers:
            driver = layer.info.wrap_kv(driver, layer.settings, self.metrics, store)
        opened = KVStore(driver, name=f"{choice.info.name} ({store})")
        self._opened.append(opened)
        demands.check(opened.capability, name=opened.name)
        return opened

    def _open_backing(self) -> BackingStore:
        choice = self.config.backing
        driver = choice.info.load()(choice.settings)
        for layer in choice.layers:
            driver = layer.info.wrap_backing(driver, layer.settings, self.metrics)
        opened = BackingStore(driver, name=choice.info.name)
        self._opened.append(opened)
        return opened

    def _namespace(self) -> Namespace:
        return Namespace(
            self.state,
            self.tarballs.catalogue,
            names=self._names,
            owner=(self.config.volume.uid, self.config.volume.gid),
            now_ns=time.time_ns(),
            observers=self.tarballs.observers,
        )

    def _begin_anew(self, old: superblocks.Superblock) -> superblocks.Superblock:
        """After a power cut: nothing of the sealed store is to be believed."""
        log.warning("the machine lost power while the volume was open: tarballs are fetched anew")
        catalogue = Catalogue(self.state)
        for tarball, record in catalogue:
            if record.state is not State.ABSENT:
                catalogue.change(tarball, record, record.forgotten())
        # Before the superblock: after a kill between the two this begins again, and is complete.
        self.config.kv.info.remove_store(self.config.kv.settings, store=old.sealed_store)
        fresh = attrs.evolve(old, sealed=old.sealed + 1)
        batch = Batch().guard(superblocks.KEY, old.pack()).put(superblocks.KEY, fresh.pack())
        self.sessions.forget_earlier_boots(batch)
        self.state.commit(batch)
        return fresh

    def _on_ingest(self, report: IngestReport) -> None:
        self.metrics.counter("tarballs.members").add(report.members)
        self.metrics.counter("tarballs.content_bytes").add(report.content_bytes)
        self.hooks.hook.kvfs_on_ingest(volume=self, report=report)

    # -- the namespace above the tarballs ----------------------------------------------------------

    def refresh(self) -> RefreshReport:
        """List the backing store and take over what is new, changed or gone.

        What is being fetched at this moment waits for the next time.  What killed processes left
        half done is rolled back.

        :raises KVFSError: the store cannot be listed.
        """
        with self._refresh_lock, self.metrics.histogram("volume.refresh").time():
            for _ in range(REFRESH_ATTEMPTS):
                try:
                    return self._namespace().refresh(self.backing, self.tarballs.life)
                except Conflict as error:
                    conflict = error
            raise conflict

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell ``observer`` of changes that this process makes to what names lead to.

        :returns: ends that.  A call that has begun by then may still be under way.
        """
        return self.tarballs.observers.subscribe(observer)

    def keep_fresh(self) -> None:
        """Look for what changed from now on, in the background, as the configuration says."""
        interval = self.config.volume.refresh
        if interval > 0 and self._refresher is None:
            self._refresher = Thread(
                target=self._refresh_forever, args=(interval,), name="refresh", daemon=True
            )
            self._refresher.start()

    def _refresh_forever(self, interval: float) -> None:
        pause = interval
        while not self._closing.wait(pause):
            start = time.monotonic()
            try:
                self.refresh()
            except KVFSError as error:
                log.warning("the backing store cannot be listed: %s", error)
            # A listing that takes long is made seldom.
            pause = max(interval, 20 * (time.monotonic() - start))

    # -- the files ---------------------------------------------------------------------------------

    def check_writer(self, *, alone: bool = False) -> None:
        """May this volume be written to now, if it can be at all?

        Whoever writes may be about to end: it is waited for, for a while.

        :param alone: by nobody else, even if it is shared.
        :raises AlreadyExists: a process is writing to it.
        """
        # Where this configuration may not write, another may.
        concerned = alone or not self.read_only
        alone = alone or not self.is_shared
        deadline_s = time.monotonic() + WRITER_PATIENCE_S
        while concerned:
            try:
                writers.check(self.state, self.sessions, alone=alone)
                return
            except AlreadyExists:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def begin_writing(
        self, mount: str, *, before_first: Callable[[], object] = lambda: None
    ) -> None:
        """Become the one process that writes to the volume, or, if it is shared, one of those.

        :meth:`files` can do it from then on.

        :param mount: names what this is for: of two processes of the same mount, the second takes
            over what the first, which was killed, had in use.
        :param before_first: called before the first change of each tarball, by the thread that
            makes it: who follows (:meth:`following`) has to be done with what that gave.
        :raises AlreadyExists: another process is writing, and one of the two does not share.
        :raises Unsupported: nothing may be changed, or several threads cannot.
        """
        if self.read_only:
            raise Unsupported(
                f"{self.name}: tarballs are not to be changed: say so with [volume] writable"
            )
        if self.is_shared:
            shared = self._writing = self._join_writing(mount)
            shared.keep_tidy(partial(self._reclaim, shared), interval_s=self.config.volume.lease)
            return
        writing = self._writing = self.claim_writing(mount, before_first=before_first)
        if not writing.is_continued:
            self._reclaim(writing)

    def claim_writing(
        self, mount: str, *, before_first: Callable[[], object] = lambda: None
    ) -> Writing:
        """The right to write alone, as :meth:`begin_writing` takes it, for whoever writes records.

        :raises AlreadyExists: another process is writing.
        :raises Unsupported: the engine cannot be written to by several threads.
        """
        self._check_threads()
        return Writing(
            self.state,
            self.sessions,
            self.tarballs,
            durability=self.config.volume.durability,
            interval_s=self.config.volume.write_behind,
            contents=self._contents(),
            mount=mount,
            before_first=before_first,
        )

    def _join_writing(self, mount: str) -> SharedWriting:
        self._check_threads()
        return SharedWriting(
            self.state,
            self.sessions,
            durability=self.config.volume.durability,
            contents=self._contents(),
            mount=mount,
        )

    def _check_threads(self) -> None:
        if not self.state.capability.thread_safe:
            raise Unsupported(f"{self.state.name} cannot be written to by several threads")

    def _contents(self) -> Contents:
        superblock = self.superblock
        return Contents(inline_bytes=superblock.inline_bytes, extent_bytes=superblock.extent_bytes)

    def _reclaim(self, writing: Writing | SharedWriting, *, leaving: bool = False) -> None:
        """Remove what lost its name while it was in use, and is in use no more."""
        with closing(self._writable(writing, WritableFiles)) as files:
            removed = files.reclaim_all(partial(writing.users, leaving=leaving))
        if removed:
            log.info("%d files that had no name any more were removed", removed)

    def _writable(
        self, writing: Writing | SharedWriting, make: type[WritableFiles]
    ) -> WritableFiles:
        return make(
            writing,
            self.sealed,
            names=self._names,
            extent_bytes=self.superblock.extent_bytes,
            residency=self.tarballs,
            statfs=self.statfs,
            own=self.is_scratch,
        )

    def files(self, *, wait: bool) -> Files:
        """The file system, for one thread.

        :param wait: block until what is asked has been fetched, instead of raising
            :class:`~kvfs.files.NotResident`.
        """
        if self._writing is not None:
            waits = wait and not self.is_scratch
            return self._writable(self._writing, WaitingWritableFiles if waits else WritableFiles)
        make = WaitingFiles if wait else Files
        return make(
            self.state,
            self.sealed,
            names=self._names,
            extent_bytes=self.superblock.extent_bytes,
            residency=self.tarballs,
            statfs=self.statfs,
        )

    def locking(self, mount: str, *, alone: bool = True) -> Locking | None:
        """Locks that hold among all mounts of the volume; ``None``: they are the kernel's.

        :param mount: for whom; a name of :func:`~kvfs.volume.locking.name_mount`.
        :param alone: does no other process ask for locks for this mount?
        """
        if self.config.volume.locks is LockScope.HOST:
            return None
        return Locking(
            self.state,
            self.sessions,
            mount=mount,
            durability=self.config.volume.durability,
            alone=alone,
        )

    def following(self) -> Following | None:
        """What stands behind a file in its directory, for one thread; ``None``: it may change."""
        if self.is_scratch:
            return None
        if self._writing is None:
            return Following(self.sealed, is_written=self.tarballs.is_dirty)
        unfollowed = self._writing.unfollowed
        return Following(self.sealed, unfollowed, unfollowed.__contains__)

    def export(self, path: bytes, write: Callable[[bytes | memoryview], object]) -> ExportReport:
        """Write the tarball shown at ``path`` as a pax archive; fetches it if need be.

        One that was written to is written as it is now: of one instant, if the engine has
        snapshots.  What another process has not committed yet is not in it.

        :param write: takes all the bytes it is given.
        :raises NotFound: there is no such path.
        :raises Invalid: it is no tarball.
        :raises Stale: it was taken away at every attempt, or, by an engine without snapshots,
            taken away or changed while it was being written.
        """
        # With what is queued, if this process is the one that writes.
        state = self.state if self._writing is None else self._writing.store
        extent_bytes = self.superblock.extent_bytes
        exporting = Exporting(self.tarballs, state, self.sealed, extent_bytes, self._find)
        return exporting.run(path, write)

    def _find(self, path: bytes) -> int:
        with closing(self.files(wait=True)) as files:
            return files.open_path(path).inode

    def statfs(self) -> StatFS:
        """Space as the engine sees it."""
        stats = (self.state if self.is_scratch else self.sealed).stats()
        block = 4096
        used = (stats.bytes_used or 0) // block
        free = (stats.bytes_free or 0) // block
        return StatFS(
            bsize=block,
            frsize=block,
            blocks=used + free,
            bfree=free,
            bavail=free,
            files=0,
            ffree=0,
            namelen=NAME_BYTES_MAX,
        )

    def activity(self) -> dict[str, Any]:
        """What this process is doing with the volume, as JSON."""
        return {
            "resident_bytes_max": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "ingesting": [
                {
                    "object": report.object,
                    "members": report.members,
                    "archive_bytes": report.archive_bytes,
                    "archive_bytes_read": report.archive_bytes_read,
                }
                for report in self.tarballs.running()
            ],
        }

    # -- the end -----------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Has :meth:`close` been called?"""
        return self._closing.is_set()

    def close(self) -> None:
        """Stop ingests, bring everything to the disk and let go.  Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._refresher is not None:
            self._refresher.join()
        self.tarballs.close()
        if self._writing is not None:
            try:
                with self._writing:
                    self._reclaim(self._writing, leaving=True)
            except KVFSError as error:
                if self._writing.is_shared:
                    log.warning("others have to see to what is left of this writer: %s", error)
                else:
                    log.exception("what was written last is lost")
        self.sealed.close()
        # Closing flushes the whole store if this process wrote to it.
        self.sessions.leave(flushed=self.sealed.committed)
        self.state.close()
        self.backing.close()
