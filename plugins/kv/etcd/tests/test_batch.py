"""Batches at the limits of a transaction: split around puts, nested, never in two."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kvfs.capability import Durability
from kvfs.errors import Conflict, Invalid
from kvfs.kv import Batch, KVStore
from kvfs.testing.servers.etcd import Etcd
from kvfs_kv_etcd._batch import around, merged, transaction
from kvfs_kv_etcd._settings import CAPABILITY, KEY_BYTES_MAX

from .conftest import Opener

OPS_MAX = CAPABILITY.batch_ops_max or 0
BYTES_MAX = CAPABILITY.batch_bytes_max or 0


def test_ranges_are_merged() -> None:
    assert merged([(b"d", b"f"), (b"a", b"b"), (b"b", b"c"), (b"e", b"g"), (b"z", b"z")]) == [
        (b"a", b"c"),
        (b"d", b"g"),
    ]


def test_ranges_go_around_keys() -> None:
    ranges = [(b"a", b"c"), (b"m", b"z")]
    assert around(ranges, []) == ranges
    assert around(ranges, [b"a", b"b", b"c", b"n", b"n\0"]) == [
        (b"a\0", b"b"),
        (b"b\0", b"c"),
        (b"m", b"n"),
        (b"n\0\0", b"z"),
    ]
    assert around([(b"a", b"a\0")], [b"a"]) == []


def test_deletes_within_a_deleted_range_are_left_out() -> None:
    batch = Batch().delete_range(b"a", b"c").delete(b"b").delete(b"c").delete(b"A")
    assert [bytes(op.request_delete_range.key) for op in transaction(batch, b"/").keys] == [
        b"/A",
        b"/c",
    ]


@pytest.mark.parametrize("guards", [0, 1, 2, 62, OPS_MAX - 2])
def test_largest_batch_within_a_deleted_range(server: Etcd, opener: Opener, guards: int) -> None:
    """Each put splits the range once more: nearly twice as many operations as etcd takes."""
    store = KVStore(opener(server.settings()), name="etcd")
    old = {b"%04d" % number: b"old" for number in range(0, 1000, 10)}
    for key, value in old.items():
        store.put(key, value)
    batch = Batch(guards={b"guard%d" % number: None for number in range(guards)})
    batch.delete_range(b"0000", b"0900")
    while batch.ops < OPS_MAX:
        batch.put(b"%04d" % (7 * len(batch.puts) + 1), b"new")
    store.commit(batch)
    kept = {key: value for key, value in old.items() if key >= b"0900"}
    assert dict(store.scan(b"", None)) == dict(sorted({**batch.puts, **kept}.items()))
    if guards:
        store.put(b"guard0", b"here")
        with pytest.raises(Conflict):
            store.commit(batch)


@pytest.mark.parametrize("values", ["none", "all in one", "even"])
def test_heaviest_batch_within_a_deleted_range(server: Etcd, opener: Opener, values: str) -> None:
    """The longest keys, put where ranges have to go around them, and as many bytes as it takes."""
    store = KVStore(opener(server.settings(namespace="n" * 64), store="s" * 64), name="etcd")
    batch = Batch().delete_range(b"\0" * KEY_BYTES_MAX, b"\xff" * KEY_BYTES_MAX)
    keys = [b"%03d" % number + b"k" * (KEY_BYTES_MAX - 3) for number in range(OPS_MAX - 1)]
    for key in keys:
        batch.put(key, b"")
    room = BYTES_MAX - batch.total_bytes
    if values == "all in one":
        batch.put(keys[0], bytes(room))
    elif values == "even":
        for key in keys:
            batch.put(key, bytes(room // len(keys)))
    store.put(b"old", b"gone")
    store.commit(batch)
    assert dict(store.scan(b"", None)) == batch.puts
    store.commit(Batch().delete_range(b"", b"\xff\xff"))


def test_any_batch_does_what_it_says(server: Etcd, opener: Opener) -> None:
    driver = opener(server.settings())
    source = random.Random(1)
    expected: dict[bytes, bytes] = {}
    for number in range(60):
        batch = Batch()
        for _ in range(source.randint(0, 3)):
            batch.delete_range(b"%02d" % source.randrange(99), b"%02d" % source.randrange(99))
        for _ in range(source.randint(1, 40)):
            key = b"%02d" % source.randrange(99)
            if source.random() < 0.3:
                batch.delete(key)
            else:
                batch.put(key, b"%d" % number)
        driver.commit(batch, Durability.POWER)
        for start, stop in batch.range_deletes:
            expected = {key: old for key, old in expected.items() if not start <= key < stop}
        expected = {key: old for key, old in expected.items() if key not in batch.deletes}
        expected.update({key: bytes(value) for key, value in batch.puts.items()})
        assert dict(driver.scan(b"", None)) == expected


def test_servers_of_other_limits(tmp_path: Path, opener: Opener) -> None:
    """Settings that do not fit them are told of; those that do are used to the full."""
    flags = ["--max-txn-ops=16", "--max-request-bytes=524288"]
    with Etcd(tmp_path, flags=flags) as server:
        table = server.settings()
        wrong = opener(table)
        with pytest.raises(Invalid, match=r"set max_txn_ops .* --max-txn-ops"):
            wrong.commit(Batch(puts={b"%d" % n: b"v" for n in range(20)}), Durability.POWER)
        with pytest.raises(Invalid, match=r"set max_request_bytes .* --max-request-bytes"):
            wrong.commit(Batch().put(b"a", bytes(700_000)), Durability.POWER)
        assert [*wrong.scan(b"", None)] == []
        assert "found 1 leases" in server.etcdctl("lease", "list")
        right = opener({**table, "max_txn_ops": 16, "max_request_bytes": "512 KiB"})
        assert right.capability.batch_ops_max == 14
        batch = Batch().delete_range(b"0", b"9")
        for number in range(13):
            batch.put(b"%d" % number, bytes(30_000))
        right.commit(batch, Durability.POWER)
        assert [*right.get_many([*batch.puts] * 5)] == [bytes(30_000)] * 65
