"""What is special about RocksDB: its log, its blob files, its memory and its iterators."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Closed
from kvfs.kv import Batch
from kvfs_kv_rocksdb._driver import RocksDBDriver

Opener = Callable[..., RocksDBDriver]
CHILD = Path(__file__).with_name("child.py")


def _killed_writer(path: Path, durability: str, first: int, source: random.Random) -> int:
    """Has a process commit batches from ``first`` on, kills it; the last one acknowledged."""
    command = [sys.executable, str(CHILD), "commit_for_ever", str(path), durability, str(first)]
    acknowledged = first - 1
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(source.randint(1, 40)):
            acknowledged = int(writer.stdout.readline())
        # Not to wait for anything: to strike at another point of a commit each time.
        time.sleep(source.random() * 0.003)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
    return int(rest[-1]) if rest else acknowledged


def _last(driver: RocksDBDriver) -> int:
    return max((int(key[1:7]) for key, _ in driver.scan(b"I", b"J")), default=-1)


@pytest.mark.parametrize("durability", ["PROCESS", "POWER"])
def test_writer_killed_in_mid_commit(
    opener: Opener, tmp_path: Path, run_child: Callable[..., str], durability: str
) -> None:
    """Six times: what was acknowledged is there; what was not is there whole or not at all."""
    source = random.Random(1)
    last = -1
    for _ in range(6):
        acknowledged = _killed_writer(tmp_path, durability, last + 1, source)
        driver = opener(Durability[durability])
        last = _last(driver)
        assert acknowledged <= last <= acknowledged + 1
        driver.close()
    run_child("check_batches", tmp_path, durability, last + 1)
    assert last >= 10


def test_writer_without_a_log_killed(
    opener: Opener, tmp_path: Path, run_child: Callable[..., str]
) -> None:
    """The first so many batches are there, each whole; closing loses none."""
    acknowledged = _killed_writer(tmp_path, "MEMORY", 0, random.Random(2))
    driver = opener(Durability.MEMORY)
    last = _last(driver)
    assert last <= acknowledged + 1
    driver.close()
    run_child("check_batches", tmp_path, "MEMORY", last + 1)


def test_close_under_readers(tmp_path: Path, run_child: Callable[..., str]) -> None:
    """In a process of its own, as the failure to look for is a segmentation fault."""
    run_child("close_under_readers", tmp_path)


def test_point_reads_and_scans_of_a_view_show_one_instant(opener: Opener) -> None:
    """A snapshot and an iterator are made apart, while another thread commits."""
    driver = opener()
    keys = [b"a", b"b"]
    driver.commit(Batch(puts=dict.fromkeys(keys, b"0")), Durability.PROCESS)
    done = Event()

    def write() -> None:
        number = 0
        while not done.is_set():
            number += 1
            driver.commit(Batch(puts=dict.fromkeys(keys, b"%d" % number)), Durability.PROCESS)

    writer = Thread(target=write)
    writer.start()
    try:
        with driver.snapshot() as view:
            for _ in range(3000):
                view.refresh()
                values = {*view.get_many(keys), *(value for _, value in view.scan(b"", None))}
                assert len(values) == 1
    finally:
        done.set()
        writer.join()


def test_scans_of_a_view_share_its_iterator(opener: Opener) -> None:
    driver = opener()
    records = [(b"%04d" % n, b"x" * n) for n in range(400)]
    driver.commit(Batch(puts=dict(records)), Durability.PROCESS)
    with driver.snapshot() as view:
        driver.commit(Batch().delete_range(b"0100", b"0300"), Durability.PROCESS)
        forward, backward = view.scan(b"", None), view.scan(b"", None, reverse=True)
        found = [(next(forward), next(backward)) for _ in records]
    assert [pair[0] for pair in found] == records
    assert [pair[1] for pair in found] == records[::-1]


def test_scan_that_outlives_the_instant_of_its_view_says_so(opener: Opener) -> None:
    driver = opener()
    driver.commit(Batch(puts={b"%04d" % n: b"x" for n in range(1000)}), Durability.PROCESS)
    view = driver.snapshot()
    scan = view.scan(b"", None)
    next(scan)
    view.refresh()
    with pytest.raises(Closed):
        list(scan)
    view.close()


def _files(path: Path, pattern: str) -> int:
    return sum(file.stat().st_size for file in (path / "main").glob(pattern))


def test_large_values_lie_outside_the_tree(opener: Opener, tmp_path: Path) -> None:
    driver = opener(blob_bytes_min=Bytes(1000))
    source = random.Random(1)
    large = {b"L%03d" % n: source.randbytes(1000) for n in range(200)}
    small = {b"S%03d" % n: source.randbytes(999) for n in range(100)}
    driver.commit(Batch(puts={**large, **small}), Durability.PROCESS)
    driver.compact()
    assert _files(tmp_path, "*.blob") == pytest.approx(200 * 1000, rel=0.1)
    assert _files(tmp_path, "*.sst") == pytest.approx(100 * 999, rel=0.2)
    assert dict(driver.scan(b"", None)) == large | small


def test_disk_of_deleted_records_is_given_back(opener: Opener, tmp_path: Path) -> None:
    driver = opener(write_buffer_bytes=Bytes(4 << 20))
    source = random.Random(1)
    for start in range(0, 1000, 100):
        puts = {b"%05d" % n: source.randbytes(20_000) for n in range(start, start + 100)}
        driver.commit(Batch(puts={**puts}), Durability.PROCESS)
    driver.compact()
    before = driver.stats().bytes_on_disk
    assert before is not None
    assert before >= 20_000_000
    driver.commit(Batch().delete_range(b"00100", b"99999"), Durability.PROCESS)
    driver.compact()
    after = driver.stats().bytes_on_disk
    assert after is not None
    assert after < before // 4
    assert len([*driver.scan(b"", None)]) == 100
    driver.close()
    assert _files(tmp_path, "*.blob") < before // 4


def test_memory_is_bounded(tmp_path: Path, run_child: Callable[..., str]) -> None:
    """Two buffers of 4 MiB and a cache of 8 MiB; what they are held in takes some too."""
    assert int(run_child("resident", tmp_path, 120 << 20)) < 48
