"""What the tests of this directory do in processes of their own: ``child.py TASK ARGUMENT...``."""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Closed, Exhausted
from kvfs.kv import Batch
from kvfs_kv_lmdb import LMDBSettings
from kvfs_kv_lmdb._driver import LMDBDriver, open_store

MIB = 1 << 20


def _store(path: str, durability: str, **settings: object) -> LMDBDriver:
    return open_store(
        LMDBSettings(path=Path(path), **settings),  # type: ignore[arg-type]
        store="main",
        durability=Durability[durability],
    )


def _batch(number: int) -> Batch:
    """A directory of small files, as ingest writes them: one key random, one ascending."""
    source = random.Random(number)
    batch = Batch()
    for index in range(40):
        batch.put(b"D" + source.randbytes(16), source.randbytes(176))
        size = source.choice((100, 3000, 20_000))
        batch.put(b"I%06d%04d" % (number, index), source.randbytes(size))
    return batch


def _holds(driver: LMDBDriver, numbers: list[int]) -> None:
    found = dict(driver.scan(b"", None))
    expected: dict[bytes, bytes] = {}
    for number in numbers:
        expected.update((key, bytes(value)) for key, value in _batch(number).puts.items())
    assert found == expected, (len(found), len(expected))


def _fill(driver: LMDBDriver, durability: Durability, numbers: list[int]) -> str:
    """Commit batches until the store is full; what it said then."""
    while True:
        number = (numbers[-1] if numbers else 0) + 1
        try:
            driver.commit(_batch(number), durability)
        except Exhausted as error:
            return str(error).lower()
        numbers.append(number)


def fill_disk(path: str, durability: str) -> None:
    """Fill a disk to the brim; delete from the full store; fill it again."""
    level = Durability[durability]
    driver = _store(path, durability)
    (Path(path) / "other").write_bytes(bytes(8 * MIB))
    numbers: list[int] = []
    assert "no space" in _fill(driver, level, numbers)
    assert len(numbers) > 20
    _holds(driver, numbers)
    # Somebody else takes what is left, to the last block.
    with open(Path(path) / "other", "ab", buffering=0) as other:
        try:
            while other.write(bytes(4096)):
                pass
        except OSError:
            pass
    for _ in range(3):
        assert "no space" in _fill(driver, level, numbers)
        _holds(driver, numbers)
    # A store that is full can be emptied.
    gone = numbers[: len(numbers) // 2]
    for number in gone:
        batch = Batch().delete_range(b"I%06d" % number, b"I%06d" % (number + 1))
        for key in _batch(number).puts:
            if key.startswith(b"D"):
                batch.delete(key)
        driver.commit(batch, level)
    numbers = numbers[len(gone) :]
    _holds(driver, numbers)
    # The disk is as full as before; the pages that were freed take new records.
    before = len(numbers)
    _fill(driver, level, numbers)
    assert len(numbers) > before + len(gone) // 2
    _holds(driver, numbers)
    (Path(path) / "other").unlink()
    before = len(numbers)
    _fill(driver, level, numbers)
    assert len(numbers) > before
    _holds(driver, numbers)
    driver.close()
    driver = _store(path, durability)
    _holds(driver, numbers)
    driver.close()


def commit_for_ever(path: str, durability: str, start: str) -> None:
    """Commit batches, saying so after each; to be killed."""
    driver = _store(path, durability)
    number = int(start)
    while True:
        driver.commit(_batch(number), Durability[durability])
        print(number, flush=True)
        number += 1


def check_batches(path: str, durability: str, count: str) -> None:
    """The first batches are there whole, and nothing else is."""
    driver = _store(path, durability)
    _holds(driver, [*range(int(count))])
    driver.close()


def hold_open(path: str, durability: str) -> None:
    """Open the store, say so, and wait to be told to end."""
    driver = _store(path, durability)
    view = driver.snapshot()
    print("open", flush=True)
    sys.stdin.readline()
    view.close()
    driver.close()


def resident(path: str, bytes_max: str, total: str) -> None:
    """Write and read far more than may be resident; print the peaks of mapped files in MiB."""
    driver = _store(path, "PROCESS", resident_bytes_max=Bytes(int(bytes_max)))
    source = random.Random(1)
    body = source.randbytes(1 << 17)
    count = int(total) // (16 << 10)
    floor = peak = _mapped()
    for start in range(0, count, 64):
        batch = Batch()
        for index in range(start, start + 64):
            batch.put(b"I%08d" % index, body[index % 1000 :][: 16 << 10])
            batch.put(b"D" + source.randbytes(16), body[:176])
        driver.commit(batch, Durability.PROCESS)
        peak = max(peak, _mapped())
    written = peak
    with driver.snapshot() as view:
        for order in (range(count), source.sample(range(count), count)):
            for index in order:
                value = view.get(b"I%08d" % index)
                assert value is not None
                assert bytes(value[:100]) == body[index % 1000 :][:100]
                if index % 7 == 0:
                    peak = max(peak, _mapped())
        for scanned, (_, value) in enumerate(view.scan(b"", None)):
            assert len(value) >= 176
            bytes(value)
            if scanned % 7 == 0:
                peak = max(peak, _mapped())
    print((written - floor) // MIB, (peak - floor) // MIB)
    driver.close()


def _mapped() -> int:
    return int(Path("/proc/self/statm").read_text().split()[2]) * 4096


def close_under_readers(path: str) -> None:
    """Close a store while threads read it in every way; they must see Closed, and nothing worse."""
    for _ in range(40):
        driver = _store(path, "PROCESS", resident_bytes_max=Bytes(0))
        driver.commit(Batch(puts={b"%05d" % n: os.urandom(5000) for n in range(50)}), Durability(0))
        started = threading.Barrier(8)
        seen: list[type[BaseException]] = []
        threads = [
            threading.Thread(target=_read_until_closed, args=(driver, how, started, seen))
            for how in ("get", "scan", "view", "view scan", "snapshot", "commit", "stats")
        ]
        for thread in threads:
            thread.start()
        started.wait()
        driver.close()
        for thread in threads:
            thread.join()
        assert seen == [Closed] * len(threads), seen


def _read_until_closed(
    driver: LMDBDriver, how: str, started: threading.Barrier, seen: list[type[BaseException]]
) -> None:
    view = driver.snapshot()
    view.get(b"00001")
    started.wait()
    try:
        while True:
            if how == "get":
                driver.get(b"00001")
            elif how == "scan":
                list(driver.scan(b"", None))
            elif how == "view":
                view.get(b"00001")
            elif how == "view scan":
                for key, _ in view.scan(b"", None):
                    assert len(key) == 5
            elif how == "stats":
                driver.stats()
            elif how == "snapshot":
                driver.snapshot().close()
            else:
                driver.commit(Batch().put(b"xxxxx", b"y"), Durability.PROCESS)
    except BaseException as error:
        seen.append(type(error))


TASKS = {
    task.__name__: task
    for task in (
        fill_disk,
        commit_for_ever,
        check_batches,
        hold_open,
        resident,
        close_under_readers,
    )
}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*sys.argv[2:])
