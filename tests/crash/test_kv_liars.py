"""The crash tests can fail: engines that break a promise are caught, and the honest one is not."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs import registry
from kvfs.capability import Durability
from kvfs.testing.crash import CrashFailed, CrashRun
from kvfs.testing.crash.orders import environment

from .power.cutting import PowerLost, PowerRun, check_power

SEED = 45


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The engine ``liar``, as a distribution that this test and its processes find."""
    packages = tmp_path / "packages"
    info = packages / "kvfs_liar-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kvfs-liar\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[kvfs.kv]\nliar = kvfs_liar:DRIVER\n")
    monkeypatch.syspath_prepend(packages)
    monkeypatch.syspath_prepend(Path(__file__).with_name("liars"))
    registry._entries.cache_clear()
    yield
    registry._entries.cache_clear()


def run_of(tmp_path: Path, lie: str, *, writers: int = 1) -> CrashRun:
    """Writers over an engine that tells one lie."""
    return CrashRun(
        driver="liar",
        settings={"path": str(tmp_path / "stores"), "lie": lie},
        durability=Durability.POWER,
        work=tmp_path,
        seed=SEED,
        writers=writers,
    )


def test_the_honest_one(tmp_path: Path) -> None:
    report = run_of(tmp_path, "none").run(3)
    assert report.kills == 3
    assert report.promised > 0


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ("late", "was promised, the store has .*: 1 promised batches are lost"),
        ("tail", "was promised, the store has .*: [1-5] promised batches are lost"),
        ("half", "are not those that were written|promised batches are lost|before batch"),
    ],
)
def test_a_liar(tmp_path: Path, lie: str, complaint: str) -> None:
    with pytest.raises(CrashFailed, match=complaint) as failure:
        run_of(tmp_path, lie).run(20)
    # What is said is enough to look again, and to replay it.
    text = str(failure.value)
    assert f"seed {SEED}" in text
    assert f"--kv liar --durability power --seed {SEED}" in text
    found = re.search(r"--verify (\S+)", text)
    assert found is not None
    again = [sys.executable, "-m", "kvfs.testing.crash", "--verify", found[1]]
    seen = subprocess.run(again, capture_output=True, text=True, env=environment(), check=False)
    assert seen.returncode != 0
    assert "violation" in seen.stdout


def test_guards_that_do_not_hold_between_processes(tmp_path: Path) -> None:
    with pytest.raises(CrashFailed, match=r"are not those that were written.*b'total'"):
        run_of(tmp_path, "guards", writers=3).run(40)


def test_commits_that_are_not_synced(tmp_path: Path) -> None:
    """No kill shows it: a power cut does."""
    place = tmp_path / "disk"
    place.mkdir()
    run = PowerRun(
        driver="liar",
        durability=Durability.POWER,
        seed=SEED,
        batches=40,
        settings={"lie": "unsynced"},
    )
    outcomes = run.run(place, 4)
    with pytest.raises(PowerLost, match=r"batches are lost|damaged|status"):
        check_power(run, outcomes)
