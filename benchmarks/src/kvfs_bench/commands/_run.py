"""What the commands share: their options, the scratch place, and the report that comes out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Self

import attrs
from cyclopts import Parameter

from kvfs.errors import Invalid
from kvfs_bench import environment
from kvfs_bench.programs import Programs
from kvfs_bench.publish import publish
from kvfs_bench.report import markdown
from kvfs_bench.report.page import page
from kvfs_bench.results import FORMAT, SuiteResult
from kvfs_bench.scratch import scratch
from kvfs_bench.suites.context import Context

SCALES = {"tiny": 0.003, "small": 0.02, "full": 1.0}
"""Numbers of files, as a part of those of the full size."""
_DEFAULT_SCRATCH = Path("~/.cache/kvfs/benchmarks")


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Common:
    """The options that every command has that measures."""

    scale: Annotated[
        str,
        Parameter(help="How many files: tiny, small, full, or a number that multiplies full."),
    ] = "full"
    quick: Annotated[bool, Parameter(help="Small inputs, one round: to see that it works.")] = False
    rounds: Annotated[int, Parameter(help="How often each thing is measured; 3 by default.")] = 3
    scratch: Annotated[
        Path | None,
        Parameter(
            help="Directory on the disk to measure; ~/.cache/kvfs/benchmarks by default. "
            "What is put there is removed at the end."
        ),
    ] = None
    cpu: Annotated[
        int | None,
        Parameter(help="Bind every process to this one core: no wake-up crosses cores."),
    ] = None
    json: Annotated[Path | None, Parameter(help="Write the results as JSON.")] = None
    markdown: Annotated[Path | None, Parameter(help="Write the results as Markdown.")] = None
    html: Annotated[
        Path | None, Parameter(help="Write the results as one page of HTML with plots.")
    ] = None
    publish: Annotated[
        bool, Parameter(help="Write the results into benchmarks/ of the checkout.")
    ] = False

    def into(self, out: Path | None) -> Self:
        """With the files OUT.json, OUT.md and OUT.html, where no other ones are named."""
        if out is None:
            return self
        return attrs.evolve(
            self,
            json=self.json or out.with_name(f"{out.name}.json"),
            markdown=self.markdown or out.with_name(f"{out.name}.md"),
            html=self.html or out.with_name(f"{out.name}.html"),
        )

    def factor(self) -> float:
        """The scale as a number.

        :raises Invalid: it is none, or not above 0.
        """
        if self.quick:
            return SCALES["small"]
        try:
            factor = SCALES[self.scale] if self.scale in SCALES else float(self.scale)
        except ValueError as error:
            raise Invalid(f"--scale {self.scale}: give {', '.join(SCALES)} or a number") from error
        if not 0 < factor < float("inf"):
            raise Invalid("--scale must be more than 0")
        return factor

    def check(self) -> int:
        """See that they make sense, and bind this process; how many rounds there are.

        :raises Invalid: one of them does not.
        """
        rounds = 1 if self.quick else self.rounds
        if rounds < 1:
            raise Invalid("--rounds must be at least 1")
        if self.cpu is not None and self.cpu not in os.sched_getaffinity(0):
            raise Invalid(f"there is no CPU {self.cpu} for this process")
        for path in (self.json, self.markdown, self.html):
            # Said now, and not when the measuring is done.
            if path is not None and not path.absolute().parent.is_dir():
                raise Invalid(f"there is no directory {path.absolute().parent}")
        if self.cpu is not None:
            os.sched_setaffinity(0, {self.cpu})
        return rounds

    @property
    def place(self) -> Path:
        """Where the scratch directory is made."""
        return (self.scratch or _DEFAULT_SCRATCH).expanduser()


@Parameter(name="*")
@attrs.frozen(kw_only=True)
class Options(Common):
    """The options of the commands that run ``kvfs`` on inputs that they make."""

    keep: Annotated[bool, Parameter(help="Keep the inputs for the next run.")] = False
    kvfs: Annotated[
        str | None, Parameter(help="The command to measure, if not the one beside this Python.")
    ] = None


def say(text: str) -> None:
    """A line of progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def execute(options: Options, suite: Callable[[Context], SuiteResult]) -> None:
    """Run one suite as the options say; print the report, and write what they ask for.

    :raises KVFSError: an option makes no sense, there is no room, or an answer was wrong.
    """
    factor = options.factor()
    rounds = options.check()
    programs = Programs.find(kvfs=options.kvfs)
    with scratch(options.place, keep=options.keep) as found:
        record = environment.record(programs, found.work)
        context = Context(programs=programs, scratch=found, scale=factor, rounds=rounds, say=say)
        result = suite(context)
    report(options, record, [result.as_dict()])


def report(options: Common, record: dict[str, Any], suites: list[dict[str, Any]]) -> None:
    """Print the report, and write the files that the options ask for."""
    whole = {"format": FORMAT, "environment": record, "suites": suites}
    if options.json is not None:
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    if options.markdown is not None:
        options.markdown.write_text(markdown.full(whole))
    if options.html is not None:
        options.html.write_text(page(whole))
    if options.publish:
        publish(whole)
    sys.stdout.write(markdown.full(whole))
