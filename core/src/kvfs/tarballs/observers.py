"""Who wants to know that a name now leads to something else.

What is inside one version of a tarball never changes, so there is nothing to tell about that.  What
changes are the directories above the tarballs, and which version a tarball's name leads to.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Protocol

log = logging.getLogger(__name__)

Entry = tuple[int, bytes]
"""The inode of a directory, and a name in it."""


class Observer(Protocol):
    """Is told of changes made by this process, after they were committed.

    Called by whatever thread committed, which may be any but one that reads; what one thread
    commits is told in its order.  Must not raise, and may block only for what goes on without
    refreshes and ingests.
    """

    def changed(self, entries: Sequence[Entry], directories: Sequence[int]) -> None:
        """Names were added, removed, or lead to something else, and attributes changed.

        :param entries: the names.
        :param directories: inodes above the tarballs, or of roots of tarballs, whose attributes or
            entries are others now.
        """


class Observers:
    """Those who are told.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._observers: tuple[Observer, ...] = ()

    def subscribe(self, observer: Observer) -> Callable[[], None]:
        """Tell ``observer`` from now on, until what this returns is called.

        A call that has begun by then may still be under way.
        """
        with self._lock:
            self._observers = (*self._observers, observer)

        def unsubscribe() -> None:
            with self._lock:
                self._observers = tuple(one for one in self._observers if one is not observer)

        return unsubscribe

    def tell(self, entries: Iterable[Entry], directories: Iterable[int]) -> None:
        """Tell everybody."""
        if not self._observers:
            return
        changed_entries, changed_directories = [*entries], [*directories]
        for observer in self._observers:
            try:
                observer.changed(changed_entries, changed_directories)
            except Exception:
                log.exception("what changed could not be told to %r", observer)
