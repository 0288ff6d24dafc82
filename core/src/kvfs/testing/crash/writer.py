"""The process that is killed: ``python -m kvfs.testing.crash.writer ORDERS``.

It opens the store, looks whether all is there that must be, and then writes batch after batch until
somebody ends it, now and then compacting the store or closing and opening it.  Each of these steps
is a line on standard output, written when the step is done, or, with a word that ends in ``ing``,
before it is begun.  A pipe keeps what a killed process wrote into it, so the promises outlive the
writer, outside the store.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from kvfs.capability import Durability
from kvfs.errors import Conflict, Corrupt, KVFSError, Stale, Unavailable
from kvfs.kv.driver import Batch
from kvfs.kv.store import KVStore
from kvfs.testing.crash.orders import FAILED, Orders
from kvfs.testing.crash.verify import Violation, steps_of, verify_all, verify_own
from kvfs.testing.crash.workload import TOTAL, step_key
from kvfs.testing.harness import KVHarness

T = TypeVar("T")

RETRY_S = 20.0
"""So long a store that is only busy for the moment is asked again."""
_PAUSE_S = 0.02
_CONFLICTS_MAX = 5_000
_LOOKS_MAX = 20


@attrs.define
class Writer:
    """One life of the process."""

    orders: Orders
    say: Callable[[str], None]
    harness: KVHarness
    store: KVStore = attrs.field(init=False)
    _unsure: bool = False
    """Was there a commit whose outcome nobody told?"""

    def run(self) -> None:
        """Verify, then write."""
        orders = self.orders
        self._open()
        self._unsure = self.store.capability.is_network  # a batch of the killed may be on its way
        steps = self._verified()
        self.say(f"verified {' '.join(map(str, steps))}")
        step = steps[orders.writer]
        last = None if orders.steps is None else step + orders.steps
        rng = random.Random(f"{orders.workload.seed}/{orders.writer}/{step}/upkeep")
        while step != last:
            step += 1
            self._commit(step)
            self.say(f"promised {step}")
            if rng.random() < orders.upkeep:
                self.say("compacting")
                self.store.compact()
                self.say("compacted")
            if rng.random() < orders.upkeep:
                self._close()
                self._open()
        self._close()

    def _open(self) -> None:
        level = Durability[self.orders.durability.upper()]
        self.say("opening")
        opened = _patiently(lambda: self.harness.open(durability=level))
        self.store = KVStore(opened, name=self.orders.driver)
        self.say("opened")

    def _close(self) -> None:
        self.say("closing")
        self.store.close()
        self.say("closed")

    def _verified(self) -> Sequence[int]:
        orders, store = self.orders, self.store
        for _ in range(_LOOKS_MAX):
            before = self._steps()
            try:
                if orders.verify == "all":
                    return verify_all(store, orders.workload, orders.expected)
                own = orders.expected[orders.writer]
                before[orders.writer] = verify_own(store, orders.workload, orders.writer, own)
                return before
            except Stale:
                pass  # another writer's compacting took the instant away
            except Violation:
                # Without snapshots the last batch of a killed client may arrive while one looks.
                late = self._unsure and not store.capability.snapshot
                if not late or self._steps() == before:
                    raise
        raise Violation(f"{_LOOKS_MAX} times the store changed while it was looked at")

    def _steps(self) -> list[int]:
        return steps_of(self.store.driver, len(self.orders.expected))

    def _commit(self, step: int) -> None:
        """Make the batch.  Every guard is one that holds, unless others write the total."""
        orders, store = self.orders, self.store
        key, new = step_key(orders.writer), b"%d" % step
        old = b"%d" % (step - 1) if step > 1 else None
        batch = orders.workload.changes(orders.writer, step).guard(key, old).put(key, new)
        for _ in range(_CONFLICTS_MAX):
            try:
                self._try(batch, store.get(TOTAL))
                return
            except Conflict:
                there = store.get(key)
                if there == new and self._unsure:
                    self.say(f"late {step}")
                    return
                if there != old:
                    raise Violation(f"{key!r} is {there!r} before batch {step} was made") from None
            except Unavailable as error:
                if orders.server_dies or not error.retryable:
                    raise
                self._unsure = True
                time.sleep(_PAUSE_S)
        raise Violation(f"batch {step}: {_CONFLICTS_MAX} times somebody else was first")

    def _try(self, batch: Batch, total: bytes | None) -> None:
        batch.guard(TOTAL, total).put(TOTAL, b"%d" % (int(total or b"0") + 1))
        self.store.commit(batch, Durability[self.orders.durability.upper()])


def _patiently(call: Callable[[], T]) -> T:
    """What a call returns, made again while it says that it may succeed yet."""
    deadline = time.monotonic() + RETRY_S
    while True:
        try:
            return call()
        except KVFSError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)


def _speaker(mark: str | None) -> Callable[[str], None]:
    marks = os.open(mark, os.O_WRONLY) if mark is not None else None

    def say(line: str) -> None:
        os.write(1, line.encode() + b"\n")
        if marks is not None:
            os.pwrite(marks, line.encode(), 0)

    return say


def main(orders: Orders) -> int:
    """Do it; the exit status."""
    say = _speaker(orders.mark)
    harness = KVHarness(orders.driver, orders.settings, layers=orders.layers)
    try:
        Writer(orders, say, harness).run()
        return 0
    except BrokenPipeError:
        return 0  # nobody listens any more
    except Violation as violation:
        say(f"violation {violation}")
    except Corrupt as error:
        if orders.may_be_lost:
            harness.remove()
            say(f"lost {error}")
            return 0
        say(f"violation the store is damaged: {error}")
    except Unavailable as error:
        if orders.server_dies:
            say("unavailable")
            return 0
        say(f"violation {error!r}")
    except KVFSError as error:
        say(f"violation {error!r}")
    return FAILED


if __name__ == "__main__":
    sys.exit(main(Orders.loads(sys.argv[1])))
