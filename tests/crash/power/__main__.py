"""``python -m tests.crash.power``: many power cuts, from the top of the checkout.

Without ``--kv`` every engine that keeps its data on a disk of this machine takes its turn, at the
durabilities ``power`` and ``process``.  A line of JSON for each run.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
from pathlib import Path

from kvfs.capability import Durability

from .cutting import NOTHING, PowerLost, PowerRun, check, engines_here, summary


def main() -> int:
    """Cut, check, and print what was left; 1 if a promise was broken."""
    parser = argparse.ArgumentParser("python -m tests.crash.power", description=__doc__)
    parser.add_argument("--kv", metavar="DRIVER", help="one engine, by its name")
    parser.add_argument("--durability", choices=["process", "power"])
    parser.add_argument("--cuts", type=int, default=100, help="of each run")
    parser.add_argument("--batches", type=int, default=120, help="that are written before")
    parser.add_argument("--seed", type=int, help="by default a new one")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    status = 0
    for driver in engines_here() if options.kv is None else [options.kv]:
        levels = ["process"] if driver in NOTHING else ["power", "process"]
        for level in levels if options.durability is None else [options.durability]:
            durability = Durability[level.upper()]
            run = PowerRun(driver=driver, durability=durability, seed=seed, batches=options.batches)
            with tempfile.TemporaryDirectory(prefix="kvfs-power-") as place:
                outcomes = run.run(Path(place), options.cuts)
            report = {"driver": driver, "durability": level, "seed": seed, "cuts": len(outcomes)}
            print(json.dumps(report | summary(outcomes)), flush=True)
            try:
                check(run, outcomes)
            except PowerLost as error:
                print(error, file=sys.stderr)
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
