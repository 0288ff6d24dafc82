"""The ``[frontend]`` table of a volume that is mounted through FUSE."""

from __future__ import annotations

from enum import Enum

import attrs

from kvfs.config import Bytes, setting
from kvfs.errors import Invalid


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
    xattrs: bool = setting(
        True, help="serve extended attributes; off saves a request per file in ls -l"
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

    def __attrs_post_init__(self) -> None:
        """Refuse what is out of range.

        :raises Invalid: names the setting and its limits.
        """
        for name, low, high in (
            ("waiters", 1, 1024),
            ("max_readahead", 0, 1 << 30),
            ("max_background", 1, 65535),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise Invalid(f"{name} is {value}: it must be from {low} to {high}")
        if self.fsname is not None and (not self.fsname or "\0" in self.fsname):
            raise Invalid("fsname must be text without NUL, and not empty")
