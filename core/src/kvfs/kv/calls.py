"""For drivers: calls of an engine, their errors, and that it is not closed under any of them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from types import TracebackType

from kvfs.errors import Closed, KVFSError


class Calls:
    """``with calls:`` around what uses the engine: raises KVFS's errors for the engine's.

    :meth:`end` waits for those that are under way.
    """

    def __init__(
        self, name: str, translate: Callable[[BaseException, str], KVFSError | None]
    ) -> None:
        """
        :param name: what errors call the store.
        :param translate: from an error, and that name, to ours; ``None``: it is none of the engine.
        """
        self._name = name
        self._translate = translate
        self._condition = Condition()
        self._running = 0
        self._ended = False

    def __enter__(self) -> None:
        """:raises Closed: they have ended."""
        with self._condition:
            if self._ended:
                raise Closed(f"{self._name}: the store is closed")
            self._running += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._condition:
            self._running -= 1
            if self._ended:
                self._condition.notify_all()
        if value is not None and (ours := self._translate(value, self._name)) is not None:
            raise ours from value

    def end(self) -> bool:
        """Let no call begin any more and wait for those that run.

        :returns: ``False``: somebody else did so before.
        """
        with self._condition:
            first = not self._ended
            self._ended = True
            self._condition.wait_for(lambda: not self._running)
            return first
