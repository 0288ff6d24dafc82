"""What a server is asked and what it costs, between two looks."""

from __future__ import annotations

import attrs

from kvfs_bench import processes
from kvfs_bench.mount.contestants import Served
from kvfs_bench.results import Measurement

COUNTED, REPLIES = "counted", "replies"


@attrs.define
class Meter:
    """The server behind one mount."""

    _pid: int
    _served: Served
    _kind: str
    _requests: int | None = None
    _own: int = 0
    """How many requests it takes to ask the server for its count."""
    _cpu_s: float = 0.0

    @classmethod
    def of(cls, served: Served) -> Meter | None:
        """``None``: nothing is served by a process."""
        if served.pid is None:
            return None
        # Asked once here: a server that does not count is not asked again.
        counts = served.count is not None and served.count() is not None
        return cls(served.pid, served, COUNTED if counts else REPLIES)

    def start(self) -> None:
        """The work is about to begin."""
        processes.reset_peak(self._pid)
        self._requests = self._count()
        if self._kind == COUNTED and self._requests is not None:
            again = self._count()
            self._own = 0 if again is None else again - self._requests
            self._requests = again
        self._cpu_s = processes.cpu_s(self._pid)

    def stop(self, row: Measurement) -> None:
        """The work is done: what it took goes into its row."""
        row.server_cpu_s.append(processes.cpu_s(self._pid) - self._cpu_s)
        row.keep_peak(processes.peak_of(self._pid))
        now = self._count()
        if self._requests is not None and now is not None:
            row.requests.append(now - self._requests - self._own)
            row.requests_are = self._kind

    def _count(self) -> int | None:
        if self._kind == REPLIES:
            return processes.writes(self._pid)
        assert self._served.count is not None
        return self._served.count()
