"""What a process must not inherit: connections, and threads that are not there any more."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One ``T`` for each process: after a fork the child makes its own when it first wants it.

    The parent's is kept there, and never used or closed: its sockets are the parent's.

    :param make: may be called by two threads at once; one of the two is dropped, unused.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """That of this process."""
        here = os.getpid()
        made = self._made.get(here)
        return self._made.setdefault(here, self._make()) if made is None else made

    def made(self) -> T | None:
        """That of this process, if it was ever wanted."""
        return self._made.get(os.getpid())


__all__ = ["PerProcess"]
