"""Power cuts, for every engine that keeps its data on a disk of this machine.

A few cuts of each; ``make crash`` makes hundreds.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvfs.capability import Durability

from .cutting import CLOSED, NOTHING, PREFIX, PowerRun, check, engines_here
from .disk import mounted_image, recorded_disk
from .recorder import Kind
from .trace import Cut, images

SEED = 20_261_121
CUTS, CUTS_BELOW = 4, 3
BATCHES = 50

EMBEDDED = engines_here()


def test_every_engine_says_what_a_cut_may_take() -> None:
    assert {*EMBEDDED} <= PREFIX | CLOSED | NOTHING


def test_what_is_not_synced_is_lost(tmp_path: Path) -> None:
    """The disk itself: a file that was synced, one that was not, one whose sync is half done."""
    with recorded_disk(tmp_path) as disk:
        mark = os.open(disk.mark, os.O_WRONLY)
        for name in ("synced", "not synced"):
            with (disk.path / name).open("wb") as file:
                file.write(name.encode() * 1000)
                file.flush()
                if name == "synced":
                    os.fsync(file.fileno())
            os.pwrite(mark, name.encode(), 0)
        os.close(mark)
    events = disk.events()
    marks = [at for at, event in enumerate(events, 1) if event.kind is Kind.MARK]
    whole = b"synced" * 1000
    cuts = [Cut(at, share, 512, SEED) for at in marks for share in (0.0, 0.5)]
    cut_short = Cut(marks[0] // 2, 0.5, 512, SEED)
    for cut in images(disk.base, events, [cut_short, *cuts], tmp_path / "cut"):
        with mounted_image(tmp_path / "cut", tmp_path / "mounted") as left:
            if cut is not cut_short:
                assert (left / "synced").read_bytes() == whole, cut
            path = left / "not synced"
            assert not path.exists() or path.read_bytes() == b"", cut


@pytest.mark.parametrize("driver", [name for name in EMBEDDED if name not in NOTHING])
def test_what_was_promised_survives(tmp_path: Path, driver: str) -> None:
    run = PowerRun(driver=driver, durability=Durability.POWER, seed=SEED, batches=BATCHES)
    outcomes = run.run(tmp_path, CUTS)
    check(run, outcomes)
    assert any(outcome.promised for outcome in outcomes)


@pytest.mark.parametrize("driver", EMBEDDED)
def test_what_was_promised_less_is_lost_as_promised(tmp_path: Path, driver: str) -> None:
    """And a store that is damaged is removed unread, as a volume does, and begun anew."""
    run = PowerRun(driver=driver, durability=Durability.PROCESS, seed=SEED, batches=BATCHES)
    outcomes = run.run(tmp_path, CUTS_BELOW)
    check(run, outcomes)
