"""The two ways to ask for work, as load testing tells them apart.

*Closed*: the next step begins when the last one ended; this finds the highest throughput.  *Open*:
steps begin at fixed times whatever the engine does, and a latency counts from the time at which the
step was to begin.  So one slow answer is held against everybody who would have come meanwhile,
which a closed loop hides ("coordinated omission", Gil Tene, "How NOT to measure latency", 2013).
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Sequence

import attrs

Step = Callable[[], None]
"""One operation, its answer checked; ``StopIteration`` if nothing is left to do."""

_SLEEP_SPARE_NS = 200_000
"""Waited for by looking at the clock: the kernel wakes a sleeper up later than it asked for."""


@attrs.frozen
class Ran:
    """What a loop measured."""

    latencies_ns: array[int]
    wall_ns: int
    cpu_s: float | None = None
    """CPU time of the process within the steps, where the loop looks at that itself."""


def closed(step: Step, *, seconds: float) -> Ran:
    """Step after step, for ``seconds`` or until it is finished."""
    stamps = array("q")
    add, clock = stamps.append, time.perf_counter_ns
    start = now = clock()
    end = start + round(seconds * 1e9)
    try:
        while now < end:
            step()
            now = clock()
            add(now)
    except StopIteration:
        now = clock()
    latencies, before = array("q"), start
    for stamp in stamps:
        latencies.append(stamp - before)
        before = stamp
    return Ran(latencies, now - start)


def supplied(step: Step, *, supply: Callable[[], None]) -> Ran:
    """Step after step until ``supply``, which makes ready for the next one, has nothing more.

    Clock and CPU time stand still while it does.
    """
    latencies, total_ns, total_s = array("q"), 0, 0.0
    try:
        while True:
            supply()
            cpu_s, start = time.process_time(), time.perf_counter_ns()
            step()
            took = time.perf_counter_ns() - start
            total_s += time.process_time() - cpu_s
            latencies.append(took)
            total_ns += took
    except StopIteration:
        return Ran(latencies, total_ns, total_s)


def open_(step: Step, *, seconds: float, per_second: float) -> Ran:
    """A step every ``1 / per_second``; it gives up when it is late by twice ``seconds``."""
    latencies = array("q")
    add, clock, sleep = latencies.append, time.perf_counter_ns, time.sleep
    gap = 1e9 / per_second
    start = now = clock()
    latest = start + round(3 * seconds * 1e9)
    try:
        for number in range(max(round(seconds * per_second), 1)):
            due = start + round(number * gap)
            while (ahead := due - now) > 0:
                if ahead > _SLEEP_SPARE_NS:
                    sleep((ahead - _SLEEP_SPARE_NS) / 1e9)
                now = clock()
            step()
            now = clock()
            add(now - due)
            if now > latest:
                break
    except StopIteration:
        now = clock()
    return Ran(latencies, now - start)


def together(steps: Sequence[Step], loop: Callable[[Step], Ran]) -> list[Ran]:
    """A loop over each step, in a thread each that start together; the first error is raised."""
    if len(steps) == 1:
        return [loop(steps[0])]
    barrier = threading.Barrier(len(steps))
    found: list[Ran] = []
    failed: list[BaseException] = []

    def work(step: Step) -> None:
        barrier.wait()
        try:
            found.append(loop(step))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return found
