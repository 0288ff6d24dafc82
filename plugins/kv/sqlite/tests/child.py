"""What the tests of this directory do in processes of their own: ``child.py TASK ARGUMENT...``."""

from __future__ import annotations

import os
import random
import sys
import threading
from pathlib import Path

import apsw

from kvfs.capability import Durability
from kvfs.config import Bytes
from kvfs.errors import Closed, Exhausted
from kvfs.kv import Batch
from kvfs_kv_sqlite import SQLiteSettings
from kvfs_kv_sqlite._driver import SQLiteDriver, open_store

MIB = 1 << 20


def _store(path: str, durability: str, **settings: object) -> SQLiteDriver:
    return open_store(
        SQLiteSettings(path=Path(path), **settings),  # type: ignore[arg-type]
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


def _holds(driver: SQLiteDriver, numbers: list[int]) -> None:
    found = dict(driver.scan(b"", None))
    expected: dict[bytes, bytes] = {}
    for number in numbers:
        expected.update((key, bytes(value)) for key, value in _batch(number).puts.items())
    assert found == expected, (len(found), len(expected))


def _fill(driver: SQLiteDriver, durability: Durability, numbers: list[int]) -> str:
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
    driver: SQLiteDriver, how: str, started: threading.Barrier, seen: list[type[BaseException]]
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


def fill_disk(path: str, durability: str) -> None:
    """Fill a disk up to the reserve; delete; fill it again; have others fill it to the brim."""
    level = Durability[durability]
    settings = {"wal_bytes": Bytes(4 * MIB), "disk_reserve_bytes": Bytes(16 * MIB)}
    driver = _store(path, durability, **settings)
    numbers: list[int] = []
    assert "disk_reserve_bytes" in _fill(driver, level, numbers)
    assert len(numbers) > 40
    _holds(driver, numbers)
    gone = numbers[: len(numbers) // 2]
    for number in gone:
        driver.commit(_delete(number), level)
    numbers = numbers[len(gone) :]
    _holds(driver, numbers)
    # The disk is as full as before; the pages that were freed take new records.
    before = len(numbers)
    _fill(driver, level, numbers)
    assert len(numbers) > before + len(gone) // 2
    _holds(driver, numbers)
    # SQLite itself runs into it, in the middle of a batch.
    other = Path(path) / "other"
    with other.open("ab", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    refused: list[str] = []
    for number in [*numbers]:
        try:
            driver.commit(_delete(number), level)
        except Exhausted as error:
            refused.append(str(error))
        else:
            numbers.remove(number)
        if len(numbers) < 10:
            break
    assert all("no space left" in text for text in refused), refused
    assert refused or len(numbers) < 10
    _holds(driver, numbers)
    driver.close()
    other.unlink()
    driver = _store(path, durability, **settings)
    _holds(driver, numbers)
    _fill(driver, level, numbers)
    _holds(driver, numbers)
    driver.close()


def hold_write_lock(path: str) -> None:
    """Begin to write, say so, and wait to be told to end."""
    connection = apsw.Connection(str(Path(path) / "main" / "data.sqlite"))
    connection.execute("begin immediate")
    print("locked", flush=True)
    sys.stdin.readline()
    connection.execute("rollback")
    connection.close()


TASKS = {
    task.__name__: task
    for task in (
        fill_disk,
        commit_for_ever,
        check_batches,
        hold_open,
        close_under_readers,
        hold_write_lock,
    )
}

if __name__ == "__main__":
    TASKS[sys.argv[1]](*sys.argv[2:])
