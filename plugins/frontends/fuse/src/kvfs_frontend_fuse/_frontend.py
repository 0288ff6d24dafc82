"""The frontend: a mount, a session over it, and how both end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from kvfs.capability import FrontendCapability
from kvfs.errors import KVFSError, Unsupported
from kvfs.volume import Locking, Volume, name_mount
from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse.mounting.mount import Mount, mount_at
from kvfs_frontend_fuse.protocol.negotiate import Negotiated
from kvfs_frontend_fuse.protocol.wire import OPCODES
from kvfs_frontend_fuse.serving.complaints import log
from kvfs_frontend_fuse.serving.ending import (
    MountFrontend,
    Service,
    prompt_interpreter,
    signals,
    woken_by_signals,
)
from kvfs_frontend_fuse.serving.invalidation import Invalidator, Quiet, invalidating
from kvfs_frontend_fuse.serving.session import Session, VolumeAPI
from kvfs_frontend_fuse.workers.counters import Counters
from kvfs_frontend_fuse.workers.supervisor import Supervisor, obstacle

CAPABILITY = FrontendCapability(needs_target=True, writable=True, platforms=("linux",))


@attrs.define
class _All:
    """A session that answers by itself until a crew does."""

    _session: Session
    _crew: Supervisor | None

    def end(self) -> None:
        self._session.end()
        if self._crew is not None:
            self._crew.end()


def _answer(session: Session, crew: Supervisor | None) -> None:
    """Have requests answered until the mount ends."""
    if crew is None:
        session.run()
        return
    with woken_by_signals(crew.alarm):
        crew.run()


def _give_up(locking: Locking) -> None:
    """Nobody holds a lock through a mount that has ended."""
    try:
        locking.release_all()
    except KVFSError as error:
        log.warning("locks of the mount are given up only with this process: %s", error)


@contextmanager
def _counting(volume: VolumeAPI, workers: int) -> Iterator[Counters]:
    """Counters of a mount, shown among the volume's metrics."""
    counters = Counters(max(workers, 1))
    withdraw = None
    if isinstance(volume, Volume):
        withdraw = volume.metrics.provide("fuse.requests", counters.totals)
    try:
        yield counters
    finally:
        if withdraw is not None:
            withdraw()
        counters.close()


class FuseFrontend(MountFrontend):
    """Serves a volume as a mounted file system: one mount at a time, and none after a stop."""

    capability = CAPABILITY

    def __init__(self, settings: FuseSettings) -> None:
        super().__init__()
        self._settings = settings

    def serve(self, volume: VolumeAPI, target: str, *, ready: Callable[[], None]) -> None:
        """Mount ``volume`` at the directory ``target`` and serve it; blocks.

        Returns after somebody unmounted it, after :meth:`stop`, and, in the main thread, after
        SIGINT, SIGTERM or SIGHUP; nothing is mounted then.  What a killed server left at
        ``target`` is detached first.

        :param ready: called once, when the mount answers.
        :raises NotFound: ``target`` does not exist.
        :raises Invalid: it is not a directory, or not empty.
        :raises AlreadyExists: a KVFS that is alive is mounted there, or writes to the volume.
        :raises PermissionDenied: this user may not mount there.
        :raises Unsupported: the kernel has no FUSE or one that is too old, or fusermount3 misses,
            or the workers that the settings ask for cannot be had.
        :raises Unavailable: its workers die as soon as they are started.
        """
        workers = self._workers(volume)
        if isinstance(volume, Volume):
            volume.check_writer()
        with signals(self.stop), prompt_interpreter(), _counting(volume, workers) as counters:
            crew = self._crew(volume, counters) if workers else None
            try:
                self._serve(volume, target, counters=counters, crew=crew, ready=ready)
            finally:
                if crew is not None:
                    crew.close()

    def _serve(
        self,
        volume: VolumeAPI,
        target: str,
        *,
        counters: Counters,
        crew: Supervisor | None,
        ready: Callable[[], None],
    ) -> None:
        mount = mount_at(
            target, self._settings, volume_name=volume.name, read_only=volume.read_only
        )
        name = name_mount() if crew is None else crew.mount
        locking = volume.locking(name) if isinstance(volume, Volume) else None
        try:
            session = Session(
                mount.descriptor,
                volume,
                self._settings,
                counts=counters.row(0)[:OPCODES],
                stats=counters.as_json,
                mount=name,
                locking=locking,
            )
        except BaseException:
            os.close(mount.descriptor)
            mount.unmount(force=True)
            raise
        invalidator = Invalidator(mount.descriptor)
        service = self._service = Service(mount, Quiet(_All(session, crew), invalidator))
        try:
            with woken_by_signals(session.alarm), invalidating(volume, invalidator):
                if self._stopped:
                    service.stop()
                agreed = session.negotiate()
                if agreed is not None:
                    crew = self._attached(crew, mount, agreed)
                    ready()
                    _answer(session, crew)
        finally:
            if crew is not None:
                crew.close()
            session.close()
            service.close()
            mount.unmount(force=True)  # where the loop ended for another reason
            if locking is not None:
                _give_up(locking)
            self._service = None

    def _workers(self, volume: VolumeAPI) -> int:
        """How many workers to have; 0: this process answers.

        :raises Unsupported: there are to be some, and there cannot be.
        """
        wanted = self._settings.workers
        if wanted == 0:
            return 0
        reason = obstacle(volume)
        if reason is None and not volume.read_only and wanted is not None and wanted > 1:
            reason = "one process at a time writes to it"
        if reason is None:
            return 1 if wanted is None else wanted
        if wanted is None:
            return 0
        raise Unsupported(
            f"{volume.name} cannot be served by workers: {reason} (workers = 0 serves it by one "
            "process)"
        )

    def _crew(self, volume: VolumeAPI, counters: Counters) -> Supervisor | None:
        assert isinstance(volume, Volume), "there was no obstacle"
        try:
            return Supervisor(volume, self._settings, counters=counters)
        except Unsupported as error:
            self._go_without(error)
            return None

    def _attached(
        self, crew: Supervisor | None, mount: Mount, agreed: Negotiated
    ) -> Supervisor | None:
        """The crew, at work; or ``None`` if it cannot be and nobody asked for one."""
        if crew is None:
            return None
        try:
            crew.attach(mount.descriptor, agreed)
        except Unsupported as error:
            crew.close()
            self._go_without(error)
            return None
        return crew

    def _go_without(self, error: Unsupported) -> None:
        if self._settings.workers is not None:
            raise error
        log.warning("the mount has no workers: %s", error)


def open_frontend(settings: FuseSettings) -> FuseFrontend:
    """The factory that :data:`kvfs_frontend_fuse.DRIVER` names."""
    return FuseFrontend(settings)
