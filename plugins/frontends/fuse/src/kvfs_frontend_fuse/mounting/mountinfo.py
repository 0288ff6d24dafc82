"""What is mounted where, by the kernel's own account.

Source of the format: proc_pid_mountinfo(5), ``Documentation/filesystems/proc.rst`` section 3.5.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path

import attrs

FSTYPE = "fuse.kvfs"
ANSWER_TIMEOUT_S = 5.0
"""How long a mounted file system may take to answer before it counts as hanging."""
_TABLE = "/proc/self/mountinfo"
_OCTAL = re.compile(rb"\\([0-7]{3})")


@attrs.frozen
class MountInfo:
    """One line of the mount table."""

    mount_id: int
    device: str
    """``major:minor``, as in ``st_dev``; another for every mount of a FUSE file system."""
    mount_point: Path
    fstype: str
    source: str
    options: tuple[str, ...]
    """Those of the mount (``ro``, ``nosuid``) and those of the file system (``user_id=0``)."""

    @property
    def read_only(self) -> bool:
        """Does the kernel refuse every change?"""
        return "ro" in self.options


def _decode(field: bytes) -> str:
    # Space, tab, newline, backslash (and # in a source) stand as three octal digits.
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), field))


def parse(table: bytes) -> list[MountInfo]:
    """The lines of a mountinfo file; one that is not understood is left out."""
    found = []
    for line in table.splitlines():
        before, dash, after = line.partition(b" - ")
        left, right = before.split(b" "), after.split(b" ")
        if not dash or len(left) < 6 or len(right) < 2:
            continue
        options = left[5].split(b",") + (right[2].split(b",") if len(right) > 2 else [])
        found.append(
            MountInfo(
                mount_id=int(left[0]),
                device=_decode(left[2]),
                mount_point=Path(_decode(left[4])),
                fstype=_decode(right[0]),
                source=_decode(right[1]),
                options=tuple(map(_decode, options)),
            )
        )
    return found


def all_mounts() -> list[MountInfo]:
    """Every mount this process sees, in the order in which they were made."""
    with open(_TABLE, "rb") as file:
        return parse(file.read())


def mounts() -> list[MountInfo]:
    """Every mounted KVFS, in the order of mounting, those included whose server is dead."""
    return [mount for mount in all_mounts() if mount.fstype == FSTYPE]


def top_mount(mount_point: Path) -> MountInfo | None:
    """What a path lookup finds mounted exactly at ``mount_point`` (a resolved path)."""
    for mount in reversed(all_mounts()):
        if mount.mount_point == mount_point:
            return mount
    return None


def resolve(target: str) -> Path:
    """The absolute path of a mount point, as the mount table has it.

    Nothing is asked of what is mounted there: a server that hangs would hang the question.
    """
    parent, name = os.path.split(target.rstrip("/"))
    if name not in ("", ".", ".."):
        place = Path(os.path.realpath(parent), name)
        if top_mount(place) is not None:  # so it is no symbolic link
            return place
    return Path(os.path.realpath(target))


def is_dead(mount: MountInfo) -> bool:
    """Has the server of a FUSE mount gone, so that every request fails?

    One that hangs is not dead.  Asks with statvfs(3), which the kernel answers from no cache; a
    stat(2) of a mount with long timeouts succeeds long after its server was killed.
    """
    seen: list[int | None] = []

    def ask() -> None:
        try:
            os.statvfs(mount.mount_point)
        except OSError as error:
            seen.append(error.errno)

    # In a thread, because a server that hangs must not hang whoever asks.
    asker = threading.Thread(target=ask, daemon=True, name="kvfs-statvfs")
    asker.start()
    asker.join(ANSWER_TIMEOUT_S)
    return bool({errno.ENOTCONN, errno.ECONNABORTED} & set(seen))
