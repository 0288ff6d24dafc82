"""Calls to a server, made again where that does no harm.

Reads can be repeated, and so can a put or a delete without a condition: the same bytes under the
same name are the same object.  A write on a condition whose answer was lost would meet its own
traces; a driver repeats it only if it can tell these from those of somebody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from kvfs.errors import KVFSError, Unavailable
from kvfs.patience import Attempts, Patience

T = TypeVar("T")


class Throttled(Unavailable):
    """The server refused because it is busy (503 SlowDown, 429): nothing was done.

    :param after_s: how long it asked to be left alone (``Retry-After``), in seconds.
    """

    def __init__(self, message: str, *, after_s: float = 0.0) -> None:
        super().__init__(message, unapplied=True)
        self.after_s = after_s


def wait_after(error: KVFSError, attempts: Attempts) -> None:
    """Wait as long as is right after this error, or raise it if it is not to be tried again."""
    attempts.wait(error, at_least_s=error.after_s if isinstance(error, Throttled) else 0.0)


def repeated(call: Callable[[], T], patience: Patience) -> T:
    """The answer of ``call``, which is made again as long as its errors say that it may help."""
    attempts = patience.begin()
    while True:
        try:
            return call()
        except KVFSError as error:
            wait_after(error, attempts)


__all__ = ["Throttled", "repeated", "wait_after"]
