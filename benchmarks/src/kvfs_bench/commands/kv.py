"""``kvfs bench kv``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvfs.capability import Durability
from kvfs.config import nearest
from kvfs.errors import Invalid
from kvfs_bench import environment
from kvfs_bench.commands._run import Common, report, say
from kvfs_bench.kv import places, suite
from kvfs_bench.kv.works import FAMILIES
from kvfs_bench.scratch import scratch

_LEVELS = tuple(level.name.lower() for level in Durability)


def kv(
    *,
    engine: Annotated[
        tuple[str, ...],
        Parameter(help="Only this engine; may be repeated. All that are installed by default."),
    ] = (),
    workload: Annotated[
        tuple[str, ...],
        Parameter(help=f"Only this work, of {', '.join(FAMILIES)}; may be repeated."),
    ] = (),
    durability: Annotated[
        tuple[str, ...],
        Parameter(help="Of commits: memory, process (default) or power. Repeated: a table each."),
    ] = ("process",),
    seconds: Annotated[
        float, Parameter(help="How long a work is measured in a round; 1 by default.")
    ] = 1.0,
    readers: Annotated[
        int, Parameter(help="Threads, and processes, where many read at once; 4 by default.")
    ] = 4,
    load: Annotated[
        tuple[float, ...],
        Parameter(
            help="Rate of the open loops, as a part of the throughput measured; 0.5 by default."
        ),
    ] = (0.5,),
    files: Annotated[
        int | None, Parameter(help=f"Files of the tree; scale times {suite.FILES} by default.")
    ] = None,
    records: Annotated[
        int | None, Parameter(help=f"YCSB records; scale times {suite.RECORDS} by default.")
    ] = None,
    seed: Annotated[int, Parameter(help="Of everything that is drawn; 1 by default.")] = 1,
    settings: Annotated[
        tuple[str, ...],
        Parameter(
            help="ENGINE.KEY=VALUE, or a TOML file with a table for each engine; may be repeated. "
            "An engine with a server then uses yours instead of one of its own."
        ),
    ] = (),
    out: Annotated[
        Path | None, Parameter(help="Write OUT.json, OUT.md and OUT.html, all three.")
    ] = None,
    options: Common = Common(),  # noqa: B008 (frozen)
) -> None:
    """Measure, and print the report as Markdown."""
    options = options.into(out)
    for name in workload:
        if name not in FAMILIES:
            raise Invalid(f"--workload {name}: {nearest(name, FAMILIES)}")
    for name in durability:
        if name not in _LEVELS:
            raise Invalid(f"--durability {name}: give {', '.join(_LEVELS)}")
    if not 0 < seconds < float("inf"):
        raise Invalid("--seconds must be more than 0")
    if readers < 1:
        raise Invalid("--readers must be at least 1")
    if not all(0 < part <= 2 for part in load):
        raise Invalid("--load must be more than 0, and at most 2")
    if any(count is not None and count < 1 for count in (files, records)):
        raise Invalid("--files and --records must be at least 1")
    engines, missing = places.choose(engine, places.parse_settings(settings))
    plan = suite.Plan(
        engines=engines,
        missing=missing,
        families=frozenset(workload or FAMILIES),
        durabilities=[Durability[name.upper()] for name in dict.fromkeys(durability)],
        scale=options.factor(),
        rounds=options.check(),
        seconds=0.2 if options.quick else seconds,
        seed=seed,
        readers=readers,
        loads=load,
        files=files,
        records=records,
    )
    with scratch(options.place, keep=False) as found:
        record = environment.record(None, found.work)
        results = suite.run(plan, found, say)
    report(options, record, [result.as_dict() for result in results])
