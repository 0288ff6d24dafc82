"""The crash runner: writers that are killed at random points, again and again, over one store.

A writer (:mod:`~kvfs.testing.crash.writer`) commits guarded batches that follow from a seed
(:mod:`~kvfs.testing.crash.workload`), and says so, outside the store, once a commit has returned.
The runner (:mod:`~kvfs.testing.crash.runner`) kills it: while it starts, opens, commits, compacts,
closes.  The next writer opens the same store and looks (:mod:`~kvfs.testing.crash.verify`) whether
every promised batch is there, of each writer at most one more, each whole, and nothing else.  Then
it goes on, so that one store survives all kills of a run::

    python -m kvfs.testing.crash --kv lmdb --durability power --kills 1000 --seed 7
"""

from __future__ import annotations

from kvfs.testing.crash.orders import Orders
from kvfs.testing.crash.runner import CrashFailed, CrashRun, Report
from kvfs.testing.crash.verify import Expected, Violation
from kvfs.testing.crash.workload import Workload

__all__ = ["CrashFailed", "CrashRun", "Expected", "Orders", "Report", "Violation", "Workload"]
