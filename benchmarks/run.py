#!/usr/bin/env python3
"""Measure KVFS beside its peers on this machine; see README.md here for what and how."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from lib import environment, markdown
from lib.contestants import Programs
from lib.publish import publish
from lib.scratch import scratch
from lib.suites import Context, suites

from kvfs.errors import KVFSError

_EXAMPLES = """\
examples:
  run.py                                       everything, at full size: 20 GB of disk, half an hour
  run.py --suite read --rounds 5               one suite
  run.py --scale 0.01 --rounds 1               everything, in a minute
  run.py --suite ingest --scratch /disk/bench --keep
                                               on another disk; inputs stay for the next run
  run.py --json out.json --markdown out.md     results into files as well

A suite that finds a wrong answer ends the run: nothing is reported of it.
Runs best as root, which may drop the kernel's caches.
"""
_DEFAULT_SCRATCH = Path(__file__).resolve().parent.parent / "build" / "benchmarks"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py",
        description="Measure KVFS beside its peers on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--suite", nargs="+", choices=list(suites()), metavar="NAME", default=list(suites()),
        help=f"which of {', '.join(suites())}; all by default",
    )  # fmt: skip
    parser.add_argument(
        "--scale", type=float, default=1.0, help="numbers of files are multiplied by this"
    )
    parser.add_argument("--rounds", type=int, default=3, help="times that each thing is measured")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results as JSON")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write them as Markdown")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write the results into results/ and README.md here, for the repository",
    )
    parser.add_argument(
        "--scratch", type=Path, default=_DEFAULT_SCRATCH,
        help="directory on the disk to measure on; what is put there is removed at the end",
    )  # fmt: skip
    parser.add_argument(
        "--cpu", type=int, metavar="N",
        help="bind every process to this one core, so that no wake-up crosses cores",
    )  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the inputs for the next run")
    parser.add_argument("--kvfs", metavar="PATH", help="the kvfs command to measure")
    given = parser.parse_args(arguments)
    if given.cpu is not None and given.cpu not in os.sched_getaffinity(0):
        parser.error(f"there is no CPU {given.cpu} for this process")
    if given.scale <= 0 or given.rounds < 1:
        parser.error("--scale must be more than 0, and --rounds at least 1")
    return given


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


def _run(given: argparse.Namespace) -> dict[str, Any]:
    programs = Programs.find(kvfs=given.kvfs)
    with scratch(given.scratch, keep=given.keep) as place:
        report: dict[str, Any] = {
            "format": 1,
            "environment": environment.record(programs, place.work),
            "suites": [],
        }
        for name in given.suite:
            context = Context(
                programs=programs,
                scratch=place,
                scale=given.scale,
                rounds=given.rounds,
                say=_say,
            )
            report["suites"].append(suites()[name](context).as_dict())
            # After each, so that what was measured is not lost with the next.
            _write(given, report)
    return report


def _write(given: argparse.Namespace, report: dict[str, Any]) -> None:
    if given.json is not None:
        given.json.write_text(json.dumps(report, indent=1) + "\n")
    if given.markdown is not None:
        given.markdown.write_text(markdown.full(report))
    if given.publish:
        publish(report)


def main(arguments: list[str]) -> int:
    """Run as the arguments say; the exit code."""
    given = _parse(arguments)
    if given.cpu is not None:
        os.sched_setaffinity(0, {given.cpu})
    try:
        report = _run(given)
    except KVFSError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    print(markdown.full(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
