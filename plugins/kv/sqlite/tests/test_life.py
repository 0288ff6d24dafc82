"""What is special about SQLite: its log, its locks, its connections and its dead processes."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Closed
from kvfs.kv import Batch
from kvfs_kv_sqlite._driver import SQLiteDriver

Opener = Callable[..., SQLiteDriver]
CHILD = Path(__file__).with_name("child.py")


@pytest.mark.parametrize("durability", ["PROCESS", "POWER"])
def test_writer_killed_in_mid_commit(
    opener: Opener, tmp_path: Path, run_child: Callable[..., str], durability: str
) -> None:
    """Six times: what was acknowledged is there; what was not is there whole or not at all."""
    source = random.Random(1)
    acknowledged = -1
    for _ in range(6):
        command = [sys.executable, str(CHILD), "commit_for_ever"]
        command += [str(tmp_path), durability, str(acknowledged + 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(source.randint(1, 5)):
                acknowledged = int(writer.stdout.readline())
            # Not to wait for anything: to strike at another point of a commit each time.
            time.sleep(source.random() * 0.003)
            writer.send_signal(signal.SIGKILL)
            rest = writer.stdout.read().split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        driver = opener(Durability[durability])
        last = max(int(key[1:7]) for key, _ in driver.scan(b"I", b"J"))
        assert acknowledged <= last <= acknowledged + 1
        driver.close()
        acknowledged = last
    run_child("check_batches", tmp_path, durability, acknowledged + 1)
    assert acknowledged >= 6


def test_close_under_readers(tmp_path: Path, run_child: Callable[..., str]) -> None:
    """In a process of its own, as the failure to look for is a segmentation fault."""
    run_child("close_under_readers", tmp_path)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that Python syncs, which it goes on doing."""
    names: list[str] = []
    fsync = os.fsync

    def recorded(fd: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    return names


@pytest.mark.parametrize(("levels", "syncs"), [("00", 0), ("11", 0), ("222", 3), ("1212", 2)])
def test_only_commits_for_power_wait_for_the_disk(
    opener: Opener, synced: list[str], levels: str, syncs: int
) -> None:
    driver = opener()
    synced.clear()
    for number, level in enumerate(levels):
        driver.commit(Batch().put(b"key", b"%d" % number), Durability(int(level)))
    assert synced.count("data.sqlite-wal") == syncs


@pytest.mark.parametrize("batch", [Batch().put(b"a", b"1"), Batch().delete(b"b"), Batch()])
def test_commit_for_power_that_changes_nothing_still_waits(
    opener: Opener, synced: list[str], batch: Batch
) -> None:
    """What made the record so did not wait, and this one says that it is safe."""
    driver = opener()
    driver.commit(Batch().put(b"a", b"1").put(b"b", b"1"), Durability.PROCESS)
    driver.commit(Batch().delete(b"b"), Durability.PROCESS)
    assert "data.sqlite-wal" not in synced
    driver.commit(batch, Durability.POWER)
    assert synced.count("data.sqlite-wal") == 1


def test_closing_syncs_what_did_not_wait(opener: Opener, synced: list[str]) -> None:
    """Another driver keeps the log from being moved to the database."""
    opener()
    driver = opener()
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    assert "data.sqlite-wal" not in synced
    driver.close()
    assert synced.count("data.sqlite-wal") == 1


def test_log_is_moved_and_cut(opener: Opener, tmp_path: Path) -> None:
    driver = opener(wal_bytes=Bytes(1 << 20))
    for number in range(20):
        driver.commit(Batch().put(b"%d" % number, os.urandom(400_000)), Durability.PROCESS)
    log = tmp_path / "main" / "data.sqlite-wal"
    assert log.stat().st_size < 3 << 20
    # A view needs the log as it is; when it is closed the log is used from its beginning.
    with driver.snapshot():
        for number in range(20):
            driver.commit(Batch().put(b"%d" % number, os.urandom(400_000)), Durability.PROCESS)
    assert log.stat().st_size > 6 << 20
    for number in range(20):
        driver.commit(Batch().put(b"%d" % number, os.urandom(400_000)), Durability.PROCESS)
    assert log.stat().st_size < 3 << 20


def test_disk_of_deleted_records_is_given_back(opener: Opener, tmp_path: Path) -> None:
    driver = opener(wal_bytes=Bytes(1 << 20))
    puts = {b"%05d" % n: os.urandom(20_000) for n in range(1000)}
    driver.commit(Batch(puts={**puts}), Durability.PROCESS)
    driver.compact()
    data = tmp_path / "main" / "data.sqlite"
    before = data.stat().st_size
    assert before >= 20_000_000
    driver.commit(Batch().delete_range(b"00100", b"99999"), Durability.PROCESS)
    driver.compact()
    assert data.stat().st_size < before // 4
    assert dict(driver.scan(b"", None)) == {key: puts[key] for key in sorted(puts)[:100]}


def test_iterator_left_unfinished_lets_go_of_its_connection(opener: Opener) -> None:
    driver = opener()
    driver.commit(Batch(puts={b"%03d" % n: b"x" for n in range(500)}), Durability.PROCESS)
    open_files = []
    for _ in range(6):
        scans = [driver.scan(b"", None) for _ in range(10)]
        views = [driver.snapshot() for _ in range(10)]
        scans += [view.scan(b"", None) for view in views]
        for scan in scans[::2]:
            next(scan)
        del scans, scan, views
        gc.collect()
        # SQLite keeps some that are not in use, for locks that would end with them.
        open_files.append(len(os.listdir("/proc/self/fd")))
    assert open_files[-1] == open_files[1]
    driver.commit(Batch().put(b"a", b"1"), Durability.PROCESS)
    assert driver.get(b"a") == b"1"


def test_scan_that_outlives_the_instant_of_its_view_says_so(opener: Opener) -> None:
    driver = opener()
    driver.commit(Batch(puts={b"%04d" % n: b"x" for n in range(1000)}), Durability.PROCESS)
    view = driver.snapshot()
    scan, unstarted = view.scan(b"", None), view.scan(b"", None)
    next(scan)
    view.refresh()
    for ended in (scan, unstarted):
        with pytest.raises(Closed):
            list(ended)
    driver.commit(Batch().put(b"0000", b"new"), Durability.PROCESS)
    view.refresh()
    assert view.get(b"0000") == b"new"
    view.close()
