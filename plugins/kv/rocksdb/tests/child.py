"""What the tests of this directory do in processes of their own: ``child.py TASK ARGUMENT...``."""

from __future__ import annotations

import os
import random
import sys
import threading
from contextlib import suppress
from pathlib import Path

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Closed, Exhausted, Unavailable
from kvfs.kv import Batch
from kvfs_kv_rocksdb import RocksDBSettings
from kvfs_kv_rocksdb._driver import RocksDBDriver, open_store

MIB = 1 << 20


def _store(path: str, durability: str, **settings: object) -> RocksDBDriver:
    return open_store(
        RocksDBSettings(path=Path(path), **settings),  # type: ignore[arg-type]
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


def _delete(number: int) -> Batch:
    batch = Batch().delete_range(b"I%06d" % number, b"I%06d" % (number + 1))
    for key in _batch(number).puts:
        if key.startswith(b"D"):
            batch.delete(key)
    return batch


def _holds(driver: RocksDBDriver, numbers: list[int]) -> None:
    found = dict(driver.scan(b"", None))
    expected: dict[bytes, bytes] = {}
    for number in numbers:
        expected.update((key, bytes(value)) for key, value in _batch(number).puts.items())
    assert found == expected, (len(found), len(expected))


def _fill(driver: RocksDBDriver, durability: Durability, numbers: list[int]) -> str:
    """Commit batches until the disk is full; what it said then."""
    while True:
        number = (numbers[-1] if numbers else 0) + 1
        try:
            driver.commit(_batch(number), durability)
        except Exhausted as error:
            return str(error)
        numbers.append(number)


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
    print("open", flush=True)
    sys.stdin.readline()
    driver.close()


def close_under_readers(path: str) -> None:
    """Close a store while threads read it in every way; they must see Closed, and nothing worse."""
    for _ in range(15):
        driver = _store(path, "PROCESS")
        driver.commit(Batch(puts={b"%05d" % n: os.urandom(5000) for n in range(50)}), Durability(0))
        started = threading.Barrier(9)
        seen: list[type[BaseException]] = []
        threads = [
            threading.Thread(target=_read_until_closed, args=(driver, how, started, seen))
            for how in ("get", "many", "scan", "view", "view scan", "snapshot", "commit", "stats")
        ]
        for thread in threads:
            thread.start()
        started.wait()
        driver.close()
        for thread in threads:
            thread.join()
        assert seen == [Closed] * len(threads), seen


def _read_until_closed(
    driver: RocksDBDriver, how: str, started: threading.Barrier, seen: list[type[BaseException]]
) -> None:
    view = driver.snapshot()
    view.get(b"00001")
    started.wait()
    try:
        while True:
            if how == "get":
                driver.get(b"00001")
            elif how == "many":
                driver.get_many([b"00001", b"00002"])
            elif how == "scan":
                list(driver.scan(b"", None))
            elif how == "view":
                view.get(b"00001")
                view.refresh()
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


def _take_all(path: Path) -> None:
    """Somebody else fills the disk, to the last block."""
    with path.open("ab", buffering=0) as other:
        try:
            while other.write(bytes(4096)):
                pass
        except OSError:
            pass


def fill_disk(path: str, durability: str) -> None:
    """Fill a disk up to the reserve; delete; fill it again; have others fill it to the brim."""
    level = Durability[durability]
    settings = {"write_buffer_bytes": Bytes(2 * MIB), "disk_reserve_bytes": Bytes(16 * MIB)}
    driver = _store(path, durability, **settings)
    numbers: list[int] = []
    assert "disk_reserve_bytes" in _fill(driver, level, numbers)
    assert len(numbers) > 40
    _holds(driver, numbers)
    gone = numbers[: len(numbers) // 2]
    for number in gone:
        driver.commit(_delete(number), level)
    numbers = numbers[len(gone) :]
    driver.compact()
    _holds(driver, numbers)
    before = len(numbers)
    _fill(driver, level, numbers)
    assert len(numbers) > before + len(gone) // 3
    _holds(driver, numbers)
    # RocksDB itself runs into it, while it logs a delete or writes its buffers out.
    other = Path(path) / "other"
    _take_all(other)
    refused: list[str] = []
    for number in [*numbers[: len(numbers) // 2]]:
        try:
            driver.commit(_delete(number), level)
        except Exhausted as error:
            refused.append(str(error))
        else:
            numbers.remove(number)
    assert refused
    assert all("no space left" in text for text in refused), refused
    _holds(driver, numbers)
    with suppress(Exhausted, Unavailable):
        driver.close()  # the log is there; what it holds cannot be written out
    with suppress(Exhausted):
        _store(path, durability, **settings).close()
    other.unlink()
    driver = _store(path, durability, **settings)
    _holds(driver, numbers)
    driver.commit(_delete(numbers[0]), level)
    _holds(driver, numbers[1:])
    driver.close()


def resident(path: str, total: str) -> None:
    """Write and read far more than may be in memory; print by how many MiB that grew at most."""
    driver = _store(
        path,
        "PROCESS",
        write_buffer_bytes=Bytes(4 * MIB),
        block_cache_bytes=Bytes(8 * MIB),
        disk_reserve_bytes=Bytes(0),
    )
    body = random.Random(1).randbytes(1 << 17)
    count = int(total) // (16 << 10)
    floor = peak = _anonymous()
    for start in range(0, count, 64):
        batch = Batch()
        for index in range(start, start + 64):
            batch.put(b"I%08d" % index, body[index % 1000 :][: 16 << 10])
            batch.put(b"D%08d" % (index * 7919 % count), body[:176])
        driver.commit(batch, Durability.PROCESS)
        peak = max(peak, _anonymous())
    for index in range(count):
        value = driver.get(b"I%08d" % (index * 7919 % count))
        assert value is not None
        assert len(value) == 16 << 10
        if index % 64 == 0:
            peak = max(peak, _anonymous())
    print((peak - floor) // MIB)
    driver.close()


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


TASKS = {
    task.__name__: task
    for task in (
        fill_disk,
        commit_for_ever,
        check_batches,
        hold_open,
        close_under_readers,
        resident,
    )
}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*sys.argv[2:])
