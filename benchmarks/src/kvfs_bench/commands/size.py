"""``kvfs bench size``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from kvfs.errors import Invalid
from kvfs_bench import environment
from kvfs_bench.commands._run import Common, report, say
from kvfs_bench.kv import places
from kvfs_bench.programs import Programs
from kvfs_bench.scratch import scratch
from kvfs_bench.size import suite


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Options(Common):
    """As everywhere, but that one round is enough: sizes hardly differ from run to run."""

    rounds: Annotated[
        int, Parameter(help="How often every volume is made, with other contents; 1 by default.")
    ] = 1


def size(
    *,
    engine: Annotated[
        tuple[str, ...],
        Parameter(help="Only this engine; may be repeated. All that are installed by default."),
    ] = (),
    seconds: Annotated[
        float,
        Parameter(
            help="About how long an engine may take for its volumes in a round, beside starts of "
            "its server; 60 by default. One that is slower gets fewer files."
        ),
    ] = 60.0,
    mounts: Annotated[bool, Parameter(help="Measure the memory of kvfs mount, too.")] = True,
    seed: Annotated[int, Parameter(help="Of everything that is drawn; 1 by default.")] = 1,
    settings: Annotated[
        tuple[str, ...],
        Parameter(
            help="ENGINE.KEY=VALUE, or a TOML file with a table for each engine; may be repeated. "
            "An engine with a server then uses yours, of which neither disk nor memory is seen."
        ),
    ] = (),
    out: Annotated[
        Path | None, Parameter(help="Write OUT.json, OUT.md and OUT.html, all three.")
    ] = None,
    options: Options = Options(),
) -> None:
    """Measure, fit, and print the formulas as Markdown."""
    options = options.into(out)
    if not 0 < seconds < float("inf"):
        raise Invalid("--seconds must be more than 0")
    engines, missing = places.choose(engine, places.parse_settings(settings))
    plan = suite.Plan(
        engines=engines,
        missing=missing,
        scale=options.factor(),
        rounds=options.check(),
        seconds=seconds,
        seed=seed,
        mounts=mounts,
    )
    programs = Programs.find()
    with scratch(options.place, keep=False) as found:
        record = environment.record(None, found.work)
        result = suite.run(plan, programs, found, say)
    report(options, record, [result.as_dict()])
