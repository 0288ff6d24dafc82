"""What each layer is for; that it keeps every promise of a driver is shown in ``conformance/``."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kvfs.backing import BackingStore
from kvfs.backing.memory import MemoryDriver as MemoryBacking
from kvfs.capability import BackingCapability, Durability, KVCapability
from kvfs.errors import Conflict, Exhausted, Invalid, KVFSError, Unavailable, Unsupported
from kvfs.kv import Batch, KVStore
from kvfs.kv.memory import MemoryDriver as MemoryKV
from kvfs.layers import LAYERS, backing_capability, kv_capability, split, wrap_backing, wrap_kv
from kvfs.layers.around import BackingAround, KVAround
from kvfs.layers.faults import Action, FaultPlan, inject_backing, inject_kv
from kvfs.layers.latency import Latency, LatencySettings
from kvfs.layers.retry import Retry, RetrySettings
from kvfs.metrics import Metrics


def _kv(name: str, *, metrics: Metrics | None = None, **settings: Any) -> KVStore:
    inner = MemoryKV()
    driver = wrap_kv(inner, name, settings, metrics=metrics or Metrics(), store="main")
    return KVStore(driver, name=name)


# -- the table of layers ---------------------------------------------------------------------------


def test_table_of_layers() -> None:
    assert {*LAYERS} >= {"prefix", "metrics", "retry", "readonly", "latency", "faults"}
    for name, info in LAYERS.items():
        assert info.name == name
        assert info.summary
        assert not info.summary.endswith(".")


def test_unknown_layer_names_the_nearest() -> None:
    with pytest.raises(Invalid, match="did you mean 'latency'"):
        wrap_kv(MemoryKV(), "latancy", {}, metrics=Metrics())
    with pytest.raises(Invalid, match=r"\[\[backing.layer\]\] retry has no setting 'tries'"):
        wrap_backing(MemoryBacking(), "retry", {"tries": 3}, metrics=Metrics())


def test_table_without_a_name() -> None:
    with pytest.raises(Invalid, match="needs a name"):
        split({"delay": "1 ms"}, "kv")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("prefix", {"prefix": ""}),
        ("prefix", {"prefix": "x" * 70_000}),
        ("prefix", {}),
        ("retry", {"attempts": 0}),
        ("retry", {"total": -1}),
        ("latency", {"delay": -1}),
        ("faults", {"faults": [{"operation": "get", "action": "explode"}]}),
        ("faults", {"faults": [{"operation": "get", "action": "delay", "nht": 3}]}),
        ("faults", {"faults": [{"operation": "get", "action": "delay", "nth": 0}]}),
        ("faults", {"faults": [{"operation": "get", "action": "delay", "probability": 2}]}),
    ],
)
def test_wrong_settings(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        wrap_kv(MemoryKV(), name, settings, metrics=Metrics())


@pytest.mark.parametrize("prefix", ["/", "/a", "a//b", "../a", "a/..", "a\0"])
def test_prefix_that_no_name_begins_with(prefix: str) -> None:
    with pytest.raises(Invalid):
        wrap_backing(MemoryBacking(), "prefix", {"prefix": prefix}, metrics=Metrics())


def test_announced_capability_is_that_of_the_open_driver() -> None:
    tables = [{"name": "prefix", "prefix": "ab"}, {"name": "readonly"}, {"name": "metrics"}]
    kv, backing = MemoryKV(), MemoryBacking()
    announced = (
        kv_capability(kv.capability, tables),
        backing_capability(backing.capability, tables),
    )
    driver: Any = kv
    store: Any = backing
    for table in tables:
        driver = wrap_kv(driver, *split(table, "kv"), metrics=Metrics())
        store = wrap_backing(store, *split(table, "backing"), metrics=Metrics())
    assert (driver.capability, store.capability) == announced
    assert isinstance(announced[0], KVCapability)
    assert isinstance(announced[1], BackingCapability)
    assert announced[0].key_bytes_max == kv.capability.key_bytes_max - 2
    assert not announced[0].writable


# -- prefix ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["b", "\u00ff", "\u00ff\u00ff", "b/"])
def test_prefix_keeps_to_its_part(prefix: str) -> None:
    inner = MemoryKV()
    raw = prefix.encode()
    outside = {b"a": b"1", raw[:-1] or b"A": b"2", raw[:-1] + bytes([raw[-1] + 1]): b"3"}
    inner.commit(Batch(puts={**outside}), Durability.MEMORY)
    store = KVStore(wrap_kv(inner, "prefix", {"prefix": prefix}, metrics=Metrics()), name="p")
    store.commit(Batch(puts={b"x": b"x", b"\xff\xff": b"y"}))
    assert [*store.scan(b"", None)] == [(b"x", b"x"), (b"\xff\xff", b"y")]
    assert [*store.scan(b"", None, reverse=True)] == [(b"\xff\xff", b"y"), (b"x", b"x")]
    with store.snapshot() as view:
        assert [*view.scan(b"", None)] == [(b"x", b"x"), (b"\xff\xff", b"y")]
    store.commit(Batch().delete_range(b"", b"\xff\xff\xff"))
    assert dict(inner.scan(b"", None)) == outside


def test_prefix_does_not_count_what_is_not_its_own() -> None:
    inner = MemoryKV()
    inner.commit(Batch().put(b"theirs", b"1"), Durability.MEMORY)
    layer = wrap_kv(inner, "prefix", {"prefix": "p"}, metrics=Metrics())
    assert layer.stats().keys is None


def test_prefix_of_a_batch_that_outgrows_the_engine() -> None:
    inner = MemoryKV()
    inner.capability = attrs.evolve(inner.capability, batch_bytes_max=100)
    layer = wrap_kv(inner, "prefix", {"prefix": "p" * 10}, metrics=Metrics())
    store = KVStore(layer, name="p")
    with pytest.raises(Unsupported):
        store.commit(Batch(puts={b"%d" % number: b"" for number in range(10)}))
    assert inner.stats().keys == 0


def test_prefix_of_objects() -> None:
    inner = MemoryBacking()
    outer = BackingStore(inner, name="all")
    for name in ("a/x", "b/y", "b0", "c"):
        outer.write(name, b"theirs")
    layer = wrap_backing(inner, "prefix", {"prefix": "b/"}, metrics=Metrics())
    store = BackingStore(layer, name="part")
    store.write("z", b"ours")
    assert [info.name for info in store.list()] == ["y", "z"]
    assert [info.name for info in store.list(after="y")] == ["z"]
    assert outer.read("b/z", 0, 10) == b"ours"


# -- metrics ---------------------------------------------------------------------------------------


def test_metrics_of_an_engine() -> None:
    metrics = Metrics()
    store = _kv("metrics", metrics=metrics)
    store.commit(Batch().put(b"a", b"12").put(b"b", b"345"))
    store.get(b"a")
    store.get(b"absent")
    assert len([*store.scan(b"", None)]) == 2
    with pytest.raises(Conflict):
        store.create(b"a", b"1")
    with store.snapshot() as view:
        view.get_many([b"a", b"b"])
    found = metrics.snapshot()
    assert {name: values["count"] for name, values in found.items() if "count" in values} == {
        "kv.main.commit": 2,
        "kv.main.get": 2,
        "kv.main.get_many": 1,
        "kv.main.scan": 1,
        "kv.main.snapshot": 1,
    }
    assert {name: values["value"] for name, values in found.items() if "value" in values} == {
        "kv.main.commit.bytes": 7,
        "kv.main.commit.errors": 1,
        "kv.main.get.bytes": 2,
        "kv.main.get_many.bytes": 5,
        "kv.main.scan.bytes": 7,
    }


def test_metrics_of_a_store_of_objects() -> None:
    metrics = Metrics()
    layer = wrap_backing(MemoryBacking(), "metrics", {"label": "s3"}, metrics=metrics)
    store = BackingStore(layer, name="s3")
    store.write("a", b"12345")
    with store.open_reader("a") as stream:
        assert stream.read() == b"12345"
    found = metrics.snapshot()
    assert found["s3.stream.write.bytes"] == found["s3.stream.read.bytes"] == {"value": 5}
    assert found["s3.finish"]["count"] == 1


def test_metrics_of_an_abandoned_scan() -> None:
    metrics = Metrics()
    store = _kv("metrics", metrics=metrics)
    store.commit(Batch().put(b"a", b"1").put(b"b", b"2"))
    scan = store.scan(b"", None)
    next(scan)
    del scan
    assert metrics.snapshot()["kv.main.scan"]["count"] == 1


# -- latency ---------------------------------------------------------------------------------------


def test_latency_waits_for_each_call_and_each_byte() -> None:
    waits: list[float] = []
    settings = LatencySettings(delay=1.0, bytes_per_s=10)  # type: ignore[arg-type]
    store = KVStore(KVAround(MemoryKV(), Latency(settings, sleep=waits.append)), name="far")
    store.put(b"k", b"123456789")
    store.get(b"k")
    store.get(b"absent")
    assert waits == pytest.approx([2.0, 1.9, 1.0])


def test_latency_of_a_scan_is_one_trip() -> None:
    waits: list[float] = []
    settings = LatencySettings(delay=1.0, bytes_per_s=1000)  # type: ignore[arg-type]
    inner = MemoryKV()
    inner.commit(Batch(puts={b"%03d" % n: b"1234567" for n in range(100)}), Durability.MEMORY)
    driver = KVAround(inner, Latency(settings, sleep=waits.append))
    assert len([*driver.scan(b"", None)]) == 100
    assert sum(waits) == pytest.approx(1.0 + 100 * 10 / 1000)


# -- retry -----------------------------------------------------------------------------------------


@attrs.define
class Clock:
    """Time that passes only in sleep."""

    now_s: float = 0.0
    waits: list[float] = attrs.field(factory=list)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now_s += seconds

    def time(self) -> float:
        return self.now_s


def _retrying(
    plan: FaultPlan, clock: Clock, *, draw: Callable[[], float] = lambda: 1.0, **changes: Any
) -> tuple[MemoryKV, KVStore]:
    inner = MemoryKV()
    inner.commit(Batch(puts={b"%d" % n: b"v" for n in range(9)}), Durability.MEMORY)
    settings = attrs.evolve(RetrySettings(), **changes)
    around = Retry(settings, sleep=clock.sleep, clock=clock.time, draw=draw)
    return inner, KVStore(KVAround(inject_kv(inner, plan), around), name="retry")


def test_retry_backs_off_exponentially() -> None:
    plan = FaultPlan(1)
    for nth in range(1, 6):
        plan.add("get", Action.UNAVAILABLE, nth=nth)
    clock = Clock()
    _, store = _retrying(plan, clock, attempts=6, delay_first=1.0, delay_max=5.0)
    assert store.get(b"1") == b"v"
    assert clock.waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_retry_draws_its_waits_evenly_from_nothing_on() -> None:
    plan = FaultPlan(1).add("get", Action.UNAVAILABLE, nth=1)
    clock = Clock()
    _, store = _retrying(plan, clock, draw=lambda: 0.25, delay_first=1.0)
    store.get(b"1")
    assert clock.waits == [0.25]


def test_retry_gives_up_after_its_attempts() -> None:
    plan = FaultPlan(1).add("get", Action.UNAVAILABLE, probability=1.0)
    clock = Clock()
    _, store = _retrying(plan, clock, attempts=4)
    with pytest.raises(Unavailable, match="get 4"):
        store.get(b"1")
    assert len(clock.waits) == 3


def test_retry_gives_up_after_its_time() -> None:
    plan = FaultPlan(1).add("get", Action.UNAVAILABLE, probability=1.0)
    clock = Clock()
    _, store = _retrying(plan, clock, attempts=100, delay_first=1.0, delay_max=1.0, total=5.5)
    with pytest.raises(Unavailable):
        store.get(b"1")
    assert clock.now_s == 5.0


def test_retry_leaves_other_errors_alone() -> None:
    clock = Clock()
    _, store = _retrying(FaultPlan(1), clock)
    with pytest.raises(Conflict):
        store.create(b"1", b"x")
    plan = FaultPlan(1).add("get", Action.EXHAUSTED, nth=1)
    _, store = _retrying(plan, clock)
    with pytest.raises(Exhausted):
        store.get(b"1")
    assert clock.waits == []


@pytest.mark.parametrize(
    "batch", [Batch().put(b"1", b"new"), Batch().guard(b"1", b"v").put(b"1", b"new")]
)
def test_retry_never_sends_a_commit_again_that_may_have_been_applied(batch: Batch) -> None:
    """Neither twice applied, nor a conflict with itself: the caller learns that it is not known."""
    plan = FaultPlan(1).add("commit", Action.ANSWER_LOST, nth=1)
    clock = Clock()
    inner, store = _retrying(plan, clock)
    with pytest.raises(Unavailable) as caught:
        store.commit(batch)
    assert not caught.value.unapplied
    assert clock.waits == []
    assert inner.get(b"1") == b"new"


def test_retry_sends_a_commit_again_that_did_not_reach_the_store() -> None:
    plan = FaultPlan(1).add("commit", Action.UNAVAILABLE, nth=1)
    clock = Clock()
    inner, store = _retrying(plan, clock)
    store.commit(Batch().guard(b"1", b"v").put(b"1", b"new"))
    assert len(clock.waits) == 1
    assert inner.get(b"1") == b"new"


def test_retry_sends_a_commit_again_that_was_refused_for_want_of_room() -> None:
    class Full(MemoryKV):
        refusals = 2

        def commit(self, batch: Batch, durability: Durability) -> None:
            if self.refusals:
                self.refusals -= 1
                raise Exhausted("full for now", retryable=True)
            super().commit(batch, durability)

    clock = Clock()
    around = Retry(RetrySettings(), sleep=clock.sleep, clock=clock.time)
    store = KVStore(KVAround(Full(), around), name="full")
    store.put(b"a", b"1")
    assert store.get(b"a") == b"1"
    assert len(clock.waits) == 2


def test_retry_takes_up_the_scan_of_a_view() -> None:
    for reverse in (False, True):
        for limit in (None, 5):
            plan = FaultPlan(1)
            for nth in (1, 4, 5, 9):
                plan.add("scan.next", Action.UNAVAILABLE, nth=nth)
            inner, store = _retrying(plan, Clock())
            expected = [*inner.scan(b"", None, reverse=reverse, limit=limit)]
            with store.snapshot() as view:
                assert [*view.scan(b"", None, reverse=reverse, limit=limit)] == expected
            assert len(plan.injected) >= 2


def test_retry_does_not_take_up_the_scan_of_the_present() -> None:
    plan = FaultPlan(1).add("scan.next", Action.UNAVAILABLE, nth=3)
    _, store = _retrying(plan, Clock())
    scan = store.scan(b"", None)
    assert [next(scan), next(scan)] == [(b"0", b"v"), (b"1", b"v")]
    with pytest.raises(Unavailable):
        next(scan)


def test_retry_begins_a_scan_again_that_gave_nothing_yet() -> None:
    plan = FaultPlan(1).add("scan.next", Action.UNAVAILABLE, nth=1)
    plan.add("scan", Action.UNAVAILABLE, nth=1)
    _, store = _retrying(plan, Clock())
    assert len([*store.scan(b"", None)]) == 9


def test_retry_of_a_scan_gives_up() -> None:
    plan = FaultPlan(1).add("scan.next", Action.UNAVAILABLE, probability=1.0)
    clock = Clock()
    _, store = _retrying(plan, clock, attempts=4)
    with store.snapshot() as view, pytest.raises(Unavailable):
        list(view.scan(b"", None))
    assert len(clock.waits) == 3


def test_retry_does_not_take_errors_of_its_user_for_the_engines() -> None:
    clock = Clock()
    _, store = _retrying(FaultPlan(1), clock)
    scan = store.scan(b"", None)
    next(scan)
    with pytest.raises(Unavailable, match="from outside"):
        scan.throw(Unavailable("from outside"))  # type: ignore[attr-defined]
    assert clock.waits == []


@pytest.mark.parametrize("operation", ["open_writer", "stream.write", "finish", "delete"])
def test_retry_never_writes_an_object_twice(operation: str) -> None:
    plan = FaultPlan(1).add(operation, Action.ANSWER_LOST, nth=1)
    clock = Clock()
    inner = MemoryBacking()
    around = Retry(RetrySettings(), sleep=clock.sleep, clock=clock.time)
    store = BackingStore(BackingAround(inject_backing(inner, plan), around), name="retry")

    def write_and_delete() -> None:
        store.write("a", b"1")
        store.delete("a")

    with pytest.raises(Unavailable):
        write_and_delete()
    assert clock.waits == []
    assert [info.name for info in inner.list()] == (["a"] if operation == "finish" else [])


def test_errors_of_the_injected_kind_are_ours() -> None:
    assert issubclass(Unavailable, KVFSError)


def test_a_layer_is_pickled_by_name() -> None:
    for info in LAYERS.values():
        assert pickle.loads(pickle.dumps(info)) is info
