"""What is special about LMDB: its memory, its pages, its threads and its dead processes."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from kvfs.capability import Durability
from kvfs.errors import Closed
from kvfs.kv import Batch
from kvfs_kv_lmdb._driver import LMDBDriver
from kvfs_kv_lmdb._settings import CAPABILITY, RECORD_HEADER_BYTES

Opener = Callable[..., LMDBDriver]
CHILD = Path(__file__).with_name("child.py")


@pytest.mark.parametrize("durability", ["PROCESS", "POWER"])
def test_writer_killed_in_mid_commit(
    opener: Opener, tmp_path: Path, run_child: Callable[..., str], durability: str
) -> None:
    """Twenty times: what was acknowledged is there; what was not is there whole or not at all."""
    source = random.Random(1)
    acknowledged = -1
    for _ in range(20):
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
        run_child("check_batches", tmp_path, durability, last + 1)
        acknowledged = last
    assert acknowledged >= 20


def test_killed_reader_does_not_hold_back_pages(opener: Opener, tmp_path: Path) -> None:
    command = [sys.executable, str(CHILD), "hold_open", str(tmp_path), "PROCESS"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        reader.kill()
    driver = opener()
    sizes = []
    for number in range(60):
        driver.commit(Batch().put(b"a", bytes([number]) * 100_000), Durability.PROCESS)
        sizes.append(driver.stats().bytes_on_disk)
    assert sizes[-1] == sizes[10]


def test_close_under_readers(tmp_path: Path, run_child: Callable[..., str]) -> None:
    """In a process of its own, as the failure to look for is a segmentation fault."""
    run_child("close_under_readers", tmp_path)


@pytest.mark.parametrize("bytes_max", [32 << 20, 96 << 20])
def test_resident_memory_is_bounded(
    tmp_path: Path, run_child: Callable[..., str], bytes_max: int
) -> None:
    total = 400 << 20
    written, peak = map(int, run_child("resident", tmp_path, bytes_max, total).split())
    bound = (bytes_max >> 20) + 64
    assert written < bound
    assert peak < bound
    assert bound < (total >> 20) // 2


def test_buffers_survive_dropping_the_map(opener: Opener) -> None:
    """What a reader holds is read again from the page cache; so is what was not synced."""
    driver = opener(resident_bytes_max=0)
    values = {b"%03d" % n: random.Random(n).randbytes(20_000) for n in range(200)}
    driver.commit(Batch(puts={**values}), Durability.PROCESS)
    with driver.snapshot() as view:
        held = {key: view.get(key) for key in values}
        resident = driver._environment.resident  # type: ignore[union-attr]
        assert resident is not None
        resident.check()
        assert {key: bytes(value or b"") for key, value in held.items()} == values
        del held


def test_iterator_left_unfinished_lets_go_of_its_instant(opener: Opener) -> None:
    driver = opener()
    driver.commit(Batch(puts={b"%d" % n: b"x" for n in range(10)}), Durability.PROCESS)
    environment = driver._environment
    assert environment is not None
    scans = [driver.scan(b"", None) for _ in range(20)]
    for scan in scans[::2]:
        next(scan)
    assert environment.env.readers().count("\n") >= 20
    del scans, scan
    # One transaction is kept to be used again; it holds no instant.
    readers = re.findall(r"^\s*\d+\s+\S+\s+(\S+)", environment.env.readers(), re.MULTILINE)
    assert [reader for reader in readers if reader != "-"] == []


def test_scan_that_outlives_the_view_says_so(opener: Opener) -> None:
    driver = opener()
    driver.commit(Batch(puts={b"%d" % n: b"x" for n in range(10)}), Durability.PROCESS)
    view = driver.snapshot()
    scan = view.scan(b"", None)
    next(scan)
    view.refresh()
    with pytest.raises(Closed):
        next(scan)
    view.close()


def test_view_is_handed_from_thread_to_thread(opener: Opener) -> None:
    driver = opener()
    view = driver.snapshot()
    for number in range(20):
        driver.commit(Batch().put(b"a", b"%d" % number), Durability.PROCESS)
        seen: list[bytes] = []

        def use(seen: list[bytes] = seen) -> None:
            view.refresh()
            seen.extend(bytes(value) for _, value in view.scan(b"", None))

        thread = Thread(target=use)
        thread.start()
        thread.join()
        assert seen == [b"%d" % number]
    view.close()


@pytest.mark.parametrize("lib_version", ["0.9", "1.0"])
@pytest.mark.parametrize("over", [0, 1])
def test_best_inline_size_fills_its_pages(opener: Opener, lib_version: str, over: int) -> None:
    """A record of that size takes whole pages, and one byte more takes another page."""
    driver = opener(lib_version=lib_version)
    size = RECORD_HEADER_BYTES + driver.capability.inline_bytes_best + over
    driver.commit(Batch().put(b"I" + bytes(8), bytes(size)), Durability.PROCESS)
    environment = driver._environment
    assert environment is not None
    assert environment.env.stat()["overflow_pages"] == 16 + over


def test_largest_value(opener: Opener) -> None:
    driver = opener()
    value = bytes(CAPABILITY.value_bytes_max)
    driver.commit(Batch().put(b"a", value), Durability.PROCESS)
    with driver.snapshot() as view:
        found = view.get(b"a")
        assert found is not None
        assert len(found) == len(value)
        assert found[-1] == 0
        del found
