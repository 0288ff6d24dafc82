"""What is acknowledged at once, what a barrier promises, and how much a group holds."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from kvfs.capability import Durability
from kvfs.errors import Conflict, Exhausted, Unsupported
from kvfs.kv.driver import Batch
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.kv.store import KVStore
from kvfs.layers import writebehind
from kvfs.layers.faults import Action, FaultPlan, inject_kv
from kvfs.layers.passing import KVLayer
from kvfs.testing.machine import applied

from .support import (
    PATIENCE_S,
    Checked,
    Gated,
    barrier,
    put,
    queued,
    records,
)

# -- acknowledged at once --------------------------------------------------------------------------


def test_seen_at_once_and_in_the_engine_behind_a_barrier() -> None:
    inner = MemoryKV()
    layer = queued(inner)
    put(layer, b"a")
    assert layer.get(b"a") == b"value"
    assert records(inner) == {}
    barrier(layer)
    assert records(inner) == {b"a": b"value"}
    layer.close()


def test_in_the_engine_after_the_interval() -> None:
    engine = Gated(MemoryKV())
    layer = queued(engine, interval_s=0.001)
    engine.open()
    put(layer, b"a")
    engine.reached()
    layer.close()


def test_what_gathers_is_one_commit() -> None:
    engine = Checked()
    layer = queued(engine)
    for number in range(1000):
        put(layer, b"%d" % number)
    barrier(layer)
    assert len(records(engine)) == 1000
    assert engine.commits == 1
    layer.close()


def test_much_does_not_wait_for_the_interval() -> None:
    engine = Gated(MemoryKV())
    layer = queued(engine)
    engine.open()
    put(layer, b"large", bytes(writebehind.GROUP_BYTES))
    engine.reached()
    layer.close()


def test_many_do_not_wait_for_the_interval() -> None:
    engine = Gated(MemoryKV())
    layer = queued(engine)
    engine.open()
    for number in range(writebehind.GROUP_KEYS + 1):
        put(layer, b"%d" % number)
    engine.reached()
    layer.close()


def test_what_comes_and_goes_never_reaches_the_engine() -> None:
    engine = Gated(MemoryKV())
    layer = queued(engine)
    engine.open()
    put(layer, b"temporary", b"x" * 1000)
    layer.commit(Batch().delete(b"temporary"), Durability.MEMORY)
    barrier(layer)
    assert [batch.puts for batch, _ in engine.batches] == [{}]
    layer.close()


def test_a_buffer_that_changes_later_was_copied() -> None:
    layer = queued(MemoryKV())
    data = bytearray(b"before")
    layer.commit(Batch().put(b"a", memoryview(data)), Durability.MEMORY)
    data[:] = b"after!"
    barrier(layer)
    assert layer.get(b"a") == b"before"
    layer.close()


# -- guards ----------------------------------------------------------------------------------------


def test_guards_are_on_what_is_queued() -> None:
    layer = queued(MemoryKV())
    put(layer, b"a", b"1")
    layer.commit(Batch().guard(b"a", b"1").put(b"a", b"2"), Durability.MEMORY)
    with pytest.raises(Conflict):
        layer.commit(Batch().guard(b"a", b"1").put(b"b", b"x"), Durability.MEMORY)
    layer.commit(Batch().delete_range(b"a", b"b"), Durability.MEMORY)
    layer.commit(Batch().guard(b"a", None).put(b"a", b"3"), Durability.MEMORY)
    assert records(layer) == {b"a": b"3"}
    layer.close()


def test_a_refused_batch_leaves_nothing() -> None:
    inner = MemoryKV()
    layer = queued(inner)
    with pytest.raises(Conflict):
        layer.commit(Batch().guard(b"a", b"1").put(b"b", b"x"), Durability.PROCESS)
    barrier(layer)
    assert records(inner) == {}
    layer.close()


# -- barriers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", Durability)
@pytest.mark.parametrize("asked", [Durability.PROCESS, Durability.POWER])
def test_a_group_is_committed_at_the_highest_level_that_is_asked_for(
    least: Durability, asked: Durability
) -> None:
    engine = Gated(MemoryKV())
    engine.open()
    layer = queued(engine, durability=least)
    put(layer, b"a")
    barrier(layer, asked)
    assert [level for _, level in engine.batches] == [max(least, asked)]
    layer.close()


def test_a_barrier_waits_for_all_before_it() -> None:
    inner = MemoryKV()
    engine = Gated(inner)
    layer = queued(engine, interval_s=0.0)
    put(layer, b"first")
    engine.reached()  # the engine has it, and does not come back
    put(layer, b"second")
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(barrier, layer)
        engine.allowed.release()
        engine.reached()
        assert not done.done()
        assert records(inner) == {b"first": b"value"}
        engine.allowed.release()
        done.result(PATIENCE_S)
    assert records(inner) == {b"first": b"value", b"second": b"value"}
    engine.open()
    layer.close()


def test_many_who_wait_share_a_commit() -> None:
    engine = Gated(MemoryKV())
    layer = queued(engine)
    put(layer, b"first")
    with ThreadPoolExecutor(9) as pool:
        done = [pool.submit(barrier, layer)]
        engine.reached()
        # All of these gather behind the one that is under way.
        done += [
            pool.submit(layer.commit, Batch().put(b"%d" % number, b""), Durability.PROCESS)
            for number in range(8)
        ]
        while len(records(layer)) < 9:
            pass
        engine.open()
        for each in done:
            each.result(PATIENCE_S)
    assert len(engine.batches) == 2
    layer.close()


# -- limits ----------------------------------------------------------------------------------------


def test_groups_keep_to_the_limit_of_operations() -> None:
    engine = Checked(batch_ops_max=128)
    layer = queued(engine, interval_s=0.0)
    store = KVStore(layer, name="queued")
    assert store.capability.batch_ops_max == 127  # one is for the fence
    generator, expected = random.Random(1), dict[bytes, bytes]()
    for number in range(300):
        batch = Batch()
        for _ in range(generator.choice([1, 2, 60, 127])):
            batch.put(b"%d" % generator.randrange(2000), b"%d" % number)
        if batch.ops < 120:
            batch.delete_range(b"1", b"2")
        store.commit(batch)
        expected = applied(expected, batch)
    barrier(layer)
    assert records(engine) == expected
    with pytest.raises(Unsupported):
        store.commit(Batch(puts={b"%d" % number: b"" for number in range(128)}))
    layer.close()


def test_groups_keep_to_the_limit_of_bytes() -> None:
    engine = Checked(batch_bytes_max=10_000)
    layer = queued(engine, interval_s=0.0)
    store = KVStore(layer, name="queued")
    most = store.capability.batch_bytes_max
    assert most == 10_000 - len(b"fence") - len(b"mine")
    generator, expected = random.Random(2), dict[bytes, bytes]()
    for number in range(300):
        size = generator.choice([1, 100, 3000, most - 8])
        batch = Batch().put(b"%08d" % (number % 50), bytes(size))
        store.commit(batch)
        expected = applied(expected, batch)
    barrier(layer)
    assert records(engine) == expected
    with pytest.raises(Unsupported):
        store.commit(Batch().put(b"12345678", bytes(most - 7)))
    layer.close()


def test_a_group_deletes_few_ranges() -> None:
    """Every read of a key goes through them."""
    engine = Gated(MemoryKV())
    engine.open()
    layer = queued(engine)
    for number in range(writebehind.RANGES_MAX * 3):
        layer.commit(Batch().delete_range(b"%d" % number, b"%d/" % number), Durability.MEMORY)
    barrier(layer)
    assert {len(batch.range_deletes) for batch, _ in engine.batches} == {writebehind.RANGES_MAX}
    layer.close()


# -- backpressure ----------------------------------------------------------------------------------


def test_nobody_is_far_ahead_of_the_engine() -> None:
    room, size, count = 10_000, 1000, 100
    acknowledged: list[int] = []

    class Counting(KVLayer):
        ahead_most = 0
        taken = 0

        def commit(self, batch: Batch, durability: Durability) -> None:
            ahead = len(acknowledged) * size - self.taken
            self.ahead_most = max(self.ahead_most, ahead)
            self.inner.commit(batch, durability)
            self.taken += sum(map(len, batch.puts)) + sum(map(len, batch.puts.values()))

    engine = Counting(MemoryKV())
    layer = queued(engine, interval_s=0.0, queue_bytes=room)
    for number in range(count):
        put(layer, b"%04d" % number, bytes(size - 4))
        acknowledged.append(number)
    barrier(layer)
    assert engine.ahead_most <= room
    assert len(records(engine)) == count
    layer.close()


def test_who_writes_too_much_waits_and_goes_on() -> None:
    engine = Gated(MemoryKV())
    layer = queued(engine, interval_s=0.0, queue_bytes=1000)
    put(layer, b"a", bytes(900))
    engine.reached()
    congested = [layer.is_congested]
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(put, layer, b"b", bytes(900))
        assert layer.get(b"b") is None
        assert not done.done()
        engine.open()
        done.result(PATIENCE_S)
    barrier(layer)
    congested.append(layer.is_congested)
    assert congested == [True, False]
    layer.close()


def test_a_batch_larger_than_the_queue_is_taken() -> None:
    inner = MemoryKV()
    layer = queued(inner, interval_s=0.0, queue_bytes=1000)
    for number in range(5):
        put(layer, b"%d" % number, bytes(5000))
    layer.close()


def test_who_waits_for_room_learns_that_there_is_none() -> None:
    plan = FaultPlan(1).add("commit", Action.EXHAUSTED, probability=1.0)
    layer = queued(inject_kv(MemoryKV(), plan), interval_s=0.0, queue_bytes=1000)
    put(layer, b"a", bytes(900))
    with pytest.raises(Exhausted):
        put(layer, b"b", bytes(900))
    assert layer.get(b"b") is None
    plan.faults.clear()
    barrier(layer)
    put(layer, b"b", bytes(900))
    layer.close()
