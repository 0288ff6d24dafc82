"""What a contestant is, and who takes part on this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import attrs

MOUNT_TIMEOUT_S = 60.0


class Tarball(Protocol):
    """An input: one tarball in a folder of its own."""

    @property
    def source(self) -> Path:
        """The folder."""

    @property
    def archive(self) -> Path:
        """The tarball in it."""

    def describe(self) -> dict[str, int]:
        """Its size in numbers, for the report."""


@attrs.frozen(kw_only=True)
class Served:
    """A tree that can be read."""

    root: Path
    pid: int | None = None
    """The process behind the mount, if there is one."""
    count: Callable[[], int | None] | None = None
    """Requests that reached user space so far, as the server counts them; ``None``: it does not."""
    config: Path | None = None
    """Not mounted: the configuration of the volume, which the reader is to open itself."""


class Contestant(Protocol):
    """One way to serve the files of a tarball."""

    @property
    def name(self) -> str:
        """As it stands in the tables."""

    @property
    def is_local(self) -> bool:
        """Is there nothing to mount, so that what was read once stays in the kernel's caches?"""

    @property
    def works(self) -> frozenset[str]:
        """The ids of the works that it takes part in."""

    @property
    def limit_s(self) -> float:
        """How long one work may take."""

    def build(self, key: str, made: Tarball) -> None:
        """Make once, untimed, what serving the input ``key`` needs."""

    def sources(self, key: str) -> list[Path]:
        """The files that have to be in the page cache for its engine to be warm."""

    def served(self, key: str) -> AbstractContextManager[Served]:
        """Mount that input anew for as long as the block lasts."""


@attrs.define
class Field:
    """Who takes part, and who does not."""

    contestants: list[Contestant] = attrs.field(factory=list)
    missing: dict[str, str] = attrs.field(factory=dict)
    """Name and what to do about it."""
