"""``kvfs bench store``"""

from __future__ import annotations

from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvfs.errors import Invalid, KVFSError
from kvfs.registry import installed
from kvfs.units import parse_bytes
from kvfs_bench import environment
from kvfs_bench.commands._run import Common, report, say
from kvfs_bench.stores import checks, works
from kvfs_bench.stores.places import Place, parse_settings
from kvfs_bench.stores.result import StoreResult, as_dict


def store(
    url: Annotated[str, Parameter(help="Where to measure, as s3://bucket/prefix.")],
    /,
    *,
    backing: Annotated[
        tuple[str, ...],
        Parameter(help="Only this driver; may be repeated. All that take the URL by default."),
    ] = (),
    set_: Annotated[
        tuple[str, ...],
        Parameter(name="--set", help="A setting of the drivers: --set name=value; repeatable."),
    ] = (),
    name: Annotated[
        str | None, Parameter(help="What the report calls the store; the scheme by default.")
    ] = None,
    threads: Annotated[int, Parameter(help="Operations at a time; 8 by default.")] = 8,
    small: Annotated[str, Parameter(help="Size of the small objects.")] = "16KiB",
    big: Annotated[str, Parameter(help="Size of the large objects.")] = "64MiB",
    objects: Annotated[
        int | None, Parameter(help="How many small objects; scale times 1,000 by default.")
    ] = None,
    seed: Annotated[int, Parameter(help="Of everything that is drawn.")] = 1,
    options: Common = Common(),  # noqa: B008 (frozen)
) -> None:
    """Check, measure, and print the report as Markdown."""
    if threads < 1 or (objects is not None and objects < 1):
        raise Invalid("--threads and --objects must be at least 1")
    factor = options.factor()
    plan = works.Plan(
        objects=objects or max(threads, round(1000 * factor)),
        small_bytes=parse_bytes(small),
        big_objects=threads,
        big_bytes=parse_bytes(big) if not options.quick else min(parse_bytes(big), 4 << 20),
        threads=threads,
        seed=seed,
    )
    if plan.small_bytes < 1 or plan.big_bytes < 1:
        raise Invalid("--small and --big must be at least one byte")
    rounds = options.check()
    place = Place(url=url, settings=parse_settings(set_))
    results: list[StoreResult] = []
    problems: dict[str, KVFSError] = {}
    distributions = {entry.name: entry.distribution for entry in installed("backing")}
    with ExitStack() as stack:
        stores = []
        for info in place.drivers(backing):
            try:
                opened = stack.enter_context(place.opened(info))
                opened.write("first", b"")  # some are opened without a request
            except KVFSError as error:
                problems[info.name] = error
                continue
            result = StoreResult(driver=info.name, version=version(distributions[info.name]))
            say(f"{info.name}: checks")
            result.checks = [*checks.run(opened)]
            stores.append((opened, result))
            results.append(result)
        if not stores:
            raise [*problems.values()][-1]
        for number in range(rounds):
            for opened, result in stores:
                say(f"{result.driver}: round {number + 1} of {rounds}")
                works.run(opened, plan, result.works)
    record = environment.record(None, Path("/"))
    suite = as_dict(
        name or place.scheme,
        plan,
        results,
        rounds=rounds,
        problems={name: str(error) for name, error in problems.items()},
    )
    report(options, record, [suite])
