"""Tar archives as streams: reader, writer, and decompression by content.

Knows nothing of stores or of what a safe path is: names and attributes are handed out as they
stand in the archive.
"""

from __future__ import annotations

from kvfs.tar.compression import open_tar_stream
from kvfs.tar.limits import CompressionLimits, TarLimits
from kvfs.tar.member import Member, MemberType
from kvfs.tar.problems import NotATarball, Problem, ProblemKind, Truncated
from kvfs.tar.readahead import ReadAhead
from kvfs.tar.reader import TarReader
from kvfs.tar.window import ByteStream
from kvfs.tar.writer import TarWriter

__all__ = [
    "ByteStream",
    "CompressionLimits",
    "Member",
    "MemberType",
    "NotATarball",
    "Problem",
    "ProblemKind",
    "ReadAhead",
    "TarLimits",
    "TarReader",
    "TarWriter",
    "Truncated",
    "open_tar_stream",
]
