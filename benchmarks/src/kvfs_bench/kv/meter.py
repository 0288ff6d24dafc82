"""What processes use, seen from outside: CPU time, bytes written, memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from kvfs_bench import processes


def _fields(file: str, pid: int) -> dict[str, int]:
    """The numbers of a file of /proc/PID with a name before each; sizes in KiB as bytes."""
    found = {}
    for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) << (10 if words[-1] == "kB" else 0)
    return found


def _sums(file: str, pids: Iterable[int], names: Sequence[str]) -> list[int] | None:
    """Over processes and all that descend from them; ``None``: the kernel does not say."""
    totals = [0] * len(names)
    for pid in pids:
        for member in processes.family(pid):
            try:
                found = _fields(file, member)
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended
            except OSError:
                return None
            totals = [total + found.get(name, 0) for total, name in zip(totals, names, strict=True)]
    return totals


def written_bytes(pids: Iterable[int]) -> int | None:
    """Bytes of files on disk that the processes have changed so far, page by page.

    ``write_bytes`` of /proc/PID/io: a page of the page cache counts when it becomes dirty, so one
    that is changed ten times before it is written back counts once, as on the disk.  Children that
    ended are in their parents' counts.
    """
    found = _sums("io", pids, ["write_bytes"])
    return None if found is None else found[0]


@attrs.frozen
class Memory:
    """Memory of processes, at this moment."""

    anonymous: int
    """Heap, stacks, shared memory that is no file: what only they can give back."""
    total: int
    """With mapped pages of files, each shared one divided among its users (PSS)."""


def memory(pids: Iterable[int]) -> Memory | None:
    """Of processes and all that descend from them; ``None``: the kernel does not say."""
    found = _sums("smaps_rollup", pids, ["Pss_Anon", "Pss_Shmem", "Pss"])
    return None if found is None else Memory(found[0] + found[1], found[2])


def cpu_s(pids: Iterable[int]) -> float:
    """CPU time that processes and their children have used so far."""
    return sum(processes.cpu_s(pid) for pid in pids)


def disk_bytes(directory: Path) -> int:
    """Blocks that all files below a directory take."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(Path(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass  # a server goes on working
    return total
