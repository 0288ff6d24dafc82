"""Telling the kernel what it must not believe any longer."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import ParamSpec

import pyfuse3
from pyfuse3 import FileNameT, InodeT

log = logging.getLogger(__name__)

_FINE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED})

P = ParamSpec("P")
Change = tuple[Sequence[tuple[int, bytes]], Sequence[int]]


class Invalidations:
    """Passes changes of a volume on to the kernel, in a thread and in order.

    A thread of its own, since the kernel takes the lock of a directory for it, which somebody may
    hold who waits for an answer of the event loop.
    """

    def __init__(self) -> None:
        self._queue: SimpleQueue[Change | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="kvfs-invalidate", daemon=True)
        self._thread.start()

    def changed(self, entries: Sequence[tuple[int, bytes]], directories: Sequence[int]) -> None:
        """Take note of a change; from any thread, at once.

        :param entries: (directory, name): the names that lead elsewhere now.
        :param directories: inodes whose listing or attributes are others now.
        """
        self._queue.put((entries, directories))

    def close(self, timeout_s: float | None = None) -> bool:
        """Tell the kernel nothing any more; has the thread ended?"""
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (change := self._queue.get()) is not None:
            entries, directories = change
            for parent, name in entries:
                _tell(pyfuse3.invalidate_entry, InodeT(parent), FileNameT(name))
            for inode in directories:
                _tell(pyfuse3.invalidate_inode, InodeT(inode))


def _tell(invalidate: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        invalidate(*args, **kwargs)
    except OSError as error:
        # Most often the kernel does not know it, or knows nothing since the mount has ended.
        if error.errno not in _FINE:
            log.warning("the kernel was not told of a change: %s", error)
