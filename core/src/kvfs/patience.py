"""How long to go on with what fails for a while: exponential backoff with full jitter.

Before the n-th repetition a time is waited that is drawn evenly from nothing to
``delay_first_s * 2**(n-1)``, at most ``delay_max_s`` (M. Brooker, "Exponential Backoff And Jitter",
AWS Architecture Blog, 2015).  What may be repeated is for the caller to know.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import attrs

from kvfs.errors import Invalid, KVFSError


@attrs.frozen(kw_only=True)
class Patience:
    """The limits of one call, whatever it calls.

    :param attempts: how often it is made at most.
    :param total_s: no repetition begins later than this after the first attempt.
    :param sleep: with ``clock`` and ``draw`` (evenly from 0 to 1), injected by tests; one that
        returns early, as that of an event, ends all waiting.
    """

    attempts: int = 6
    delay_first_s: float = 0.05
    delay_max_s: float = 2.0
    total_s: float = 30.0
    sleep: Callable[[float], object] = time.sleep
    clock: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random

    def __attrs_post_init__(self) -> None:
        if self.attempts < 1 or min(self.delay_first_s, self.delay_max_s, self.total_s) < 0:
            raise Invalid("repetition needs one attempt and no negative times")

    def begin(self) -> Attempts:
        """Now is the first attempt."""
        return Attempts(self)


@attrs.define
class Attempts:
    """What is left of one call's attempts and time."""

    patience: Patience
    began_s: float = attrs.field(init=False)
    failures: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self.began_s = self.patience.clock()

    def wait(self, error: KVFSError, *, at_least_s: float = 0.0) -> None:
        """Wait before the next attempt, or raise the error if there is to be none.

        :param at_least_s: what the server asked for; the drawn time comes on top, since it asked
            everybody for the same.
        """
        limits = self.patience
        self.failures += 1
        if not error.retryable or self.failures >= limits.attempts:
            raise error
        longest_s = min(limits.delay_max_s, limits.delay_first_s * 2 ** min(self.failures - 1, 60))
        wait_s = at_least_s + longest_s * limits.draw()
        if limits.clock() - self.began_s + wait_s > limits.total_s:
            raise error
        limits.sleep(wait_s)


__all__ = ["Attempts", "Patience"]
