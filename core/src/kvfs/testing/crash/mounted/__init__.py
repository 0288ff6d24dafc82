"""The crash runner on a mount that is written to: its processes are killed under load.

Several processes (:mod:`~kvfs.testing.crash.mounted.load`) change files, and say outside of the
mount what they have done.  The runner (:mod:`~kvfs.testing.crash.mounted.runner`) kills the worker,
the supervisor or both, and looks (:mod:`~kvfs.testing.crash.mounted.checking`) whether what is left
is the beginning of one order of all operations, with all in it that fsync has promised, and all
that is older than the loss window.  Inside tarballs each load begins with files that nobody has
written to, or even fetched::

    python -m kvfs.testing.crash.mounted --kv lmdb --durability power --kills 100 --seed 7
    python -m kvfs.testing.crash.mounted --inside tarball --kills 100
"""

from __future__ import annotations

from kvfs.testing.crash.mounted.runner import Inside, MountedCrash, Report, Victim

__all__ = ["Inside", "MountedCrash", "Report", "Victim"]
