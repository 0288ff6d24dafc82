"""Mount points: making a mount, recovering one whose server died, ending one.

Root mounts by itself; everybody else through fusermount3.  Nothing here speaks to the kernel over
the device: that is the session.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import attrs

from kvfs.errors import (
    AlreadyExists,
    Conflict,
    Invalid,
    KVFSError,
    NotFound,
    PermissionDenied,
    Unavailable,
    Unsupported,
)
from kvfs_frontend_fuse._settings import FuseSettings
from kvfs_frontend_fuse.mounting import fusermount
from kvfs_frontend_fuse.mounting.mountinfo import (
    FSTYPE,
    MountInfo,
    is_dead,
    mounts,
    resolve,
    top_mount,
)
from kvfs_frontend_fuse.mounting.syscalls import MountFlag, UnmountFlag, mount, umount2

DEVICE = "/dev/fuse"
_SUBTYPE = FSTYPE.removeprefix("fuse.").encode()


@attrs.define
class Mount:
    """A mount that this process made and serves."""

    mount_point: Path
    device: str
    """``major:minor`` in the mount table; tells this mount from any later one at the same place."""
    descriptor: int
    """The open /dev/fuse; whoever serves the mount closes it."""

    def is_mounted(self) -> bool:
        """Is it what stands at the mount point?  Not where it was detached, replaced or covered."""
        found = top_mount(self.mount_point)
        return found is not None and found.device == self.device

    def unmount(self, *, force: bool = False) -> None:
        """End it; nothing happens where it has ended already.

        :param force: detach it even while it is in use.
        :raises Conflict: it is in use.
        """
        if self.is_mounted():
            _unmount(self.mount_point, force=force)


def mount_at(target: str, settings: FuseSettings, *, volume_name: str, read_only: bool) -> Mount:
    """Mount an empty session at ``target``, after detaching what a killed server left there.

    Nobody answers yet: whoever touches the mount waits until the device is served.

    :raises NotFound: ``target`` does not exist.
    :raises Invalid: it is not a directory, or not empty and ``nonempty`` is not set.
    :raises AlreadyExists: a KVFS that is alive is mounted there.
    :raises PermissionDenied: this user may not mount there; says what would help.
    :raises Unsupported: no FUSE on this machine, or no fusermount3; says what to install.
    """
    mount_point = resolve(target)
    recover(mount_point)
    _check_directory(mount_point, nonempty=settings.nonempty)
    source = os.fsencode(settings.fsname or volume_name)
    options = _options(settings)
    if os.geteuid() == 0:
        descriptor = _mount_as_root(mount_point, options, source=source, read_only=read_only)
    else:
        if read_only:
            options.append(b"ro")
        descriptor = fusermount.mount(
            os.fsencode(mount_point), options, source=source, subtype=_SUBTYPE
        )
    found = top_mount(mount_point)
    if found is None or found.fstype != FSTYPE:
        os.close(descriptor)
        raise Unavailable(f"{mount_point} was mounted, but is not in the mount table: try again")
    return Mount(mount_point, found.device, descriptor)


def recover(mount_point: Path) -> int:
    """Detach every dead KVFS mounted at ``mount_point``; returns how many there were.

    :raises AlreadyExists: the one on top is alive.
    """
    recovered = 0
    while (found := top_mount(mount_point)) is not None and found.fstype == FSTYPE:
        if not is_dead(found):
            raise AlreadyExists(
                f"a KVFS that is alive is mounted at {mount_point} ({found.source}): "
                f"unmount it first (kvfs umount {mount_point})"
            )
        _unmount(mount_point, force=True)
        recovered += 1
    return recovered


def release(target: str, *, force: bool) -> MountInfo:
    """Unmount a KVFS that any process serves, or served.

    One whose server is dead needs no ``force``.

    :raises NotFound: no KVFS is mounted at ``target``.
    :raises Conflict: it is in use, and ``force`` is not set.
    :raises PermissionDenied: somebody else mounted it.
    """
    mount_point = resolve(target)
    found = top_mount(mount_point)
    if found is None or found.fstype != FSTYPE:
        places = ", ".join(str(mount.mount_point) for mount in mounts()) or "nowhere"
        raise NotFound(f"no KVFS is mounted at {mount_point} (mounted: {places})")
    _unmount(mount_point, force=force or is_dead(found))
    return found


def _check_directory(mount_point: Path, *, nonempty: bool) -> None:
    try:
        mode = mount_point.stat().st_mode
    except FileNotFoundError as error:
        raise NotFound(f"the mount point {mount_point} does not exist: create it first") from error
    except PermissionError as error:
        raise PermissionDenied(f"the mount point {mount_point} may not be looked at") from error
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            raise Invalid(
                f"a dead mount of another file system is at {mount_point}: "
                f"detach it first (umount -l {mount_point})"
            ) from error
        raise Invalid(f"the mount point {mount_point}: {error.strerror}") from error
    if not stat.S_ISDIR(mode):
        raise Invalid(f"the mount point {mount_point} is not a directory")
    if nonempty:
        return
    try:
        with os.scandir(mount_point) as entries:
            occupied = next(entries, None) is not None
    except OSError as error:
        raise PermissionDenied(f"{mount_point} cannot be listed: {error.strerror}") from error
    if occupied:
        raise Invalid(
            f"the mount point {mount_point} is not empty, and a mount would hide what is in it: "
            "use an empty directory, or set nonempty = true"
        )


def _options(settings: FuseSettings) -> list[bytes]:
    allow_other = settings.allow_other
    if allow_other is None:
        allow_other = os.geteuid() == 0
    options = []
    if allow_other:
        options.append(b"allow_other")
    if settings.default_permissions:
        options.append(b"default_permissions")
    return options


def _open_device() -> int:
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Unsupported(
            f"{DEVICE} does not exist: load the module (modprobe fuse), or give the container "
            "the device (docker run --device /dev/fuse --cap-add SYS_ADMIN)"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise Unsupported("this kernel has no FUSE: load the module (modprobe fuse)") from error
        raise PermissionDenied(f"{DEVICE} may not be opened: {error.strerror}") from error


def _mount_as_root(
    mount_point: Path, options: list[bytes], *, source: bytes, read_only: bool
) -> int:
    descriptor = _open_device()
    flags = MountFlag.NODEV | MountFlag.NOSUID
    if read_only:
        flags |= MountFlag.RDONLY
    data = b",".join(
        [
            b"fd=%d,rootmode=%o,user_id=%d,group_id=%d"
            % (descriptor, stat.S_IFDIR, os.geteuid(), os.getegid()),
            *options,
        ]
    )
    try:
        mount(source, os.fsencode(mount_point), fstype=FSTYPE.encode(), flags=flags, data=data)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EPERM, errno.EACCES):
            raise PermissionDenied(
                f"this process may not mount at {mount_point}: it lacks CAP_SYS_ADMIN, "
                "as root in a container without it does (docker run --cap-add SYS_ADMIN)"
            ) from error
        if error.errno == errno.ENODEV:
            raise Unsupported("this kernel has no FUSE: load the module (modprobe fuse)") from error
        raise Unavailable(f"mounting at {mount_point} failed: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _unmount(mount_point: Path, *, force: bool) -> None:
    path = os.fsencode(mount_point)
    try:
        if os.geteuid() == 0:
            flags = UnmountFlag.NOFOLLOW | (UnmountFlag.DETACH if force else 0)
            umount2(path, UnmountFlag(flags))
        else:
            fusermount.unmount(path, lazy=force)
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise _in_use(mount_point) from error
        if error.errno in (errno.EPERM, errno.EACCES):
            raise PermissionDenied(f"{mount_point} may not be unmounted by this user") from error
        if error.errno != errno.EINVAL:  # EINVAL: not a mount point any more
            raise Unavailable(f"unmounting {mount_point} failed: {error.strerror}") from error
    except PermissionDenied as error:
        if "busy" in str(error).lower():
            raise _in_use(mount_point) from error
        if (found := top_mount(mount_point)) is not None and found.fstype == FSTYPE:
            raise


def _in_use(mount_point: Path) -> KVFSError:
    return Conflict(
        f"{mount_point} is in use: close what has a file open or stands in it "
        f"(fuser -vm {mount_point} shows who), or use force",
        retryable=True,
    )
