"""The frontend: a mount as the direct binding makes it, served through pyfuse3."""

from __future__ import annotations

import os
from collections.abc import Callable

from kvfs.capability import FrontendCapability
from kvfs.errors import Unsupported
from kvfs.volume import LockScope, Volume
from kvfs_frontend_fuse.binding import (
    FuseSettings,
    MountFrontend,
    Service,
    VolumeAPI,
    mount_at,
    prompt_interpreter,
    signals,
)
from kvfs_frontend_pyfuse3._session import Session
from kvfs_frontend_pyfuse3._settings import Pyfuse3Settings

CAPABILITY = FrontendCapability(needs_target=True, writable=False, platforms=("linux",))


class Pyfuse3Frontend(MountFrontend):
    """Serves a volume as a mounted file system: one mount at a time, and none after a stop."""

    capability = CAPABILITY

    def __init__(self, settings: Pyfuse3Settings) -> None:
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
        :raises AlreadyExists: a KVFS that is alive is mounted there.
        :raises Conflict: this process serves another mount through pyfuse3.
        :raises PermissionDenied: this user may not mount there.
        :raises Unsupported: the kernel has no FUSE, or fusermount3 misses; or locks are to hold
            among all mounts.
        """
        if isinstance(volume, Volume) and volume.config.volume.locks is not LockScope.HOST:
            raise Unsupported(
                f"{volume.name}: pyfuse3 keeps no locks among mounts: mount with the frontend "
                'fuse, or set [volume] locks = "host"'
            )
        settings = self._settings
        options = FuseSettings(
            allow_other=settings.allow_other,
            default_permissions=settings.default_permissions,
            nonempty=settings.nonempty,
            fsname=settings.fsname,
        )
        with signals(self.stop), prompt_interpreter():
            mount = mount_at(target, options, volume_name=volume.name, read_only=True)
            try:
                session = Session(mount.descriptor, volume, settings)
            except BaseException:
                os.close(mount.descriptor)
                mount.unmount(force=True)
                raise
            service = self._service = Service(mount, session)
            try:
                if self._stopped:
                    service.stop()
                session.run(ready)
            finally:
                session.close()
                service.close()
                mount.unmount(force=True)  # where the loop ended for another reason
                self._service = None


def open_frontend(settings: Pyfuse3Settings) -> Pyfuse3Frontend:
    """The factory that :data:`kvfs_frontend_pyfuse3.DRIVER` names."""
    return Pyfuse3Frontend(settings)
