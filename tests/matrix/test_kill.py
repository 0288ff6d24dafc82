"""Processes killed in the middle of an ingest, and processes that ask for the same at once.

Real parts: LMDB, a folder, SIGKILL.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvfs.tarballs.catalogue import State
from kvfs.testing.invariants import violations
from kvfs.testing.volumes import Stores

from .support import (
    archive_of_everything,
    contents,
    line_of,
    number_of,
    open_volume,
    start,
)

DATA = archive_of_everything(1)


@pytest.fixture(scope="module")
def right() -> dict[bytes, bytes | None]:
    """The tree, by other stores."""
    stores = Stores()
    stores.backing.write("t.tar", DATA)
    with stores.volume() as volume:
        return contents(volume, b"t")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects/t.tar").write_bytes(DATA)
    yield tmp_path
    # What is left after every test, and whoever opens it next, is whole.
    with open_volume(tmp_path) as volume:
        assert [*violations(volume)] == []


def test_killed_at_any_place(
    folder: Path, right: dict[bytes, bytes | None], caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty kills, some of them of those that have to clean up after the one before."""
    rng = random.Random(20_240_607)
    states: list[State] = []
    for attempt in range(20):
        with start(folder, batch_ops=200) as process:
            assert line_of(process) == "open"
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            for _ in range(rng.randrange(4)):
                if line_of(process).startswith("done"):
                    break
            process.kill()
        with open_volume(folder) as volume:
            [(number, record)] = volume.tarballs.catalogue
            states.append(record.state)
            assert [*violations(volume)] == []
            if attempt % 4 == 3:
                assert contents(volume, b"t") == right
                assert [*violations(volume)] == []
            current = volume.tarballs.catalogue.get(number)
            assert current is not None
            if current.state is State.SEALED:
                volume.tarballs.life.roll_back(number, current)
    # Enough of them were killed between two commits of an ingest, or this test is about nothing.
    assert states.count(State.ABSENT) > 10
    assert caplog.text.count("was left ingesting; it is rolled back") >= 5


def test_killed_while_it_rolls_back(folder: Path, right: dict[bytes, bytes | None]) -> None:
    """One dies in its ingest, the next at once after it was opened, the third serves."""
    for lines in (3, 1):
        with start(folder, batch_ops=100) as process:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
            for _ in range(lines):
                line_of(process)
            process.kill()
    with open_volume(folder) as volume:
        assert contents(volume, b"t") == right


def test_two_processes_ask_at_once(folder: Path, right: dict[bytes, bytes | None]) -> None:
    """One ingests, both are served."""
    with start(folder) as one, start(folder) as other:
        for process in (one, other):
            assert line_of(process) == "open"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        last = []
        for process in (one, other):
            line = line_of(process)
            while not line.startswith(("done", "error")):
                line = line_of(process)
            last.append(line)
    # Who ingested has a report with the members; the other one has waited.
    assert sorted(last)[0] == "done 0"
    assert int(sorted(last)[1].split()[1]) > 1500
    with open_volume(folder) as volume:
        assert contents(volume, b"t") == right


def test_who_waits_for_one_that_is_killed_takes_over(
    folder: Path, right: dict[bytes, bytes | None]
) -> None:
    with start(folder, batch_ops=50) as one:
        assert line_of(one) == "open"
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
        line_of(one)
        with open_volume(folder) as volume:
            number = number_of(volume, "t.tar")
            record = volume.tarballs.catalogue.get(number)
            assert record is not None
            job = volume.tarballs.start(number)
            one.kill()
            one.wait()
            assert contents(volume, b"t") == right
            assert job.error is None


def test_a_volume_that_is_open_elsewhere_is_changed_too(folder: Path) -> None:
    with start(folder) as process:
        assert line_of(process) == "open"
        (folder / "objects/t.tar").unlink()
        (folder / "objects/new.tar").write_bytes(DATA[:10_240])
        with open_volume(folder) as volume:
            names = {record.object for _, record in volume.tarballs.catalogue}
            assert names == {"new.tar"}
            assert volume.sessions.others_alive()
        process.kill()
    with open_volume(folder) as volume:
        assert [*violations(volume)] == []
