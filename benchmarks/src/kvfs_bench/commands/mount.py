"""``kvfs bench mount``"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from kvfs.config import nearest
from kvfs.errors import Invalid
from kvfs.volume.settings import DEFAULT_KV
from kvfs_bench.commands._run import Options, execute
from kvfs_bench.mount import suite
from kvfs_bench.mount.kvfs import chosen
from kvfs_bench.mount.works import WORKS


def mount(
    *,
    work: Annotated[
        tuple[str, ...],
        Parameter(
            help=f"Only this work, of {', '.join(work.id for work in WORKS)}; may be repeated."
        ),
    ] = (),
    engine: Annotated[
        tuple[str, ...],
        Parameter(
            help=f"Over this engine; may be repeated. {DEFAULT_KV} by default; all: every one that "
            "is installed and keeps its records on this machine."
        ),
    ] = (DEFAULT_KV,),
    minutes: Annotated[
        float, Parameter(help="When to end with the rounds after the first; 25 by default.")
    ] = 25.0,
    options: Options = Options(),  # noqa: B008 (frozen)
) -> None:
    """Measure, and print the report as Markdown."""
    known = [each.id for each in WORKS]
    for name in work:
        if name not in known:
            raise Invalid(f"--work {name}: {nearest(name, known)}")
    engines = chosen(engine)
    execute(
        options,
        lambda context: suite.run(context, works=work, engines=engines, minutes=minutes),
    )
