"""Finding and mending what is wrong with a writable tree, as fsck(8).

Every pass reads the spaces of keys it is about once, in order.  Memory does not grow with files;
each directory takes 17 bytes.
"""

from kvfs.checking.check import Report, check, problems
from kvfs.checking.problems import Kind, Problem

__all__ = ["Kind", "Problem", "Report", "check", "problems"]
