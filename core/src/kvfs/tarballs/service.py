"""The tarball service: one ingest per tarball, however many ask, in however many processes.

A tarball's life is a walk over :class:`~kvfs.tarballs.catalogue.State`, every step one guarded
batch, so a kill at any point leaves a state that the next start rolls back or goes on from::

    absent -> ingesting -> sealed -> evicting -> absent
                  |                      ^
                  +-- (failed, killed) --+

A tarball may go at any moment, under readers in any process: it is marked *evicting* before the
first of its records is removed, so who finds a record missing can tell (:mod:`kvfs.files.files`).
Another version of its object gets other inode numbers, by the step to *evicting* that makes its
name lead to them.

Concurrency: everything public may be called from any thread.  One lock guards the table of jobs; it
is never held during I/O.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from threading import Condition, Event, Lock

import attrs

from kvfs.backing import BackingStore
from kvfs.errors import Closed, Conflict, Corrupt, KVFSError, NotFound, Stale, Unavailable
from kvfs.files import NameHash, NotResident
from kvfs.files.records import (
    EPOCH_BITS,
    FIRST_MADE_NUMBER,
    InodeFlag,
    catalogue_key,
    written_key,
)
from kvfs.kv import Batch, KVStore
from kvfs.metrics import Metrics
from kvfs.tar.compression import open_tar_stream
from kvfs.tar.readahead import ReadAhead
from kvfs.tar.reader import TarReader
from kvfs.tar.window import ByteStream
from kvfs.tarballs import fence, holders
from kvfs.tarballs.catalogue import CHANGED_UNDER, Catalogue, State, Tarball
from kvfs.tarballs.counting import CountingReader
from kvfs.tarballs.ingest import Cancelled, Ingest
from kvfs.tarballs.life import Life
from kvfs.tarballs.observers import Observers
from kvfs.tarballs.report import IngestReport
from kvfs.tarballs.settings import IngestSettings
from kvfs.tarballs.tree import TreeBuilder

log = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.1
"""How often the state of a tarball that another process ingests is looked at."""
RETRY_AFTER_S = 5.0
"""A version that failed is not tried again sooner; who asks gets the same error."""
CHANGES_MAX = 5
"""An object that changes while it is read is read anew, but not for ever."""
_SEALS_KEPT = 16_384


@attrs.define(eq=False)
class Job:
    """An ingest that is under way, here or in another process."""

    tarball: int
    report: IngestReport
    progress: Condition = attrs.field(factory=Condition)
    batches: int = 0
    """Grows whenever something may have become visible."""
    done: bool = False
    error: KVFSError | None = None
    failed_at: float = 0.0
    version: str = ""
    """Of the object that is, or was, being read."""

    def advance(self, *, done: bool = False, error: KVFSError | None = None) -> None:
        """Wake everybody who waits."""
        with self.progress:
            self.batches += 1
            self.done = self.done or done
            self.error = error or self.error
            self.progress.notify_all()


@lru_cache(_SEALS_KEPT)
def _is_dirty(seal: bytes) -> bool:
    return Tarball.unpack(seal).dirty


class Changed(Conflict):
    """The object became another while it was read."""


@contextmanager
def _still_there(record: Tarball) -> Iterator[None]:
    """Report that an object is gone as a failure, and not as the absence of what was asked for.

    A store whose readers notice that the object is another one by now says that it is stale.

    To a program "no such file" says that the tarball never held it; from a directory it reads that
    as an empty one, since for glibc's readdir(3) ENOENT is the end of the listing.
    """
    try:
        yield
    except NotFound as error:
        raise Unavailable(f"{record.object} is gone from the store: {error}") from error
    except Stale as error:
        raise Changed(f"{record.object} changed while it was read") from error


class Tarballs:
    """Fetches tarballs into the sealed store.

    :param on_ingest: called with the report of each tarball that was sealed here.
    :param is_alive: tells whether the holder of that name is still at work.
    """

    def __init__(
        self,
        state: KVStore,
        sealed: KVStore,
        backing: BackingStore,
        *,
        names: NameHash,
        inline_bytes: int,
        extent_bytes: int,
        settings: IngestSettings,
        owner: tuple[int, int],
        metrics: Metrics,
        on_ingest: Callable[[IngestReport], None],
        is_alive: Callable[[str], bool],
    ) -> None:
        self.catalogue = Catalogue(state)
        self.observers = Observers()
        self.life = Life(self.catalogue, self.observers, state, sealed, owner, is_alive)
        self._state = state
        self._sealed = sealed
        self._backing = backing
        self._names = names
        self._inline_bytes = inline_bytes
        self._extent_bytes = extent_bytes
        self._settings = settings
        self._metrics = metrics
        self._on_ingest = on_ingest
        self._lock = Lock()
        self._jobs: dict[int, Job] = {}
        self._seals: dict[int, bytes] = {}
        self._cancel = Event()
        self._pool = ThreadPoolExecutor(settings.workers, thread_name_prefix="ingest")

    # -- for those who read ------------------------------------------------------------------------

    def is_sealed(self, tarball: int) -> bool:
        """Is all of it in the sealed store now?"""
        record = self.catalogue.get(tarball)
        return record is not None and record.state is State.SEALED

    def seal(self, tree: int) -> bytes | None:
        """The catalogue's record of a tree if it is sealed now; another after each sealing.

        :raises NotResident: it was written to, and is being fetched anew.
        """
        tarball = tree >> EPOCH_BITS
        raw = self._state.get(catalogue_key(tarball))
        if raw is None or self._seals.get(tree) == raw:
            return raw
        record = Tarball.unpack(raw)
        if record.tree(tarball) != tree:
            return None
        if record.state is not State.SEALED:
            if record.dirty:
                raise NotResident(tarball)
            return None
        if len(self._seals) >= _SEALS_KEPT:
            self._seals.clear()
        self._seals[tree] = raw
        return raw

    def is_written(self, seal: bytes) -> bool:
        """Was a tree written to since it was fetched, by what :meth:`seal` told of it?"""
        return _is_dirty(seal)

    def is_dirty(self, tree: int) -> bool:
        """Was a tree written to, as far as it is in the catalogue?"""
        record = self.catalogue.get(tree >> EPOCH_BITS)
        return record is not None and record.dirty

    def open_tree(self, tree: int, guards: Mapping[bytes, bytes]) -> None:
        """From now on a tree is written to: nobody takes it away, or another version of it.

        :param guards: of whoever writes; see :class:`kvfs.kv.Batch`.
        :raises NotResident: it has to be fetched first.
        :raises Stale: it is not the version that the tarball has now.
        :raises Conflict: ``guards`` do not hold.
        """
        tarball = tree >> EPOCH_BITS
        while True:
            record = self.catalogue.get(tarball)
            if record is None or record.state is State.REMOVED or record.tree(tarball) != tree:
                raise Stale(f"tarball {tarball:#08x} was replaced or removed")
            if record.state is not State.SEALED:
                raise NotResident(tarball)
            if record.dirty:
                return
            batch = Batch(guards={**guards})
            batch.put(written_key(tarball), str(FIRST_MADE_NUMBER).encode())
            try:
                self.life.share_root(batch, record)
                self.catalogue.change(tarball, record, attrs.evolve(record, dirty=True), batch)
            except Conflict:
                if self.catalogue.get(tarball) == record:
                    raise
            else:
                log.info("%s is written to", record.object)
                return

    def is_current(self, tree: int) -> bool:
        """Is it the version that its tarball has now?"""
        tarball = tree >> EPOCH_BITS
        record = self.catalogue.get(tarball)
        return (
            record is not None
            and record.state is not State.REMOVED
            and record.tree(tarball) == tree
        )

    def progress(self, tarball: int) -> int:
        """A number that grows with what is visible; take it before looking, then :meth:`wait`."""
        job = self._jobs.get(tarball)
        return 0 if job is None else job.batches

    def wait(self, tarball: int, seen: int) -> None:
        """Have a tarball fetched, and return when there is more of it than at ``seen``.

        :raises KVFSError: it cannot be fetched.
        """
        if self.is_sealed(tarball):
            return
        job = self.start(tarball)
        with job.progress:
            job.progress.wait_for(lambda: job.done or job.batches != seen)
        if job.error is not None:
            # Without the traces of those who were told before: they would add up.
            raise job.error.with_traceback(None)

    def fetch(self, tarball: int) -> IngestReport | None:
        """Have all of a tarball fetched; its report, or ``None`` if it was there already.

        :raises KVFSError: it cannot be fetched.
        """
        if self.is_sealed(tarball):
            return None
        job = self.start(tarball)
        with job.progress:
            job.progress.wait_for(lambda: job.done)
        if job.error is not None:
            raise job.error.with_traceback(None)
        return job.report

    def start(self, tarball: int) -> Job:
        """The job that fetches a tarball, begun if there is none."""
        failed = self._jobs.get(tarball)
        if failed is not None and (failed.error is None or not self._is_worth_a_try(failed)):
            return failed
        with self._lock:
            job = self._jobs.get(tarball)
            if job is None or job is failed:
                if self._cancel.is_set():
                    raise Closed("the volume is being closed")
                job = Job(tarball, IngestReport(tarball=tarball, object=""))
                self._jobs[tarball] = job
                self._pool.submit(self._run, job)
        return job

    def _is_worth_a_try(self, failed: Job) -> bool:
        """May a tarball that could not be fetched be fetched now?"""
        if time.monotonic() - failed.failed_at > RETRY_AFTER_S:
            return True
        record = self.catalogue.get(failed.tarball)
        return record is None or record.version != failed.version

    def running(self) -> Iterator[IngestReport]:
        """The reports, so far, of the ingests under way."""
        for job in [*self._jobs.values()]:
            if not job.done:
                yield job.report

    def evict(self, tarball: int) -> bool:
        """Give up what is stored of a sealed tarball; see :meth:`kvfs.tarballs.life.Life.evict`."""
        return self.life.evict(tarball)

    def close(self) -> None:
        """Stop what is under way; it is rolled back."""
        self._cancel.set()
        self._pool.shutdown(cancel_futures=True)
        for job in [*self._jobs.values()]:
            if not job.done:
                job.advance(done=True, error=Closed("the volume is being closed"))

    # -- one ingest --------------------------------------------------------------------------------

    def _run(self, job: Job) -> None:
        try:
            self._fetch(job)
        except KVFSError as error:
            self._fail(job, error)
        except Exception as error:
            log.exception("the ingest of tarball %#08x failed", job.tarball)
            self._fail(job, Unavailable(f"the ingest failed unexpectedly: {error!r}"))
        except BaseException as error:
            self._fail(job, Unavailable(f"the ingest was broken off: {error!r}"))
            raise
        else:
            with self._lock:
                self._jobs.pop(job.tarball, None)
            job.advance(done=True)

    def _fail(self, job: Job, error: KVFSError) -> None:
        if not isinstance(error, Cancelled | Stale):
            log.error("%s: %s", job.report.object or f"tarball {job.tarball:#08x}", error)
        job.failed_at = time.monotonic()
        job.advance(done=True, error=error)

    def _fetch(self, job: Job) -> None:
        changes = 0
        with holders.undertaking() as holder:
            while not self._cancel.is_set():
                try:
                    if self._advance(job, holder):
                        return
                except Changed as change:
                    changes += 1
                    if changes > CHANGES_MAX:
                        raise Unavailable(str(change)) from change
                    log.info("%s; it is read anew", change)
                except Conflict:
                    continue
        raise Cancelled("the volume is being closed")

    def _advance(self, job: Job, holder: str) -> bool:
        """One step towards having the tarball; is it there?

        :raises Conflict: somebody else changed its state first: look again.
        """
        record = self.catalogue.get(job.tarball)
        if record is None or record.state is State.REMOVED:
            raise Stale(f"there is no tarball {job.tarball:#08x} in the catalogue any more")
        job.version = record.version
        job.report = IngestReport(
            tarball=job.tarball, object=record.object, archive_bytes=record.size
        )
        if record.state is State.SEALED:
            return True
        if record.state is State.ABSENT:
            claimed = self._claim(job, record, holder)
            # Of somebody who was taken for dead, and was not, there may be records.
            self.life.clear(job.tarball, claimed.term)
            self._ingest(job, claimed)
            return True
        if self.life.is_alive(record.holder):
            # Somebody else is at it; batches become visible as they are committed.
            job.advance()
            self._cancel.wait(WATCH_INTERVAL_S)
        else:
            self.life.roll_back(job.tarball, record)
        return False

    def _claim(self, job: Job, record: Tarball, holder: str) -> Tarball:
        """Make the tarball ours to ingest, at the version that its object has now."""
        with _still_there(record):
            found = self._backing.stat(record.object)
        if record.dirty and found.version != record.version:
            raise Unavailable(f"{record.object}: {CHANGED_UNDER}", retryable=False)
        claimed = self.life.taken(job.tarball, record.at(found), State.INGESTING, holder)
        claimed = attrs.evolve(claimed, shown=True, error="")
        if claimed.epoch == record.epoch:
            self.catalogue.change(job.tarball, record, claimed)
        else:
            self.life.begin_epoch(job.tarball, record, claimed)
        job.report.archive_bytes = found.size
        job.version = found.version
        return claimed

    def _ingest(self, job: Job, claimed: Tarball) -> None:
        tree = TreeBuilder(
            self._sealed,
            job.tarball,
            epoch=claimed.epoch,
            guards=fence.guards(job.tarball, claimed.term),
            names=self._names,
            default=self.life.implied_directory(claimed),
            on_flush=job.advance,
        )
        try:
            with _still_there(claimed):
                self._read(job, claimed, tree)
            tree.close()
            self._seal(job, claimed)
        except Exception as failure:
            tree.close()
            try:
                why = "" if isinstance(failure, Cancelled | Conflict) else str(failure)
                self.life.roll_back(job.tarball, claimed, why=why)
            except KVFSError as error:
                # Its holder is gone with this call, so whoever comes next does it.
                log.warning("%s is not rolled back yet: %s", claimed.object, error)
            raise
        try:
            self._on_ingest(job.report)
        except Exception:
            log.exception("%s is ingested, but a hook failed", claimed.object)

    def _read(self, job: Job, claimed: Tarball, tree: TreeBuilder) -> None:
        report = job.report
        settings = self._settings
        with self._backing.open_reader(claimed.object) as raw:
            # What is open may be a later version already, and none of it may be shown as this one.
            self._check_unchanged(claimed)
            stream, report.compression = open_tar_stream(
                CountingReader(raw, report), limits=settings.compression_limits()
            )
            if isinstance(stream, CountingReader):
                self._run_ingest(stream, report, tree)
            else:
                # Decompressors and sockets let go of the interpreter lock, so the parser runs
                # beside them; whenever it has to wait for them, what it has becomes visible.
                with ReadAhead(stream, before_wait=partial(self._show, tree)) as ahead:
                    self._run_ingest(ahead, report, tree)
        self._check_unchanged(claimed)
        if report.members == 0 and report.lost:
            raise Corrupt(f"{claimed.object} holds nothing that can be read: {report.problems[0]}")

    def _check_unchanged(self, claimed: Tarball) -> None:
        if self._backing.stat(claimed.object).version != claimed.version:
            raise Changed(f"{claimed.object} changed while it was read")

    def _show(self, tree: TreeBuilder) -> None:
        if self._cancel.is_set():
            raise Cancelled("the volume is being closed")
        try:
            tree.flush()
        except Corrupt as error:
            # In the middle of reading an archive it would be taken for damage of that.
            raise Unavailable(f"the engine failed: {error}") from error

    def _run_ingest(self, stream: ByteStream, report: IngestReport, tree: TreeBuilder) -> None:
        limits = self._settings.tar_limits()
        ingest = Ingest(
            tree,
            report,
            inline_bytes=self._inline_bytes,
            extent_bytes=self._extent_bytes,
            cancel=self._cancel,
        )
        with self._metrics.histogram("tarballs.ingest").time():
            ingest.run(TarReader(stream, limits=limits, on_problem=report.note))

    def _seal(self, job: Job, claimed: Tarball) -> None:
        report = job.report
        assert report.root is not None
        if claimed.dirty and (report.members, report.content_bytes) != (
            claimed.members,
            claimed.content_bytes,
        ):
            raise Unavailable(
                f"{claimed.object} is not what it was when it was written to, {claimed.members:,} "
                f"members of {claimed.content_bytes:,} bytes, but {report.members:,} of "
                f"{report.content_bytes:,}: set the limits of [ingest] as they were then",
                retryable=False,
            )
        root = attrs.evolve(report.root, inode=claimed.root(job.tarball))
        batch = Batch()
        if not claimed.dirty:
            self.life.put_root(batch, claimed, root, InodeFlag.XATTRS if report.root_xattrs else 0)
        sealed = attrs.evolve(
            claimed,
            state=State.SEALED,
            seals=claimed.seals + 1,
            holder="",
            term=0,
            members=report.members,
            content_bytes=report.content_bytes,
            compression=report.compression,
            root_listed=report.root_listed,
            seconds=round(report.seconds, 3),
            problems=report.problems_total,
            lost=report.lost,
        )
        self.catalogue.change(job.tarball, claimed, sealed, batch)
        self.observers.tell([], [root.inode])
