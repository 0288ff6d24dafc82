"""Which process holds something: names for processes that tell a dead one from a live one."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


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


def is_alive(holder: str) -> bool:
    """Is the process of that name still there?  Only of this machine can it be known."""
    boot, _, rest = holder.partition("/")
    pid, _, start = rest.partition("/")
    return boot == boot_id() and pid.isdigit() and _start_time(int(pid)) == start


def pid_of(holder: str) -> int:
    """The process id in a name."""
    return int(holder.split("/")[1])
