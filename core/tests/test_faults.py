"""Fault plans: the same seed, the same faults."""

from __future__ import annotations

import io
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from kvfs.backing import BackingStore
from kvfs.backing.memory import MemoryDriver as MemoryBacking
from kvfs.capability import Durability
from kvfs.errors import Exhausted, Unavailable
from kvfs.kv import Batch, KVStore
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.layers.faults import (
    EXIT_CODE,
    Action,
    FaultPlan,
    FaultsSettings,
    SimulatedCrash,
    inject_backing,
    inject_kv,
)


def _store(plan: FaultPlan) -> tuple[MemoryKV, KVStore]:
    inner = MemoryKV()
    return inner, KVStore(inject_kv(inner, plan), name="faulty")


def _failures(plan: FaultPlan, calls: int) -> list[int]:
    _, store = _store(plan)
    failed = []
    for number in range(calls):
        try:
            store.get(b"a")
        except Unavailable:
            failed.append(number)
    return failed


def test_nth_call_fails_and_no_other() -> None:
    assert _failures(FaultPlan(1).add("get", Action.UNAVAILABLE, nth=3), 10) == [2]


def test_chance_is_decided_by_the_seed() -> None:
    runs = [
        _failures(FaultPlan(seed).add("get", Action.UNAVAILABLE, probability=0.3), 300)
        for seed in (1, 1, 2)
    ]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert 50 < len(runs[0]) < 130


def test_chance_does_not_depend_on_other_operations_or_threads() -> None:
    quiet = _failures(FaultPlan(7).add("get", Action.UNAVAILABLE, probability=0.3), 200)
    plan = FaultPlan(7).add("get", Action.UNAVAILABLE, probability=0.3)
    _, store = _store(plan)

    def write() -> None:
        for number in range(200):
            store.put(b"x", b"%d" % number)

    other = Thread(target=write)
    other.start()
    failed = []
    for number in range(200):
        try:
            store.get(b"a")
        except Unavailable:
            failed.append(number)
    other.join()
    assert failed == quiet


def test_faults_name_their_seed_and_call() -> None:
    plan = FaultPlan(1234).add("commit", Action.UNAVAILABLE, nth=2)
    _, store = _store(plan)
    store.put(b"a", b"1")
    with pytest.raises(Unavailable, match=r"commit 2 .*seed 1234"):
        store.put(b"a", b"2")
    assert plan.injected == ["commit 2: unavailable"]


@pytest.mark.parametrize(
    ("action", "error", "applied"),
    [
        (Action.UNAVAILABLE, Unavailable, False),
        (Action.ANSWER_LOST, Unavailable, True),
        (Action.EXHAUSTED, Exhausted, False),
        (Action.CRASH_BEFORE, SimulatedCrash, False),
        (Action.CRASH_AFTER, SimulatedCrash, True),
    ],
)
def test_is_a_failed_commit_applied(
    action: Action, error: type[BaseException], applied: bool
) -> None:
    inner, store = _store(FaultPlan(1).add("commit", action, nth=1))
    with pytest.raises(error):
        store.put(b"a", b"1")
    assert inner.get(b"a") == (b"1" if applied else None)


def test_nothing_is_answered_after_a_crash() -> None:
    inner, store = _store(FaultPlan(1).add("commit", Action.CRASH_AFTER, nth=1))
    view = store.snapshot()
    with pytest.raises(SimulatedCrash), suppress(Exception):  # nobody handles their own end
        store.put(b"a", b"1")
    for call in (
        lambda: store.get(b"a"),
        lambda: store.put(b"b", b"2"),
        lambda: view.get(b"a"),
        lambda: list(store.scan(b"", None)),
    ):
        with pytest.raises(SimulatedCrash):
            call()
    assert dict(inner.scan(b"", None)) == {b"a": b"1"}
    store.close()


