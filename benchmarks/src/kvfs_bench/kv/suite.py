"""Every engine in turn, round by round: fill a store, work on it, close it, open it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs

from kvfs.capability import Durability
from kvfs.testing.servers.base import ServerFailed
from kvfs_bench import caches
from kvfs_bench.environment import engine_versions
from kvfs_bench.kv import dictionary
from kvfs_bench.kv.places import Engine, Place, reaches
from kvfs_bench.kv.result import KVResult
from kvfs_bench.kv.turn import Turn
from kvfs_bench.kv.works import WORKS, Sizes, Work
from kvfs_bench.scratch import Scratch, remove

FILES, RECORDS, VALUE_BYTES = 50_000, 50_000, 32 << 20
"""At scale 1; bytes are those of one value size."""
_BYTES_PER_FILE = 4 << 10
"""On disk, dirent, inode and contents together, about."""

_NOTES = [
    "every engine is opened by a process of its own; an engine with a server has a server of its "
    "own, on this machine, with a client on this machine: its network is loopback. A server that "
    "can be told to promise the level of the table and no more was told so",
    "closed loop: the next operation begins when the last one ended; it gives the throughput. Open "
    "loop: operations begin at a fixed rate, a part of what the closed loop reached in the same "
    "round, and latencies count from the time at which an operation was to begin",
    "latencies are kept in buckets: off by at most 0.4 %; those of all rounds are taken together "
    "for the curves, figures of rounds have their own",
    "harness is no engine: a dictionary behind the same loop. What it takes is in everybody's "
    "figures: choosing, calling, checking, looking at the clock",
    "tree: files of 64 bytes to 16 KiB, 100 to a directory, 1,000 to a tarball, as the records "
    "that an ingest writes; contents do not compress",
    "YCSB: records of 10 fields of 100 bytes; an update writes all fields, F reads first; zipfian "
    "constant 0.99, scrambled",
    "write amplification: pages of files that client and server dirtied, by the bytes of keys and "
    "values put; of the ingest until the store is closed. A server may write more later",
    "memory: at the end of a work; processes that share pages have their part of them (PSS)",
]


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be measured."""

    engines: list[Engine]
    missing: dict[str, str]
    """Engines that cannot be run, and why."""
    families: frozenset[str]
    """Works by what ``--workload`` calls them."""
    durabilities: list[Durability]
    scale: float
    rounds: int
    seconds: float
    seed: int
    readers: int
    loads: Sequence[float]
    """Rates of the open loops, as parts of what the closed ones reach."""
    files: int | None = None
    records: int | None = None

    @property
    def sizes(self) -> Sizes:
        """How much there is of everything."""
        return Sizes(
            files=self.files or max(round(FILES * self.scale), 40),
            records=self.records or max(round(RECORDS * self.scale), 200),
            value_bytes=max(round(VALUE_BYTES * self.scale), 1),
            seed=self.seed,
        )

    @property
    def works(self) -> list[Work]:
        """The chosen ones, in the order of the table."""
        return [work for work in WORKS if work.family in self.families]


def run(plan: Plan, scratch: Scratch, say: Callable[[str], None]) -> list[KVResult]:
    """Measure: one result for each level of durability."""
    sizes = plan.sizes
    needed = sizes.files * _BYTES_PER_FILE + 4 * sizes.value_bytes + sizes.records * 1100
    scratch.require(10 * needed, "an engine with all its logs")
    return [_level(plan, level, scratch, say) for level in plan.durabilities]


def _level(plan: Plan, level: Durability, scratch: Scratch, say: Callable[[str], None]) -> KVResult:
    name = level.name.lower()
    result = KVResult(
        durability=name,
        scale=plan.scale,
        rounds=plan.rounds,
        seconds=plan.seconds,
        seed=plan.seed,
        readers=plan.readers,
        sizes=attrs.asdict(plan.sizes),
        not_run=dict(plan.missing),
        works={work.title: work.summary for work in plan.works},
        notes=[*_NOTES],
    )
    engines = [Engine(dictionary.NAME, None)]
    for engine in plan.engines:
        if reaches(engine, level):
            engines.append(engine)
        else:
            best = engine.capability.durability.name.lower()
            result.not_run[engine.name] = f"its commits reach durability {best} at most"
    if not caches.can_drop():
        result.notes.append("nothing is cold: only root may drop the kernel's caches")
    for number in range(plan.rounds):
        turn = number % len(engines)
        for place, engine in enumerate([*engines[turn:], *engines[:turn]]):
            say(
                f"kv, durability {name}: round {number + 1} of {plan.rounds}, "
                f"{engine.name} ({place + 1} of {len(engines)})"
            )
            try:
                with _place(engine, scratch, level) as where:
                    result.engines[engine.name] = about(engine, where)
                    Turn(plan, result, engine, where, level, number).run()
            except ServerFailed as error:
                result.not_run[engine.name] = str(error)
    _sort(result, [engine.name for engine in engines])
    return result


def _sort(result: KVResult, names: list[str]) -> None:
    """Rows in the order of the works, engines always in the same one."""
    works = [*result.works]
    ranks = {work: number for number, work in enumerate(works)}
    # Opening again comes after the ingest.
    result.rows.sort(key=lambda row: (ranks.get(row.work, 0.5), names.index(row.engine)))
    result.engines = {name: result.engines[name] for name in names if name in result.engines}


@contextmanager
def _place(engine: Engine, scratch: Scratch, level: Durability) -> Iterator[Place]:
    """A place for the engine's stores; nothing of it stays."""
    directory = scratch.directory("engine")
    # Servers that refuse to be root's have to come by here.
    for folder in (directory, scratch.work):
        folder.chmod(0o755)
    try:
        with engine.place(directory, level) as where:
            yield where
    finally:
        remove(directory)


def about(engine: Engine, where: Place) -> dict[str, Any]:
    """What a reader of the tables wants to know of an engine."""
    if engine.info is None:
        return {"summary": "no engine: a dictionary", "is_network": False, "versions": {}}
    versions = engine_versions(engine.name)
    if where.server_version is not None:
        versions["server"] = where.server_version
    secret = {f.name for f in attrs.fields(engine.info.settings) if f.metadata.get("secret")}
    return {
        "summary": engine.info.summary,
        "is_network": engine.capability.is_network and not where.is_local,
        "server_options": where.server_options,
        "versions": versions,
        # Without what is secret, and without paths and addresses of this machine.
        "settings": sorted(name for name in engine.own if name not in secret),
    }
