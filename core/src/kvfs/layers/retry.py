"""The layer ``retry``: makes a read again that failed for a while.

Waits grow exponentially with full jitter (:mod:`kvfs.patience`).

**What is repeated.**  Only errors that say they are retryable, and only calls that can be made
twice without harm: reads.  A write whose answer was lost may have been applied.  Sending it again
could apply it a second time, over what somebody else wrote in between; and with guards it would
meet its own traces and report a conflict that is none.  Only the caller can know, by reading what
it meant to change.  So an error of a write passes through at once, unless it is known that the
write was not applied: ``Unavailable`` that says so, or, by the interface's promise, ``Exhausted``;
if the engine calls these retryable, a commit is sent again.

A scan of the driver that fails in its midst is not taken up again: the rest would show another
instant.  That of a view is, from behind its last record, and so is a listing.  A stream is not: the
object may be another one by now.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import attrs

from kvfs.backing.driver import BackingDriver
from kvfs.config import Seconds, setting
from kvfs.errors import Exhausted, Invalid, KVFSError, Unavailable
from kvfs.kv.driver import KVDriver
from kvfs.layers.around import Around, BackingAround, KVAround, Measure, nothing
from kvfs.patience import Attempts, Patience

T = TypeVar("T")

_KV_READS = frozenset(("get", "get_many", "scan", "snapshot", "refresh", "watch", "stats"))
_BACKING_READS = frozenset(("stat", "list", "read", "open_reader", "free_space"))
REPEATABLE = _KV_READS | _BACKING_READS
"""Operations that can be made twice without harm."""


@attrs.frozen
class RetrySettings:
    """How long to go on."""

    attempts: int = setting(6, help="how often a call is made at most")
    delay_first: Seconds = setting(
        Seconds(0.05), help="longest wait before the first repetition; doubles with each"
    )
    delay_max: Seconds = setting(Seconds(2.0), help="longest wait before any repetition")
    total: Seconds = setting(
        Seconds(30.0), help="no repetition begins later than this after the first attempt"
    )

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1 or min(self.delay_first, self.delay_max, self.total) < 0:
            raise Invalid("the layer retry needs one attempt and no negative times")


def _wait(attempts: Attempts, operation: str, error: KVFSError) -> None:
    """Wait before the next attempt, or raise the error if there is to be none."""
    if not _may_repeat(operation, error):
        raise error
    attempts.wait(error)


def _may_repeat(operation: str, error: KVFSError) -> bool:
    if not error.retryable:
        return False
    return operation in REPEATABLE or (operation == "commit" and _was_not_applied(error))


def _was_not_applied(error: KVFSError) -> bool:
    return isinstance(error, Exhausted) or (isinstance(error, Unavailable) and error.unapplied)


@attrs.define
class Retry(Around):
    """Repeats calls.

    :param sleep: with ``clock`` and ``draw`` (evenly from 0 to 1), injected by tests.
    """

    settings: RetrySettings
    sleep: Callable[[float], None] = attrs.field(default=time.sleep, kw_only=True)
    clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    draw: Callable[[], float] = attrs.field(default=random.random, kw_only=True)

    def _begin(self) -> Attempts:
        settings = self.settings
        return Patience(
            attempts=settings.attempts,
            delay_first_s=settings.delay_first,
            delay_max_s=settings.delay_max,
            total_s=settings.total,
            sleep=self.sleep,
            clock=self.clock,
            draw=self.draw,
        ).begin()

    def call(
        self,
        operation: str,
        function: Callable[[], T],
        *,
        sent: Callable[[], int] = nothing,
        received: Measure[T] = nothing,
    ) -> T:
        attempts = self._begin()
        while True:
            try:
                return function()
            except KVFSError as error:
                _wait(attempts, operation, error)

    def items(
        self,
        operation: str,
        begin: Callable[[], Iterator[T]],
        *,
        received: Measure[T] = nothing,
        resume: Callable[[T, int], Iterator[T]] | None = None,
    ) -> Iterator[T]:
        first = self.call(operation, begin)
        return self._resumed(operation, first, begin, resume)

    def _resumed(
        self,
        operation: str,
        iterator: Iterator[T] | None,
        begin: Callable[[], Iterator[T]],
        resume: Callable[[T, int], Iterator[T]] | None,
    ) -> Iterator[T]:
        seen = 0
        again = begin
        attempts = self._begin()
        while True:
            try:
                if iterator is None:
                    iterator = again()
                item = next(iterator)
            except StopIteration:
                return
            except KVFSError as error:
                if seen and resume is None:
                    raise
                _wait(attempts, operation, error)
                iterator = None
                continue
            seen += 1
            if resume is not None:
                again = partial(resume, item, seen)
            yield item
            attempts = self._begin()


def wrap_kv(driver: KVDriver, settings: RetrySettings) -> KVDriver:
    """An engine whose reads are made again."""
    return KVAround(driver, Retry(settings))


def wrap_backing(driver: BackingDriver, settings: RetrySettings) -> BackingDriver:
    """A store of objects whose reads are made again."""
    return BackingAround(driver, Retry(settings))
