"""What a crash leaves, engines that fail, a fence that is lost, and the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from kvfs.capability import Durability
from kvfs.errors import Closed, Conflict, Exhausted, KVFSError, Unavailable
from kvfs.kv.driver import Batch, KVDriver
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.layers import writebehind
from kvfs.layers.faults import Action, FaultPlan, inject_kv
from kvfs.layers.passing import KVLayer
from kvfs.testing.machine import applied

from .support import (
    PATIENCE_S,
    Gated,
    barrier,
    put,
    queued,
    records,
    workload,
)

# -- what a crash leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Action.CRASH_BEFORE, Action.CRASH_AFTER])
@pytest.mark.parametrize("seed", range(12))
def test_what_a_crash_leaves_is_a_beginning_of_the_order(action: Action, seed: int) -> None:
    """All that a barrier has promised, whole batches, in their order, and no more than was said."""
    inner = MemoryKV()
    inner.capability = attrs.evolve(inner.capability, batch_ops_max=20)
    plan = FaultPlan(seed).add("commit", action, nth=1 + 7 * seed % 23)
    layer = queued(inject_kv(inner, plan), interval_s=0.0)
    states: list[dict[bytes, bytes]] = [{}]
    promised: list[int] = [0]

    def write() -> None:
        generator = random.Random(seed)
        for batch in workload(seed, 2000):
            states.append(applied(states[-1], batch))
            level = Durability.PROCESS if generator.random() < 0.1 else Durability.MEMORY
            layer.commit(batch, level)
            if level:
                promised.append(len(states) - 1)

    with pytest.raises(Unavailable, match="engine failed"):
        write()
    left = records(inner)
    step = int(left.get(b"step", b"-1")) + 1
    assert promised[-1] <= step < len(states)
    assert left == states[step]
    with pytest.raises(Unavailable):
        layer.close()


# -- engines that fail -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (Action.UNAVAILABLE, Unavailable),
        (Action.ANSWER_LOST, Unavailable),
        (Action.EXHAUSTED, Exhausted),
    ],
)
def test_who_waits_learns_of_a_failure_and_nothing_is_lost(
    action: Action, error: type[KVFSError]
) -> None:
    inner = MemoryKV()
    layer = queued(inject_kv(inner, FaultPlan(1).add("commit", action, nth=1)))
    put(layer, b"a", b"1")
    with pytest.raises(error):
        barrier(layer)
    put(layer, b"a", b"2")
    assert layer.get(b"a") == b"2"
    barrier(layer)
    assert records(inner) == {b"a": b"2"}
    layer.close()


def test_a_failed_group_is_tried_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "RETRY_S", 0.001)
    inner = MemoryKV()
    plan = FaultPlan(1)
    for nth in range(1, 6):
        plan.add("commit", Action.UNAVAILABLE, nth=nth)
    engine = Gated(inject_kv(inner, plan))
    layer = queued(engine, interval_s=0.0)
    put(layer, b"a")
    for _ in range(6):
        engine.reached()
        engine.allowed.release()
    engine.open()
    layer.finish()
    assert records(inner) == {b"a": b"value"}
    layer.close()


def test_failures_do_not_change_the_order() -> None:
    inner = MemoryKV()
    inner.capability = attrs.evolve(inner.capability, batch_ops_max=20)
    plan = FaultPlan(3).add("commit", Action.UNAVAILABLE, probability=0.3)
    plan.add("commit", Action.ANSWER_LOST, probability=0.3)
    layer = queued(inject_kv(inner, plan), interval_s=0.0)
    expected: dict[bytes, bytes] = {}
    failures = 0
    for number, batch in enumerate(workload(3, 300)):
        expected = applied(expected, batch)
        layer.commit(batch, Durability.MEMORY)
        if number % 10 == 0:
            try:
                barrier(layer)
            except Unavailable:
                failures += 1
        assert records(layer) == expected
    assert failures > 0
    plan.faults.clear()
    barrier(layer)
    assert records(inner) == expected
    layer.close()


class Broken(KVLayer):
    """An engine with a programming error."""

    def commit(self, batch: Batch, durability: Durability) -> None:
        raise ZeroDivisionError("a bug")


def test_an_engine_that_raises_what_it_may_not_is_left_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    layer = queued(Broken(MemoryKV()))
    put(layer, b"a")
    for _ in range(3):
        with pytest.raises(Unavailable, match="ZeroDivisionError") as caught:
            barrier(layer)
        assert not caught.value.retryable
    with pytest.raises(Unavailable):
        put(layer, b"b")
    assert layer.get(b"b") is None
    assert "Traceback" in caplog.text
    with pytest.raises(Unavailable):
        layer.close()


# -- the fence -------------------------------------------------------------------------------------


def _take_over(inner: KVDriver) -> None:
    inner.commit(Batch().put(b"fence", b"theirs"), Durability.MEMORY)


def test_a_lost_fence_ends_all_writing() -> None:
    inner = MemoryKV()
    layer = queued(inner)
    put(layer, b"kept")
    barrier(layer)
    _take_over(inner)
    put(layer, b"lost")
    calls: list[Callable[[], object]] = [
        lambda: barrier(layer),
        lambda: put(layer, b"later"),
        lambda: layer.commit(Batch().guard(b"kept", b"value"), Durability.MEMORY),
        lambda: barrier(layer),
        layer.finish,
        layer.close,
    ]
    for call in calls:
        # Not Conflict: whoever does the same anew upon that would do so for ever.
        with pytest.raises(Unavailable, match="taken over") as caught:
            call()
        assert isinstance(caught.value.__cause__, Conflict)
        assert not caught.value.retryable


def test_a_lost_fence_is_told_to_all_who_wait() -> None:
    inner = MemoryKV()
    engine = Gated(inner)
    layer = queued(engine, queue_bytes=1000)
    put(layer, b"a", bytes(900))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(barrier, layer) for _ in range(3)]
        waiting.append(pool.submit(put, layer, b"b", bytes(900)))
        engine.reached()
        _take_over(inner)
        engine.open()
        for each in waiting:
            with pytest.raises(Unavailable, match="taken over"):
                each.result(PATIENCE_S)
    assert records(inner) == {}
    with pytest.raises(Unavailable):
        layer.close()


# -- the end ---------------------------------------------------------------------------------------


def test_finish_commits_what_is_queued_and_leaves_the_engine_open() -> None:
    inner = MemoryKV()
    layer = queued(inner)
    put(layer, b"a")
    for _ in range(2):
        layer.finish()
    assert records(inner) == records(layer) == {b"a": b"value"}
    for durability in Durability:
        with pytest.raises(Closed):
            layer.commit(Batch().put(b"b", b""), durability)
    layer.close()
    layer.close()


def test_close_says_what_is_lost() -> None:
    inner = MemoryKV()
    plan = FaultPlan(1).add("commit", Action.EXHAUSTED, probability=1.0)
    layer = queued(inject_kv(inner, plan))
    put(layer, b"a")
    with pytest.raises(Exhausted):
        layer.close()
    with pytest.raises(Closed):
        inner.get(b"a")


def test_close_tries_once_more() -> None:
    inner = MemoryKV()
    plan = FaultPlan(1).add("commit", Action.UNAVAILABLE, nth=1)
    layer = queued(inject_kv(inner, plan))
    put(layer, b"a")
    with pytest.raises(Unavailable):
        barrier(layer)
    layer.finish()
    assert records(inner) == {b"a": b"value"}
    layer.close()


def test_who_waits_when_it_is_closed_is_served() -> None:
    inner = MemoryKV()
    engine = Gated(inner)
    layer = queued(engine)
    put(layer, b"a")
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(barrier, layer)
        engine.reached()
        closing = pool.submit(layer.finish)
        engine.open()
        waiting.result(PATIENCE_S)
        closing.result(PATIENCE_S)
    assert records(inner) == {b"a": b"value"}
    layer.close()
