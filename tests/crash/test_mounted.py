"""What serves a mount that is written to is killed under load, a few times.

``make crash`` does it hundreds of times.  First: that what must not be would be noticed.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from kvfs.testing.crash.mounted import Inside, MountedCrash, Victim
from kvfs.testing.crash.mounted.checking import Life, Shown, Violation, check, look
from kvfs.testing.crash.mounted.load import BEGINNINGS, SYNCS, Op, Plan
from kvfs.testing.mounts import Site
from kvfs.testing.places import Place

SEED = 20_261_121
KILLS = len(Victim)
"""Of each kind one."""
KILLED_AT = 100.0


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("driver", "inside", "durability"),
    [("lmdb", "scratch", "process"), ("lmdb", "tarball", "power")],
)
def test_what_serves_a_mount_is_killed(
    site: Site, tmp_path: Path, driver: str, inside: Inside, durability: str
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with Place.of(driver, tmp_path / "place") as place:
        run = MountedCrash(
            site=site,
            kv=place.table("crash"),
            durability=durability,
            seed=SEED,
            work=work,
            inside=inside,
        )
        report = run.run(KILLS)
    assert report.kills == KILLS
    assert {*report.killed} == {victim.value for victim in Victim}
    assert report.synced > 0
    assert report.operations > 100


# -- the runner itself -----------------------------------------------------------------------------


def _life(seed: str, *, count: int = 60, began: float = 90.0, each_s: float = 0.1) -> Life:
    """One that has done so many operations, one after another."""
    ops = [*islice(Plan(seed), count)]
    begun = [began + number * each_s for number in range(count)]
    return Life(seed, ops, begun, [at + each_s / 2 for at in begun], [])


def _after(life: Life, number: int) -> Shown:
    return life.after(number).shown()


def _last(life: Life, *kinds: str) -> int:
    """The number of the last operation of some kinds."""
    return max(number for number, op in enumerate(life.ops) if op.kind in kinds)


def test_all_is_there() -> None:
    lives = [_life("a"), _life("b")]
    loss = check(lives, [_after(life, 60) for life in lives], killed_at=KILLED_AT, window_s=1.0)
    assert loss.operations == 0


def test_the_end_is_lost() -> None:
    life = _life("a", began=99.9, each_s=0.001)
    kept = _last(life, *SYNCS) + 1
    loss = check([life], [_after(life, kept)], killed_at=KILLED_AT, window_s=1.0)
    assert loss.age_s < 0.1


def test_what_was_synced_is_lost() -> None:
    life = _life("a", began=99.9, each_s=0.001)
    lost = next(n for n in range(_last(life, *SYNCS), 0, -1) if _after(life, n) != _after(life, 60))
    while life.ops[lost - 1].kind in SYNCS or _after(life, lost - 1) == _after(life, lost):
        lost -= 1
    with pytest.raises(Violation, match="that fsync has promised"):
        check([life], [_after(life, lost - 1)], killed_at=KILLED_AT, window_s=1.0)


def test_what_is_old_is_lost() -> None:
    ops = [Op("create", "a"), Op("create", "b")]
    life = Life("old", ops, [90.0, 91.0], [90.5, 91.5], [])
    with pytest.raises(Violation, match="older than"):
        check([life], [{"a": b""}], killed_at=KILLED_AT, window_s=2.0)
    check([life], [{"a": b""}], killed_at=KILLED_AT, window_s=9.0)


def test_a_name_shows_before_the_data_that_it_publishes() -> None:
    ops = [Op("create", "tmp"), Op("write", "tmp", data=b"data"), Op("rename", "tmp", "name")]
    life = Life("order", ops, [1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [])
    with pytest.raises(Violation, match="never looked like this"):
        check([life], [{"name": b""}], killed_at=4.0, window_s=9.0)
    with pytest.raises(Violation, match="never looked like this"):
        check([life], [{"tmp": b"da"}], killed_at=4.0, window_s=9.0)


def test_something_later_is_there_and_something_earlier_is_not() -> None:
    first = Life("first", [Op("create", "a")], [1.0], [1.5], [])
    ops = [Op("create", "b"), Op("create", "c")]
    second = Life("second", ops, [2.0, 3.0], [2.5, 3.5], [])
    with pytest.raises(Violation, match="done before that began"):
        check([first, second], [{}, {"b": b"", "c": b""}], killed_at=4.0, window_s=9.0)
    check([first, second], [{"a": b""}, {}], killed_at=4.0, window_s=9.0)


def test_what_took_over_has_done_the_last_behind_what_is_lost() -> None:
    ops = [Op("create", "a"), Op("create", "b"), Op("create", "c")]
    life = Life("anew", ops, [1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [])
    loss = check([life], [{"a": b"", "c": b""}], killed_at=3.2, window_s=9.0)
    assert loss.operations == 1


def test_what_took_over_knows_a_file_by_a_name_that_it_had() -> None:
    ops = [Op("create", "a"), Op("rename", "a", "b"), Op("write", "b", data=b"data")]
    life = Life("renamed", ops, [1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [])
    loss = check([life], [{"a": b"data"}], killed_at=3.2, window_s=9.0)
    assert loss.operations == 1
    with pytest.raises(Violation, match="never looked like this"):
        check([life], [{"a": b"data"}], killed_at=4.0, window_s=9.0)


@pytest.mark.parametrize("beginning", [*BEGINNINGS])
def test_the_plan_is_what_a_file_system_does(tmp_path: Path, beginning: str) -> None:
    """On the directory of a test; so it is the model that is right."""
    for seed in ("a", "b", "c"):
        base = tmp_path / seed
        tree = BEGINNINGS[beginning]()
        tree.make(base)
        assert look(base) == tree.shown()
        plan = Plan(seed, tree)
        for op in islice(plan, 300):
            op.do(base)
        plan.tree.apply(op)
        assert look(base) == plan.tree.shown()
