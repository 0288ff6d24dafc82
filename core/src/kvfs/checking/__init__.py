"""Finding and mending what is wrong with trees that are written to, as fsck(8).

A tree is that of a volume without a store, or that of a tarball that was changed.

Every pass reads the spaces of keys it is about once, in order.  Memory does not grow with files;
each directory takes 17 bytes.
"""

from kvfs.checking.check import Report, check, problems
from kvfs.checking.problems import Kind, Problem

__all__ = ["Kind", "Problem", "Report", "check", "problems"]
