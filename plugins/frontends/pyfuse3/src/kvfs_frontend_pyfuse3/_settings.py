"""The ``[frontend]`` table of a volume that is mounted through pyfuse3."""

from __future__ import annotations

import attrs

from kvfs.config import setting
from kvfs.errors import Invalid

WAITERS_MAX = 1024


@attrs.frozen(kw_only=True)
class Pyfuse3Settings:
    """Mount options; those that the direct binding has too mean the same here."""

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
    waiters: int = setting(
        16, help="threads that wait for contents to be fetched while others are served"
    )

    def __attrs_post_init__(self) -> None:
        """Refuse what is out of range.

        :raises Invalid: names the setting and its limits.
        """
        if not 1 <= self.waiters <= WAITERS_MAX:
            raise Invalid(f"waiters is {self.waiters}: it must be from 1 to {WAITERS_MAX}")
        if self.fsname is not None and (not self.fsname or "\0" in self.fsname):
            raise Invalid("fsname must be text without NUL, and not empty")
