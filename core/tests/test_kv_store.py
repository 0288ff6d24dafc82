"""The portable type of key-value engines: what it refuses before the engine sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kvfs.capability import Durability, KVCapability
from kvfs.errors import Closed, Conflict, Invalid, Unsupported
from kvfs.kv import Batch, KVStore, prefix_end
from kvfs.kv.memory import CAPABILITY, MemoryDriver


class Recording(MemoryDriver):
    """An engine with limits that remembers what reached it."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.capability: KVCapability = attrs.evolve(CAPABILITY, **changes)
        self.commits: list[tuple[Batch, Durability]] = []

    def commit(self, batch: Batch, durability: Durability) -> None:
        self.commits.append((batch, durability))
        super().commit(batch, durability)


def _puts(count: int, size: int = 0) -> Batch:
    return Batch(puts={b"%06d" % number: b"v" * size for number in range(count)})


# Each limit: what is allowed at it, and what is refused one past it.
LIMITS: dict[str, tuple[dict[str, Any], Batch, Batch]] = {
    "ops": ({"batch_ops_max": 3}, _puts(3), _puts(4)),
    "ops of all kinds": (
        {"batch_ops_max": 4},
        _puts(1).delete(b"d").delete_range(b"a", b"b").guard(b"g", None),
        _puts(2).delete(b"d").delete_range(b"a", b"b").guard(b"g", None),
    ),
    "bytes of puts": ({"batch_bytes_max": 20}, _puts(2, 4), _puts(2, 5)),
    "bytes of all kinds": (
        {"batch_bytes_max": 8},
        Batch().delete(b"12").delete_range(b"1", b"2").guard(b"12", None).put(b"1", b"2"),
        Batch().delete(b"12").delete_range(b"1", b"2").guard(b"12", None).put(b"1", b"23"),
    ),
    "key of a put": ({"key_bytes_max": 4}, Batch().put(b"1234", b""), Batch().put(b"12345", b"")),
    "key of a delete": ({"key_bytes_max": 4}, Batch().delete(b"1234"), Batch().delete(b"12345")),
    "key of a guard": (
        {"key_bytes_max": 4},
        Batch().guard(b"1234", None),
        Batch().guard(b"12345", None),
    ),
    "value": ({"value_bytes_max": 4}, Batch().put(b"k", b"1234"), Batch().put(b"k", b"12345")),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_at_the_limit_and_one_past(name: str) -> None:
    changes, allowed, refused = LIMITS[name]
    driver = Recording(**changes)
    store = KVStore(driver, name="engine (main)")
    store.commit(allowed)
    assert len(driver.commits) == 1
    with pytest.raises(Unsupported, match=r"^engine \(main\): commit: "):
        store.commit(refused)
    assert len(driver.commits) == 1


@pytest.mark.parametrize(
    "batch", [Batch().put(b"", b"v"), Batch().delete(b""), Batch().guard(b"", None)]
)
def test_empty_keys_are_refused(batch: Batch) -> None:
    driver = Recording()
    with pytest.raises(Invalid):
        KVStore(driver, name="engine").commit(batch)
    assert driver.commits == []


def test_read_only_engine_is_not_written() -> None:
    driver = Recording(writable=False)
    with pytest.raises(Unsupported, match="read-only"):
        KVStore(driver, name="engine").put(b"a", b"1")
    assert driver.commits == []


@pytest.mark.parametrize("best", Durability)
@pytest.mark.parametrize("asked", [None, *Durability])
def test_durability(best: Durability, asked: Durability | None) -> None:
    driver = Recording(durability=best)
    store = KVStore(driver, name="engine")
    if asked is not None and asked > best:
        with pytest.raises(Unsupported, match=f"durability {asked.name.lower()}"):
            store.put(b"a", b"1", asked)
        assert driver.commits == []
    else:
        store.put(b"a", b"1", asked)
        assert [level for _, level in driver.commits] == [best if asked is None else asked]


@pytest.mark.parametrize(
    "write",
    [
        lambda store, level: store.put(b"a", b"1", level),
        lambda store, level: store.create(b"a", b"1", level),
        lambda store, level: store.delete(b"a", level),
    ],
)
def test_conveniences_pass_the_durability_on(
    write: Callable[[KVStore, Durability], None],
) -> None:
    driver = Recording(durability=Durability.POWER)
    write(KVStore(driver, name="engine"), Durability.PROCESS)
    assert [level for _, level in driver.commits] == [Durability.PROCESS]


def test_clear_range_works_in_steps_from_the_low_end() -> None:
    driver = Recording()
    store = KVStore(driver, name="engine")
    store.commit(_puts(10))
    store.clear_range(b"000002", b"000009", step=3)
    assert [key for key, _ in store.scan(b"", None)] == [b"000000", b"000001", b"000009"]
    assert [batch.range_deletes for batch, _ in driver.commits[1:]] == [
        [(b"000002", b"000004\0")],
        [(b"000004", b"000007\0")],
        [(b"000007", b"000008\0")],
    ]


def test_create_conflicts() -> None:
    store = KVStore(Recording(), name="engine")
    store.create(b"a", b"1")
    with pytest.raises(Conflict):
        store.create(b"a", b"2")


def test_reads_are_the_drivers_own_methods() -> None:
    """With no layer configured the portable type costs reads nothing."""
    driver = Recording()
    store = KVStore(driver, name="engine")
    assert store.get == driver.get
    assert store.get_many == driver.get_many
    assert store.scan == driver.scan
    assert store.snapshot == driver.snapshot


def test_with_statement_closes() -> None:
    with KVStore(Recording(), name="engine") as store:
        store.put(b"a", b"1")
    with pytest.raises(Closed):
        store.get(b"a")


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"", None),
        (b"\xff", None),
        (b"\xff\xff", None),
        (b"a", b"b"),
        (b"a\xff", b"b"),
        (b"\x00", b"\x01"),
        (b"a\x00", b"a\x01"),
        (b"\xfe\xff", b"\xff"),
    ],
)
def test_prefix_end(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end


def test_batch_says_of_a_key_what_was_said_last() -> None:
    batch = Batch().put(b"a", b"1").delete(b"a").delete(b"b").put(b"b", b"2")
    assert (batch.puts, batch.deletes) == ({b"b": b"2"}, {b"a"})


def test_batch_counts_and_clears() -> None:
    batch = Batch().put(b"a", b"12").delete(b"b").guard(b"c", b"345").guard(b"d", None)
    batch.delete_range(b"e", b"fg")
    assert (batch.ops, batch.total_bytes) == (5, 3 + 1 + 4 + 1 + 3)
    batch.clear()
    assert batch == Batch()
    assert (batch.ops, batch.total_bytes) == (0, 0)
