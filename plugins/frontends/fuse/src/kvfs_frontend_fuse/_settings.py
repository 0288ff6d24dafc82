"""The ``[frontend]`` table of a volume that is mounted through FUSE."""

from __future__ import annotations

import os
from enum import Enum

import attrs

from kvfs.config import Bytes, setting
from kvfs.errors import Invalid

WORKERS_MAX = 256


def cores(text: str | None) -> set[int] | None:
    """The cores that a setting names (``0-3,8``); ``None``: any.

    :raises Invalid: it does not name cores that this process may use.
    """
    if text is None:
        return None
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not (low.isdecimal() and (high.isdecimal() if dash else True)):
            raise Invalid(f'cpus is {text!r}: it must name cores, as in "0-3,8"')
        found.update(range(int(low), int(high or low) + 1))
    allowed = os.sched_getaffinity(0)
    if not found <= allowed:
        names = ", ".join(map(str, sorted(allowed)))
        raise Invalid(f"cpus is {text!r}: this process may use the cores {names}")
    return found


class ReadDirPlus(Enum):
    """When a listing carries the attributes of its entries."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@attrs.frozen(kw_only=True)
class FuseSettings:
    """Mount options; see mount.fuse3(8) for those of the same name."""

    allow_other: bool | None = setting(
        None, help="other users may use the mount; unset: yes where root mounts, else no"
    )
    default_permissions: bool = setting(
        True, help="the kernel checks permissions from owner, group and mode"
    )
    nonempty: bool = setting(False, help="mount over a directory that has entries")
    fsname: str | None = setting(
        None, help="the source that mount(8) and df(1) show; unset: the name of the volume"
    )
    xattrs: bool = setting(True, help="serve extended attributes; off: the kernel asks for none")
    posix_acl: bool = setting(
        True, help="access control lists count (where the volume is written to)"
    )
    readdirplus: ReadDirPlus = setting(
        ReadDirPlus.ALWAYS,
        help="listings carry attributes: always, never, or auto (where the kernel sees them used)",
    )
    waiters: int = setting(
        16, help="threads that wait for contents to be fetched while others are served"
    )
    max_readahead: Bytes = setting(
        Bytes(128 << 10), help="how far the kernel reads ahead of a sequential reader"
    )
    max_background: int = setting(
        128, help="read-ahead requests that the kernel has under way at once"
    )
    workers: int | None = setting(
        None,
        help="processes that answer; 0: this one does; unset: 1 where the engine can be shared",
    )
    push: bool = setting(
        True, help="hand the kernel the files that will be read next (by workers only)"
    )
    push_files: int = setting(64, help="how many files are pushed ahead of a reader at most")
    poll_us: int = setting(
        50, help="microseconds that the device is polled before waiting for it; 0: never"
    )
    cpus: str | None = setting(
        None, help='cores for the processes that answer, as in "0-3,8"; unset: the kernel chooses'
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what is out of range.

        :raises Invalid: names the setting and its limits.
        """
        for name, low, high in (
            ("waiters", 1, 1024),
            ("max_readahead", 0, 1 << 30),
            ("max_background", 1, 65535),
            ("push_files", 1, 4096),
            ("poll_us", 0, 1000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise Invalid(f"{name} is {value}: it must be from {low} to {high}")
        if self.workers is not None and not 0 <= self.workers <= WORKERS_MAX:
            raise Invalid(f"workers is {self.workers}: it must be from 0 to {WORKERS_MAX}")
        cores(self.cpus)
        if self.fsname is not None and (not self.fsname or "\0" in self.fsname):
            raise Invalid("fsname must be text without NUL, and not empty")
