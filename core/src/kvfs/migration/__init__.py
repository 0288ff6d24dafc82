"""Moving a volume's records: to another engine, to a file, and back."""

from kvfs.migration.dump import DumpSummary, dump, examine, load
from kvfs.migration.progress import Report
from kvfs.migration.sync import copy

__all__ = ["DumpSummary", "Report", "copy", "dump", "examine", "load"]
