"""What is measured: small objects, large ones, and ranges; every answer is compared."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Event

import attrs

from kvfs.backing import BackingStore
from kvfs.errors import Corrupt
from kvfs_bench.kv.histogram import Histogram
from kvfs_bench.stores.checks import drained

_RANGE_BYTES = 128 << 10
_STEP = 1 << 20


@attrs.frozen(kw_only=True)
class Plan:
    """How much is done."""

    objects: int
    small_bytes: int
    big_objects: int
    big_bytes: int
    threads: int
    seed: int


@attrs.define(kw_only=True)
class Work:
    """One kind of work by one driver, over all rounds."""

    work: str
    threads: int
    operations: int
    """In a round."""
    bytes_each: int
    """Contents that an operation moves; 0: none."""
    wall_s: list[float] = attrs.field(factory=list)
    """Of each round."""
    latencies: Histogram = attrs.field(factory=Histogram)


def run(store: BackingStore, plan: Plan, works: dict[str, Work]) -> None:
    """One round of everything.

    :param works: what was measured before, which this is added to.
    :raises Corrupt: an answer is wrong; a wrong answer has no speed.
    """
    _Round(store, plan, works).run()


@attrs.define
class _Round:
    store: BackingStore
    plan: Plan
    works: dict[str, Work]

    def run(self) -> None:
        plan = self.plan
        names = [f"small/{number % 16:02}/{number:08}" for number in range(plan.objects)]
        big = [f"big/{number}" for number in range(plan.big_objects)]
        ranges = [*self._ranges(big)]
        random.Random(plan.seed).shuffle(names)
        for threads in dict.fromkeys((1, plan.threads)):
            self._do("put small", threads, names, self._put_small, plan.small_bytes)
            self._do("get small", threads, names, self._get_small, plan.small_bytes)
            self._do("stat", threads, names, self._stat)
            if threads == 1:
                self._do("list", 1, [""], partial(self._list, sorted(names)))
            self._do("delete", threads, names, self.store.delete)
            self._do("put big", threads, big, self._put_big, plan.big_bytes)
            self._do("get big", threads, big, self._get_big, plan.big_bytes)
            self._do("get ranges", threads, ranges, self._get_range, _RANGE_BYTES)
            for name in big:
                self.store.delete(name)

    def _do(
        self,
        name: str,
        threads: int,
        items: Sequence[str],
        call: Callable[[str], object],
        bytes_each: int = 0,
    ) -> None:
        """Make the call for every item, in as many threads."""
        own = [items[number::threads] for number in range(threads)]
        broken_off = Event()

        def loop(share: Sequence[str]) -> list[int]:
            found = []
            for item in share:
                if broken_off.is_set():
                    break
                start_ns = time.perf_counter_ns()
                call(item)
                found.append(time.perf_counter_ns() - start_ns)
            return found

        try:
            with ThreadPoolExecutor(threads) as pool:
                start_s = time.perf_counter()
                latencies = [one for found in pool.map(loop, own) for one in found]
                wall_s = time.perf_counter() - start_s
        finally:
            broken_off.set()
        work = self.works.setdefault(
            f"{name} x {threads}",
            Work(work=name, threads=threads, operations=len(items), bytes_each=bytes_each),
        )
        work.wall_s.append(wall_s)
        work.latencies.add(Histogram.of(latencies))

    def _contents(self, name: str, size: int) -> bytes:
        """Other ones for each name, cheap to make: the clock runs."""
        return (name.encode() * (size // len(name) + 1))[:size]

    def _check(self, found: object, expected: object, what: str) -> None:
        if found != expected:
            raise Corrupt(f"{self.store.name}: {what} is not what was written")

    def _put_small(self, name: str) -> None:
        self.store.write(name, self._contents(name, self.plan.small_bytes))

    def _get_small(self, name: str) -> None:
        size = self.plan.small_bytes
        self._check(self.store.read(name, 0, size), self._contents(name, size), name)

    def _stat(self, name: str) -> None:
        self._check(self.store.stat(name).size, self.plan.small_bytes, f"the size of {name}")

    def _list(self, names: Sequence[str], prefix: str) -> None:
        self._check([info.name for info in self.store.list("small/")], names, "a listing")

    def _put_big(self, name: str) -> None:
        block = self._contents(name, _STEP)
        with self.store.open_writer(name) as writer:
            for start in range(0, self.plan.big_bytes, _STEP):
                writer.write(block[: self.plan.big_bytes - start])

    def _get_big(self, name: str) -> None:
        block = self._contents(name, _STEP)
        size = self.plan.big_bytes
        with self.store.open_reader(name) as reader:
            data = drained(reader)
        self._check(len(data), size, f"the size of {name}")
        for start in range(0, size, _STEP):
            self._check(data[start : start + _STEP], block[: size - start], name)

    def _ranges(self, big: Sequence[str]) -> Iterator[str]:
        draw = random.Random(self.plan.seed)
        last = max(1, self.plan.big_bytes - _RANGE_BYTES)
        for number in range(self.plan.objects):
            yield f"{big[number % len(big)]} {draw.randrange(last)}"

    def _get_range(self, item: str) -> None:
        name, start = item.split(" ")
        first = int(start)
        stop = min(first + _RANGE_BYTES, self.plan.big_bytes)
        block = self._contents(name, _STEP) * 2
        within = first % _STEP
        expected = block[within : within + stop - first]
        self._check(self.store.read(name, first, stop), expected, f"a range of {name}")
