"""Log lines about requests that went wrong, without flooding the log."""

from __future__ import annotations

import errno
import logging

from kvfs.errors import KVFSError, errno_of
from kvfs_frontend_fuse.protocol.wire import Opcode

log = logging.getLogger("kvfs_frontend_fuse")
KINDS_MAX = 256


def opcode_name(opcode: int) -> str:
    """``LOOKUP``, or the number of an opcode that is not known."""
    try:
        return Opcode(opcode).name
    except ValueError:
        return str(opcode)


class Complaints:
    """Logs the 1st, 2nd, 4th, 8th ... complaint of each kind: a fault is seen, and seen to last."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def _due(self, kind: str) -> str | None:
        if len(self._counts) >= KINDS_MAX and kind not in self._counts:
            kind = "others"
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count & (count - 1):
            return None
        return "" if count == 1 else f" ({count} times)"

    def malformed(self, opcode: int, size: int) -> None:
        """A request that is not as the protocol says."""
        name = opcode_name(opcode)
        if (times := self._due(f"malformed {name}")) is not None:
            log.error("malformed request %s of %d bytes refused%s", name, size, times)

    def refused(self, opcode: int, error: OSError) -> None:
        """A reply that the kernel did not take."""
        name = opcode_name(opcode)
        if (times := self._due(f"refused {name} {error.errno}")) is not None:
            log.error("the kernel refused the reply to %s: %s%s", name, error, times)

    def failed(self, opcode: int, inode: int, error: Exception) -> int:
        """A request that raised; returns the errno to answer with.

        What the caller can learn from the errno is not logged; where it sees but EIO, the log says
        why.
        """
        number = errno_of(error)
        if number != errno.EIO:
            return number
        name = opcode_name(opcode)
        if isinstance(error, KVFSError):
            if (times := self._due(f"{error.kind} {name}")) is not None:
                log.error("%s of inode %#x failed: %s%s", name, inode, error, times)
        elif (times := self._due(f"{type(error).__name__} {name}")) is not None:
            log.error("%s of inode %#x failed%s", name, inode, times, exc_info=error)
        return number