@pytest.mark.parametrize(("action", "names"), [("before", []), ("after", ["new"])])
def test_process_really_exits(action: str, names: list[str], tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from kvfs.kv import KVStore
from kvfs.kv.memory import MemoryDriver
from kvfs.layers.faults import Action, FaultPlan, inject_kv

class Touching(MemoryDriver):
    def commit(self, batch, durability):
        Path({str(tmp_path)!r}, "new").touch()

try:
    plan = FaultPlan(1).add("commit", Action.EXIT_{action.upper()}, nth=1)
    KVStore(inject_kv(Touching(), plan), name="x").put(b"a", b"1")
finally:
    Path({str(tmp_path)!r}, "cleaned up").touch()
"""
    run = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert run.returncode == EXIT_CODE
    assert [path.name for path in tmp_path.iterdir()] == names


def test_any_operation() -> None:
    plan = FaultPlan(1).add("*", Action.UNAVAILABLE, nth=3)
    _, store = _store(plan)
    store.put(b"a", b"1")
    store.get(b"a")
    with pytest.raises(Unavailable, match="get_many 1"):
        store.get_many([b"a"])


def test_delay() -> None:
    waits: list[float] = []
    plan = FaultPlan(1, sleep=waits.append).add("get", Action.DELAY, nth=2, delay_s=7.5)
    _, store = _store(plan)
    store.put(b"a", b"1")
    assert [store.get(b"a") for _ in range(3)] == [b"1"] * 3
    assert waits == [7.5]


def test_truncated_reads() -> None:
    inner, store = _store(FaultPlan(1).add("get", Action.TRUNCATE, nth=1))
    inner.commit(Batch().put(b"a", b"123456"), Durability.MEMORY)
    assert [store.get(b"a"), store.get(b"a")] == [b"123", b"123456"]

    objects = MemoryBacking()
    BackingStore(objects, name="inner").write("a", b"0123456789" * 100)
    plan = FaultPlan(1).add("read", Action.TRUNCATE, nth=1)
    plan.add("stream.read", Action.TRUNCATE, nth=3)
    backing = BackingStore(inject_backing(objects, plan), name="faulty")
    assert backing.read("a", 0, 10) == b"01234"
    assert backing.read("a", 0, 10) == b"0123456789"
    with backing.open_reader("a") as stream:
        parts = []
        while part := stream.read(100):
            parts.append(part)
    assert b"".join(parts) == b"0123456789" * 20


def test_crash_in_the_middle_of_a_write_leaves_the_writer_as_it_is() -> None:
    """Nothing is undone, as nobody is there to do it; the object does not appear."""

    class Noticing(MemoryBacking):
        undone = 0

        def open_writer(self, name: str, **conditions: object) -> object:  # type: ignore[override]
            outer = self

            class Writing:
                def __enter__(self) -> io.BytesIO:
                    return io.BytesIO()

                def __exit__(self, *_: object) -> None:
                    outer.undone += 1

            return Writing()

    for operation, action in (
        ("stream.write", Action.CRASH_AFTER),
        ("finish", Action.CRASH_BEFORE),
    ):
        inner = Noticing()
        plan = FaultPlan(1).add(operation, action, nth=1)
        with pytest.raises(SimulatedCrash):
            BackingStore(inject_backing(inner, plan), name="faulty").write("a", b"1")
        assert inner.undone == 0
        assert len(plan.wreckage) == 1


def test_failed_end_of_a_writer_is_undone() -> None:
    inner = MemoryBacking()
    plan = FaultPlan(1).add("finish", Action.UNAVAILABLE, nth=1)
    store = BackingStore(inject_backing(inner, plan), name="faulty")
    with pytest.raises(Unavailable):
        store.write("a", b"1")
    assert [*inner.list()] == []
    store.write("a", b"2")
    assert inner.read("a", 0, 1) == b"2"


def test_plan_out_of_a_configuration() -> None:
    table = {"operation": "commit", "action": "crash_before", "nth": 5}
    plan = FaultsSettings(seed=3, faults=(table,)).plan()
    assert plan == FaultPlan(3).add("commit", Action.CRASH_BEFORE, nth=5)


def test_fixture(fault_plan: FaultPlan) -> None:
    """Its seed is shown with a failure; the plan is empty."""
    assert fault_plan.faults == []
    assert _failures(fault_plan, 3) == []
