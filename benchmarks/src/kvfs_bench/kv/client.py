"""The process that uses an engine, ``python -m kvfs_bench.kv.client``: told what to do by lines.

A process of its own, so that its memory, its CPU time and what it writes are the engine's and the
harness's alone; and so that it can be killed.  Commands are JSON objects on standard input with a
key ``do``; each is answered by one on the descriptor that the first argument names.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import attrs

from kvfs.capability import Durability
from kvfs.config import structure
from kvfs.kv import KVDriver, KVStore
from kvfs.registry import find
from kvfs_bench.answering import answer_until_the_end
from kvfs_bench.kv import dictionary
from kvfs_bench.kv.histogram import Histogram
from kvfs_bench.kv.loops import Ran, Step, closed, open_, supplied, together
from kvfs_bench.kv.works import BY_ID, Session, Sizes, Task

Answer = dict[str, Any]
_KILL_KEY = b"\x01killed"


def _opener(engine: str, settings: dict[str, Any]) -> Callable[..., KVDriver]:
    """A function of (store, durability); what it needs is imported by now."""
    if engine == dictionary.NAME:
        return lambda **_: dictionary.Dictionary()
    info = find("kv", engine)
    return partial(info.load(), structure(settings, info.settings, where=f"[{engine}]"))


@attrs.define
class Client:
    """What has been opened and prepared."""

    session: Session | None = None
    task: Task | None = None
    run: Callable[[], Answer] | None = None

    def open(
        self,
        engine: str,
        settings: dict[str, Any],
        store: str,
        durability: str,
        sizes: dict[str, int],
        is_writer: bool,
    ) -> Answer:
        """Open a store; the time is that until it has answered once."""
        level = Durability[durability.upper()]
        opener = _opener(engine, settings)
        start = time.perf_counter()
        driver = opener(store=store, durability=level)
        opened = KVStore(driver, name=engine)
        opened.get(b"\x01absent")
        open_s = time.perf_counter() - start
        self.session = Session(
            store=opened, durability=level, sizes=Sizes(**sizes), is_writer=is_writer
        )
        return {"open_s": open_s} | attrs.asdict(opened.capability)

    def prepare(
        self,
        work: str,
        threads: int,
        seed: str,
        seconds: float | None,
        per_second: float | None,
    ) -> Answer:
        """Make ready for a work, so that ``go`` begins with its first step."""
        session = self._session()
        self.task = task = BY_ID[work].make(session, Random(seed))
        steps = [task.step() for _ in range(threads)]
        loop: Callable[[Step], Ran]
        if seconds is None:
            loop = partial(supplied, supply=task.supply)
        elif per_second is None:
            loop = partial(closed, seconds=seconds)
        else:
            loop = partial(open_, seconds=seconds, per_second=per_second / threads)
        self.run = partial(self._run, steps, loop)
        # Nothing of the harness is looked at by the collector while the clock runs.
        gc.collect()
        gc.freeze()
        return {}

    def go(self) -> Answer:
        """Do what was prepared."""
        assert self.run is not None
        return self.run()

    def _run(self, steps: list[Step], loop: Callable[[Step], Ran]) -> Answer:
        task = self.task
        assert task is not None
        cpu = time.process_time()
        parts = together(steps, loop)
        cpu = time.process_time() - cpu if parts[0].cpu_s is None else parts[0].cpu_s
        histogram = Histogram()
        for part in parts:
            histogram.add(Histogram.of(part.latencies_ns))
        steps_done = histogram.total
        return {
            "steps": steps_done,
            "items": task.items or steps_done,
            "wall_s": max(part.wall_ns for part in parts) / 1e9,
            "cpu_s": cpu,
            "bytes_put": task.bytes_put,
            "histogram": histogram.as_dict(),
        }

    def finish(self, steps: int) -> Answer:
        """Untimed checks after a work; which, and how many."""
        assert self.task is not None
        session = self._session()
        session.checks.clear()
        self.task.finish(steps)
        self.task = self.run = None
        gc.unfreeze()
        return {"checks": dict(session.checks)}

    def close(self) -> Answer:
        """Close the store; how long that took."""
        start = time.perf_counter()
        self._session().store.close()
        self.session = None
        return {"close_s": time.perf_counter() - start}

    def die(self) -> Answer:
        """Commit something, and be killed at once."""
        self._session().store.put(_KILL_KEY, b"x", self._session().durability)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    def remove(self, engine: str, settings: dict[str, Any], store: str) -> Answer:
        """Remove a store that is not open."""
        if engine != dictionary.NAME:
            info = find("kv", engine)
            info.remove_store(structure(settings, info.settings, where=f"[{engine}]"), store=store)
        return {}

    def _session(self) -> Session:
        assert self.session is not None, "no store is open"
        return self.session


def main() -> None:
    """Answer until standard input ends."""
    client = Client()
    answer_until_the_end(client)
    if client.session is not None:
        client.session.store.close()


if __name__ == "__main__":
    main()
