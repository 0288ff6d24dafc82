"""Reading what is on its way into the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import attrs

from kvfs.capability import Durability
from kvfs.kv.driver import Batch, Buffer
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.layers.passing import KVLayer
from kvfs.layers.writebehind import WriteBehind

from .support import (
    PATIENCE_S,
    queued,
)


def test_scans_over_both() -> None:
    inner = MemoryKV()
    layer = queued(inner)
    layer.commit(Batch(puts={b"%02d" % n: b"old" for n in range(20)}), Durability.PROCESS)
    gone = Batch().delete_range(b"10", b"15").put(b"12", b"new")
    for number in range(5):
        gone.delete(b"%02d" % number)
    layer.commit(gone.put(b"055", b"new"), Durability.MEMORY)
    keys = [b"05", b"055", *(b"%02d" % n for n in (6, 7, 8, 9, 12, 15, 16, 17, 18, 19))]
    with layer.snapshot() as view:
        for source in (layer, view):
            for limit in (None, 0, 1, 3, 100):
                found = [bytes(key) for key, _ in source.scan(b"", b"9", limit=limit)]
                assert found == keys[:limit]
                backwards = source.scan(b"", b"9", reverse=True, limit=limit)
                assert [bytes(key) for key, _ in backwards] == keys[::-1][:limit]
    layer.close()


def test_what_is_queued_hides_few_records_of_the_engine() -> None:
    """A scan with a limit asks the engine for no more than it may need."""
    asked: list[int | None] = []

    class Asked(KVLayer):
        def scan(
            self,
            start: bytes,
            stop: bytes | None,
            *,
            reverse: bool = False,
            limit: int | None = None,
        ) -> Iterator[tuple[bytes, bytes]]:
            asked.append(limit)
            return self.inner.scan(start, stop, reverse=reverse, limit=limit)

    layer = queued(Asked(MemoryKV()))
    layer.commit(Batch(puts={b"%02d" % n: b"" for n in range(50)}), Durability.PROCESS)
    layer.commit(Batch().delete(b"00").delete(b"01"), Durability.MEMORY)
    assert [key for key, _ in layer.scan(b"", None, limit=1)] == [b"02"]
    assert asked == [3]
    layer.close()


def _reader(layer: WriteBehind, over: Event, find: Callable[[bytes], Buffer | None]) -> int:
    """Reads until it is over; returns how often it saw something new."""
    last = changes = 0
    while not over.is_set():
        found = find(b"counter")
        assert found is not None, "a record that is never removed was not there"
        number = int(bytes(found))
        assert number >= last, "what was seen before is undone"
        changes += number > last
        last = number
        keys = [key for key, _ in layer.scan(b"many/", b"many0")]
        assert keys == sorted(set(keys))
        assert len(keys) == 20
    return changes


def test_readers_beside_a_writer() -> None:
    """A key is there at every instant, and never goes back, whichever way it is on."""
    inner = MemoryKV()
    inner.capability = attrs.evolve(inner.capability, batch_ops_max=64)
    layer = queued(inner, interval_s=0.0)
    many = [b"many/%02d" % number for number in range(20)]
    first = Batch().put(b"counter", b"0")
    for key in many:
        first.put(key, b"0")
    layer.commit(first, Durability.MEMORY)
    over = Event()

    def write() -> None:
        try:
            for number in range(1, 1500):
                batch = Batch().put(b"counter", b"%d" % number).put(many[number % 20], b"x")
                if number % 3 == 0:
                    batch.delete_range(b"c", b"d")  # and put again by the same batch
                layer.commit(batch, Durability.PROCESS if number % 50 == 0 else Durability.MEMORY)
        finally:
            over.set()

    def through_views(key: bytes) -> Buffer | None:
        with layer.snapshot() as view:
            found = view.get(key)
            return None if found is None else bytes(found)

    def many_at_once(key: bytes) -> Buffer | None:
        return layer.get_many([b"absent", key])[1]

    writer = Thread(target=write)
    with ThreadPoolExecutor(3) as pool:
        seen = [
            pool.submit(_reader, layer, over, find)
            for find in (layer.get, through_views, many_at_once)
        ]
        writer.start()
        assert all(each.result(PATIENCE_S) for each in seen)
    writer.join()
    layer.close()
