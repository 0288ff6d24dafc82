"""``python -m kvfs.testing.crash.mounted``: kill what serves a mount, and see what is left.

Without ``--inside`` and ``--durability`` each that there is.  A line of JSON for each run; the exit
status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import attrs

from kvfs.testing.crash.mounted.runner import Inside, MountedCrash, Report
from kvfs.testing.crash.runner import CrashFailed
from kvfs.testing.mounts import site_in
from kvfs.testing.places import Place

_LEVELS = ("process", "power")
_INSIDE: tuple[Inside, ...] = get_args(Inside)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m kvfs.testing.crash.mounted", description=__doc__)
    parser.add_argument("--kv", metavar="DRIVER", default="lmdb", help="the engine; lmdb")
    parser.add_argument("--durability", choices=_LEVELS, help="of the volume; by default each")
    parser.add_argument("--inside", choices=_INSIDE, help="what is written to; by default each")
    parser.add_argument("--kills", type=int, default=100, help="of each run")
    parser.add_argument("--seed", type=int, help="by default a new one")
    return parser


def _progress(report: Report) -> None:
    if sys.stderr.isatty() or report.kills % 50 == 0:
        what = f"{report.driver}, {report.inside}, {report.durability}"
        text = f"{what}: {report.kills} kills, {report.lost} lost"
        print(text, end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr, flush=True)


def _crash(options: argparse.Namespace, inside: Inside, level: str, directory: Path) -> None:
    seed = secrets.randbits(32) if options.seed is None else options.seed
    work = directory / "work"
    work.mkdir()
    with Place.of(options.kv, directory / "place") as place, site_in(directory) as site:
        run = MountedCrash(
            site=site,
            kv=place.table("crash"),
            durability=level,
            seed=seed,
            work=work,
            inside=inside,
        )
        report = run.run(options.kills, progress=_progress)
    print(json.dumps(attrs.asdict(report)), flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says: 0, or 1 if something was lost that may not be."""
    options = _parser().parse_args(words)
    status = 0
    insides = (options.inside,) if options.inside else _INSIDE
    levels = (options.durability,) if options.durability else _LEVELS
    for inside, level in product(insides, levels):
        with tempfile.TemporaryDirectory(prefix="kvfs-crash-") as directory:
            try:
                _crash(options, inside, level, Path(directory))
            except CrashFailed as failure:
                print(failure, file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
