"""Random histories until so many steps were done: ``python -m tests.mount.dual_root.soak``.

The first difference ends it: the shortest history that shows it is written to ``replays/``, where
the tests find it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from kvfs.testing.mounts import site_in

from .grounds import GROUNDS
from .histories import Generator, save
from .worlds import Difference, Pair, pair_in

REPLAYS = Path(__file__).with_name("replays")
HISTORY_STEPS = 200
ATTEMPTS = 500
"""To shorten a history that shows a difference, at the most."""


def histories(pair: Pair, seed: int, steps: int) -> None:
    """So many steps, in histories of a few hundred.

    :raises Difference: with the shortest history that shows it.
    """
    generator = Generator(seed)
    while steps > 0:
        count = min(steps, HISTORY_STEPS)
        try:
            history = generator.history(count, pair.ground.looks)
            pair.again(pair.run(history, generator))
        except Difference as failure:
            raise pair.shortest(failure) from None
        pair.clear()
        steps -= count


def main() -> None:
    """Run; exits with 1 if there is a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--inside", choices=GROUNDS, default="scratch", help="where; scratch")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.steps} steps", flush=True)
    places = options.steps // HISTORY_STEPS + ATTEMPTS
    with (
        tempfile.TemporaryDirectory(prefix="kvfs-soak-") as directory,
        site_in(Path(directory), frontend="fuse") as site,
        pair_in(site, options.inside, places=places) as pair,
    ):
        try:
            histories(pair, options.seed, options.steps)
        except Difference as failure:
            path = REPLAYS / f"seed-{options.seed}.jsonl"
            save(path, failure.steps, failure.said)
            sys.exit(f"{failure.said}\nkept as {path}")
    print("no difference")


if __name__ == "__main__":
    main()
