"""What the kernel has to forget: names that lead elsewhere now (NOTIFY_INVAL_ENTRY and _INODE).

Names above the tarballs, and the attributes there, are given to the kernel for a second, so it
learns of every change by itself.  This makes it learn at once.  What is inside a version of a
tarball never changes, has inode numbers of its own and is never invalidated.

For a name the kernel takes the lock of the directory, which somebody may hold who waits for an
answer of ours.  So a thread that answers requests must never notify, nor hold anything that such a
thread needs; and the session has to go on answering until :meth:`Invalidator.close` has returned.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import attrs

from kvfs.files import Buffer
from kvfs_frontend_fuse.protocol.wire import INVAL_ENTRY_OUT, INVAL_INODE_OUT, OUT_HEADER, Notify
from kvfs_frontend_fuse.serving.complaints import log
from kvfs_frontend_fuse.serving.ending import Ending
from kvfs_frontend_fuse.serving.session import VolumeAPI

_ENDED = frozenset({errno.ENODEV, errno.ENOTCONN, errno.ECONNABORTED, errno.EPERM})
CLOSE_S = 10.0
"""How long :meth:`Invalidator.close` waits for a notification that is under way."""


class Invalidator:
    """Tells the kernel of one mount what changed.  An observer of a volume; thread-safe.

    :param descriptor: an open device of the mount.  Its owner may close it at any time: this works
        on a duplicate, which :meth:`close` closes.
    """

    def __init__(self, descriptor: int) -> None:
        # One at a time: the changes of one thread arrive in their order anyway, and close() can
        # wait for the one that is under way.
        self._lock = Lock()
        self._descriptor = os.dup(descriptor)
        self._ended = False

    def changed(self, entries: Sequence[tuple[int, bytes]], directories: Sequence[int]) -> None:
        """Have names looked up again, and attributes and listings of directories asked for again.

        After the end of the mount, and after :meth:`close`, nothing happens.
        """
        for parent, name in entries:
            body = INVAL_ENTRY_OUT.pack(parent, len(name), 0)
            self._notify(Notify.INVAL_ENTRY, (body, name, b"\0"))
        for inode in directories:
            # All pages: those of a directory are its cached listing.
            self._notify(Notify.INVAL_INODE, (INVAL_INODE_OUT.pack(inode, 0, 0),))

    def _notify(self, code: Notify, body: tuple[Buffer, ...]) -> None:
        total = OUT_HEADER.size + sum(map(len, body))
        head = OUT_HEADER.pack(total, code, 0)
        with self._lock:
            if self._ended:
                return
            try:
                os.writev(self._descriptor, (head, *body))
            except OSError as error:
                if error.errno in _ENDED:
                    self._ended = True
                elif error.errno != errno.ENOENT:  # which is what it does not know anyway
                    log.warning("the kernel did not take %s: %s", code.name, error)

    def close(self) -> None:
        """Notify no more; a notification that is under way is waited for.  Idempotent."""
        self._ended = True
        if not self._lock.acquire(timeout=CLOSE_S):
            log.warning("a notification does not end; its descriptor is left open")
            return
        try:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
        finally:
            self._lock.release()


@contextmanager
def invalidating(volume: VolumeAPI, invalidator: Invalidator) -> Iterator[None]:
    """Have the kernel told of what changes."""
    unsubscribe = volume.subscribe(invalidator)
    try:
        yield
    finally:
        unsubscribe()
        invalidator.close()


@attrs.define
class Quiet:
    """A session that ends when no notification is under way any more: see above."""

    _session: Ending
    _invalidator: Invalidator

    def end(self) -> None:
        self._invalidator.close()
        self._session.end()
