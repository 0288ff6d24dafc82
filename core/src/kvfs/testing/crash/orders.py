"""What a writer is told to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Literal

import attrs
import cattrs

from kvfs.testing.crash.verify import Expected
from kvfs.testing.crash.workload import Workload

FAILED = 3
"""The exit status of a writer that found what must not be; its last line says what."""


@attrs.frozen(kw_only=True)
class Orders:
    """What a writer is to do."""

    driver: str
    settings: dict[str, Any]
    layers: list[dict[str, Any]] = attrs.field(factory=list)
    durability: str
    """Of every commit: the name of a :class:`~kvfs.capability.Durability`."""
    workload: Workload
    expected: list[Expected]
    """Of every writer that there is; as many as write."""
    writer: int = 0
    verify: Literal["all", "own"] = "all"
    """``own``: others write at the same time."""
    steps: int | None = None
    """How many batches to write; by default they have no end."""
    upkeep: float = 0.1
    """How probable it is, after a batch, that the store is compacted, or opened anew."""
    may_be_lost: bool = False
    """A store that says that it is damaged is removed, and begun anew."""
    server_dies: bool = False
    """A server that cannot be reached ends the writer in peace."""
    mark: str | None = None
    """A file that each line is written to as well."""

    def dumps(self) -> str:
        """As an argument of the process."""
        return json.dumps(cattrs.unstructure(self), default=str)

    @classmethod
    def loads(cls, text: str) -> Orders:
        """What :meth:`dumps` made."""
        return cattrs.structure(json.loads(text), cls)

    def command(self) -> list[str]:
        """The process that does it."""
        return [sys.executable, "-m", "kvfs.testing.crash.writer", self.dumps()]

    def run(self, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Have a process do it; what it said."""
        return subprocess.run(
            self.command(),
            capture_output=True,
            text=True,
            env=environment(),
            timeout=timeout_s,
            check=False,
        )


def environment() -> dict[str, str]:
    """Of a writer: it finds the packages that this process finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


__all__ = ["FAILED", "Orders", "environment"]
