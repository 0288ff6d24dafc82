"""Who holds something: names that tell the dead from the living, in this process and in others.

Concurrency: any thread may call anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

_numbers = count(1)
_undertakings: set[str] = set()


@cache
def boot_id() -> str:
    """This boot of this machine; another after a power cut."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start_time(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; ``None`` if there is none of that id."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command, in brackets, may hold spaces and brackets itself.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


def myself() -> str:
    """The name of this process: boot, process id and start time."""
    pid = os.getpid()
    return f"{boot_id()}/{pid}/{_start_time(pid)}"


@contextmanager
def undertaking() -> Iterator[str]:
    """A name for something that this process does, alive until it is done or the process ends.

    What failed without being put right is thereby known to be abandoned, though its process lives.
    """
    name = f"{myself()}/{next(_numbers)}"
    _undertakings.add(name)
    try:
        yield name
    finally:
        _undertakings.discard(name)


def is_alive(holder: str) -> bool:
    """Is who has that name still there?  Only of this machine can it be known."""
    boot, _, rest = holder.partition("/")
    pid, _, rest = rest.partition("/")
    start, _, number = rest.partition("/")
    if boot != boot_id() or not pid.isdigit() or _start_time(int(pid)) != start:
        return False
    return int(pid) != os.getpid() or not number or holder in _undertakings


def boot_of(holder: str) -> str:
    """The boot in a name."""
    return holder.partition("/")[0]


def process_of(holder: str) -> str:
    """The name of the process in the name of an undertaking."""
    return "/".join(holder.split("/")[:3])


def pid_of(holder: str) -> int:
    """The process id in a name."""
    return int(holder.split("/")[1])
